"""The parts of a DB-GPT cluster as real processes: worker, API server, DB-GPT's own controller, and this project's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING, Any

from tests.support.dbgpt import CHECKOUT, Release
from tests.support.dbgpt_openai import MODEL
from tests.support.dbgpt_process import Process, StartProcess, get, until
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BLOCKABLE = CHECKOUT / "tests" / "support" / "blockable"
BEAT_SECONDS = 1
"""The interval of a worker's heartbeats for its model. For WorkerManager@service it is always 20 s."""


@dataclass
class Lab:
    """A folder for all files of DB-GPT, and a proxy that lets no request leave this machine (see FakeOpenAI)."""

    folder: Path
    trap: str
    start: StartProcess

    def env(self, **more: str) -> dict[str, str]:
        """The whole environment of a process; of the caller's only PATH."""
        home = str(self.folder)
        trapped = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), self.trap)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "DBGPT_HOME": home,
            "DBGPT_LOG_DIR": f"{home}/logs",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            **trapped,
            **more,
        }

    def dbgpt_start(self, release: Release, part: str, name: str, config: str, **env: str) -> Process:
        """`dbgpt start PART`, configured by a TOML text."""
        file = self.folder / f"{name}.toml"
        file.write_text(config)
        return self.start(name, [release.command, "start", part, "-c", file], self.env(**env))

    def dbgpt(self, release: Release, controller: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Runs DB-GPT's own command line tool to its end."""
        return _run([release.command, *args], self.env(CONTROLLER_ADDRESS=controller), self.folder)

    def ctl(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs this project's command line tool to its end, without a terminal."""
        return _run([sys.executable, "-m", "dbgpt_ctl", *args], self.env(PYTHONPATH=str(CHECKOUT), **env), self.folder)

    def shell(self, line: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a line of bash, in which `ctl` is this project's command line tool."""
        ctl = f'ctl() {{ {quote(sys.executable)} -m dbgpt_ctl "$@"; }}'
        return _run(["bash", "-c", f"{ctl}; {line}"], self.env(PYTHONPATH=str(CHECKOUT), **env), self.folder)


def _run(argv: list[str | Path], env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@dataclass
class Controller:
    """`ctl serve` as a process. `stop` and `start` are a restart on the same address."""

    lab: Lab
    registry: str
    """`embedded`, `sqlite`, or the URL of another controller to serve."""
    timeout: int = 60
    name: str = "controller"
    port: int = field(default_factory=free_port)
    flags: list[str] = field(default_factory=list)
    """Further options of `ctl serve`, from its next start on."""
    grace: int = 0
    """Seconds to serve on after SIGTERM. 0 where no client changes to another controller."""
    database: str = ""
    """The folder of its SQLite file; by default one of its name. Controllers with the same one share a registry."""
    tls_port: int = field(default_factory=free_port)
    authority: Path | None = None
    """The certificate by which its https is checked when it starts; without one it is asked over http."""
    process: Process = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """Where it listens if its flags say so."""
        return f"https://127.0.0.1:{self.tls_port}"

    def start(self) -> Controller:
        argv = [sys.executable, "-m", "dbgpt_ctl", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        argv += ["--shutdown-grace-secs", str(self.grace), "--heartbeat-timeout-secs", str(self.timeout), *self.flags]
        match self.registry:
            case "embedded":
                argv += ["--registry", "embedded"]
            case "sqlite":
                argv += ["--registry", "database", "--registry-db-type", "sqlite"]
                argv += ["--registry-db-name", str(self.lab.folder / (self.database or self.name) / "registry.db")]
            case url:
                argv += ["--remote-addr", url]
        self.process = self.lab.start(self.name, argv, self.lab.env(PYTHONPATH=str(CHECKOUT)))
        url = self.tls_url if self.authority else self.url
        until("controller", lambda: get(f"{url}/api/health", self.authority), self.process)
        return self

    def instances(self, **query: str) -> dict[str, dict[str, Any]]:
        """The listed instances by `MODEL_NAME/HOST:PORT`; empty when the controller does not answer."""
        return {reference(instance): instance for instance in get(f"{self.url}/api/controller/models", **query) or []}

    def beats(self, *references: str) -> bool:
        """Whether all these instances are listed as healthy."""
        listed = self.instances()
        return all(listed.get(name, {}).get("healthy") for name in references)


def reference(instance: Mapping[str, Any]) -> str:
    return f"{instance['model_name']}/{instance['host']}:{instance['port']}"


@dataclass
class Worker:
    """A real worker of the model MODEL, which calls an OpenAI server."""

    process: Process
    port: int
    kind: str = "llm"
    block_file: Path | None = None
    """Of a worker whose event loop can be blocked."""

    @property
    def model(self) -> str:
        return f"{MODEL}@{self.kind}/127.0.0.1:{self.port}"

    @property
    def service(self) -> str:
        """The instance by which `dbgpt model stop|start` finds the worker."""
        return f"WorkerManager@service/127.0.0.1:{self.port}"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        self.process.popen.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.popen.send_signal(signal.SIGCONT)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Its event loop runs nothing, until the end of the context."""
        file = self.block_file
        assert file is not None
        self.process.popen.send_signal(signal.SIGUSR1)
        until("blocked loop", file.exists, self.process)
        try:
            yield
        finally:
            file.unlink()


_TABLES = {
    "llm": ("llms", "proxy/openai", "api_base", ""),
    "text2vec": ("embeddings", "proxy/openai", "api_url", "/embeddings"),
    "reranker": ("rerankers", "proxy/openapi", "api_url", "/relevance"),
}
"""By type of model: its table in the configuration, the provider, the name of the URL there, and the URL's path."""


def start_worker(
    lab: Lab,
    release: Release,
    controller: str,
    openai: str,
    name: str = "worker",
    *,
    kind: str = "llm",
    slots: int | None = None,
    blockable: bool = False,
    port: int | None = None,
    register_host: str = "127.0.0.1",
    env: Mapping[str, str] | None = None,
) -> Worker:
    """Starts it and does not wait: see `Controller.beats`. `slots`: how many requests it serves at once."""
    port = port or free_port()
    block_file = lab.folder / f"{name}.block" if blockable else None
    variables = dict(env or {})
    if blockable:
        variables |= {"PYTHONPATH": str(_BLOCKABLE), "TESTS_BLOCK_FILE": str(block_file)}
    table, provider, url, path = _TABLES[kind]
    config = f"""
        [service.model.worker]
        host = "127.0.0.1"
        worker_register_host = "{register_host}"
        port = {port}
        worker_type = "{kind}"
        controller_addr = {json.dumps(controller)}
        heartbeat_interval = {BEAT_SECONDS}

        [[models.{table}]]
        name = "{MODEL}"
        provider = "{provider}"
        {url} = {json.dumps(openai + path)}
        api_key = "none"
        {"" if slots is None else f"concurrency = {slots}"}
    """
    return Worker(lab.dbgpt_start(release, "worker", name, config, **variables), port, kind, block_file)


def start_api_server(
    lab: Lab,
    release: Release,
    controller: str,
    name: str = "apiserver",
    *,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[Process, str]:
    """Starts it and does not wait. Its process and its base URL."""
    port = port or free_port()
    config = f"""
        [service.model.api]
        host = "127.0.0.1"
        port = {port}
        controller_addr = {json.dumps(controller)}
    """
    return lab.dbgpt_start(release, "apiserver", name, config, **(env or {})), f"http://127.0.0.1:{port}/api/v1"


def start_dbgpt_controller(lab: Lab, release: Release, timeout: int = 60) -> str:
    """Starts DB-GPT's own controller with its embedded registry and waits for it. Its URL."""
    port = free_port()
    config = f"""
        [service.model.controller]
        host = "127.0.0.1"
        port = {port}
        heartbeat_interval_secs = 1
        heartbeat_timeout_secs = {timeout}
    """
    process = lab.dbgpt_start(release, "controller", "dbgpt-controller", config)
    url = f"http://127.0.0.1:{port}"
    until("controller of DB-GPT", lambda: get(f"{url}/api/health"), process)
    return url
