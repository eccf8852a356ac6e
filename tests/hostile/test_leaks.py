"""No token is in anything that a run leaves behind: files, output, logs, traces, databases, answers, process lists."""

from __future__ import annotations

import json
import re
import secrets
import socket
import sqlite3
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.auth.tokens import new_token
from dbgpt_ctl.auth.tokens_file import read_tokens_file
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.hostile.conftest import Served
from tests.support.dbgpt_process import Process, until
from tests.support.leaks import Left, spellings
from tests.support.otlp import attributes_of, running_receiver
from tests.support.ports import free_port
from tests.support.process import CTL, Finished, ctl, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.database_server import DatabaseServer, PrivateDatabase
    from tests.support.otlp import Receiver

NOBODY = "http://127.0.0.1:1"
AT_ONCE = 4
"""How many commands run at the same time."""
INSTANCE = {"model_name": "qwen3@llm", "host": "10.0.0.4", "port": 8001}
RAW_REQUESTS = (
    "GET http://x:{0}@localhost/api/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /api/controller/models?token={0} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {0}\r\n\r\n",
    "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nCookie: token={0}\r\nAuthorization: Bearer {0} \r\n bad\r\n\r\n",
    "{0} / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: {0}\r\n\r\n",
)
"""What a client may send that has the token in a wrong place."""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("models", "list"),
    ("models", "list", "--full", "-o", "json"),
    ("models", "get", "qwen3/10.0.0.4:8001"),
    ("models", "register", "qwen3/10.0.0.4:8001"),
    ("models", "heartbeat", "qwen3/10.0.0.4:8001"),
    ("models", "drain", "qwen3/10.0.0.4:8001", "--force"),
    ("models", "undrain", "qwen3/10.0.0.4:8001"),
    ("models", "deregister", "qwen3/10.0.0.4:8001"),
    ("models", "prune", "--older-than", "1d", "--yes"),
    ("models", "ping", "qwen3", "--level", "connect", "--timeout", "1s"),
    ("status",),
    ("status", "-o", "json"),
    ("events",),
    ("events", "-o", "json"),
    ("health",),
    ("health", "-o", "json"),
    ("wait", "qwen3", "--for", "healthy>=9", "--timeout", "1s"),
    ("assert", "qwen3", "--min-healthy", "9"),
    ("why", "qwen3", "--no-probe"),
    ("doctor", "--no-probe"),
    ("export",),
    ("diff", "-f", "-"),
    ("auth", "status"),
    ("auth", "status", "-o", "json"),
)
REFUSED_TO_READERS = tuple(command for command in COMMANDS if command[1:2] in (("drain",), ("register",), ("status",)))


@dataclass
class Run:
    """A run in a folder of its own; `left` collects what it leaves, `secrets` what must not be in there."""

    folder: Path
    given: Path
    """Holds what a person wrote: files with tokens."""
    left: Left = field(default_factory=Left)
    secrets: dict[str, str] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=10))

    @property
    def tokens_file(self) -> Path:
        return self.folder / "tokens.toml"

    @property
    def env(self) -> dict[str, str]:
        return {"CONTROLLER_TOKENS_FILE": str(self.tokens_file), "XDG_CONFIG_HOME": str(self.folder / "config")}

    def gives(self, name: str, secret: str) -> Path:
        """A file of the user that holds a token."""
        path = self.given / name
        path.write_text(secret)
        path.chmod(0o600)
        return path

    def ctl(self, *args: str, env: Mapping[str, str] | None = None, **options: Any) -> Finished:
        done = ctl(*args, env=self.env | dict(env or {}), expect=None, cwd=self.folder, **options)
        self.left.add(f"output of ctl {' '.join(args)}", f"{done.out}\n{done.err}")
        return done

    def makes_token(self, verb: str, name: str, *flags: str) -> str:
        """`ctl token create` and `rotate` print the token once, on standard output and nowhere else."""
        done = ctl("token", verb, name, *flags, "-o", "json", env=self.env, cwd=self.folder)
        self.left.add(f"stderr of ctl token {verb}", done.err)
        token = str(json.loads(done.out)["token"])
        self.secrets[f"{verb} {name}"] = token
        return token

    def serve(self, name: str, *args: str, env: Mapping[str, str] | None = None) -> Served:
        """With the finest log, each request traced and logged, each change audited."""
        port = free_port()
        files = ["--log-file", f"{name}-file.log", "--tracer-file", f"{name}.jsonl", "--tracer-sample-ratio", "1"]
        files += ["--access-log", "--audit-log-file", f"{name}-audit.jsonl"]
        argv = [*CTL, "serve", "--port", str(port), "--log-level", "debug", "--shutdown-grace-secs", "0", *files, *args]
        process = Process(name, argv, environment(self.env | dict(env or {})), self.folder)
        self.served[name] = Served(process, port)
        self.served[name].wait_until_healthy()
        return self.served[name]

    def send(self, what: str, url: str, **request: Any) -> None:
        """Any request; its answer is among what is left."""
        try:
            reply = self.http.request(url=url, **request)
        except httpx.HTTPError as error:
            self.left.add(f"answer to {what}", str(error))
        else:
            self.left.add(f"answer to {what}", f"{reply.headers}\n{reply.text}")

    def send_raw(self, port: int, request: str) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, suppress(OSError):
            sock.sendall(request.encode())
            sock.shutdown(socket.SHUT_WR)
            self.left.add("answer to a raw request", b"".join(iter(lambda: sock.recv(65536), b"")))

    def end(self) -> None:
        for name, served in self.served.items():
            for file in ("cmdline", "comm"):
                self.left.add(f"{file} of {name}", (Path("/proc") / str(served.pid) / file).read_bytes())
        for served in self.served.values():
            served.process.terminate()
        self.left.add_files(self.folder)

    def kill(self) -> None:
        self.http.close()
        for served in self.served.values():
            served.process.kill()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "run", tmp_path / "given")
    for folder in (run.folder, run.given):
        folder.mkdir()
    yield run
    run.kill()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def every_request(run: Run, served: Served, token: str) -> None:
    """Sends the token in every right place, and in wrong ones in which people put it."""
    controller, v1 = f"{served.url}/api/controller", f"{served.url}/api/v1"
    identity = {name: str(value) for name, value in INSTANCE.items()}
    places: list[dict[str, str]] = [
        basic("gpu-1", token),
        basic("", token),
        basic(token, ""),
        basic(token, "x"),
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Token {token}"},
        {"Authorization": f"Basic {token}"},
        {"User-Agent": f"worker/1 {token}"},
        {"X-Ctl-Actor": token},
        {"X-Forwarded-For": token, "X-Real-IP": token},
        {"DB-GPT-Trace-Span-Id": f"{token}:{token}", "traceparent": token},
        {"Cookie": f"session={token}", "Referer": f"http://{token}@localhost/"},
        {"X-Request-ID": token},
    ]
    for headers in places:
        label = f"{next(iter(headers))} at {served.url}"
        run.send(f"list with {label}", f"{controller}/models", method="GET", headers=headers)
        for verb in ("models", "heartbeat"):
            run.send(f"{verb} with {label}", f"{controller}/{verb}", method="POST", headers=headers, json=INSTANCE)
        run.send(f"deregister with {label}", f"{controller}/models", method="DELETE", headers=headers, params=identity)
        run.send(f"drain with {label}", f"{v1}/drain", method="POST", headers=headers, json=INSTANCE)
        in_paths = (f"/nowhere/{token}", f"//me:{token}@host/x", f"/api/v1/drain?token={token}")
        for path in ("/api/v1/status", "/api/v1/auth", "/docs", "/nowhere", *in_paths):
            run.send(f"{path} with {label}", served.url + path, method="GET", headers=headers)
    in_a_field(run, served, token)
    for request in RAW_REQUESTS:
        run.send_raw(served.port, request.format(token))


def in_a_field(run: Run, served: Served, token: str) -> None:
    """Sends the token as the value and as the name of a field, with rights, so that the field is read."""
    controller, v1 = f"{served.url}/api/controller", f"{served.url}/api/v1"
    headers, known = basic("me", run.secrets["create operator"]), f"{token}@llm"
    for name in ("model_name", "host", "port", "weight", "check_healthy", "prompt_template"):
        run.send(f"{name} in a body", f"{controller}/models", method="POST", headers=headers, json={name: token})
        wrong: dict[str, Any] = INSTANCE | {name: f"{token}/ {token * 3}"}
        run.send(f"wrong {name}", f"{controller}/models", method="POST", headers=headers, json=wrong)
        if name in INSTANCE:
            run.send(f"{name} in a query", f"{controller}/models", method="DELETE", headers=headers, params=wrong)
    unknown: dict[str, Any] = INSTANCE | {"model_name": known, "host": f"{token}.example"}
    run.send("an unknown instance", f"{v1}/instance", method="GET", headers=headers, params=unknown)
    run.send("its list", f"{controller}/models", method="GET", headers=headers, params={"model_name": known})
    run.send("its end", f"{controller}/models", method="DELETE", headers=headers, params=unknown)
    drains: tuple[dict[str, Any], ...] = ({"reason": token}, {"reason": f"{token}\n"}, {token: 1}, {"for_secs": token})
    for number, fields in enumerate(drains):
        run.send(f"drain {number}", f"{v1}/drain", method="POST", headers=headers, json=unknown | fields)
    for name in ("state", "port", "since", "limit", "after", "by", token):
        for path in ("instances", "events"):
            run.send(path, f"{v1}/{path}", method="GET", headers=headers, params={name: f"{token}\n"})


def commands(run: Run, served: Served, token: str, *names: tuple[str, ...]) -> None:
    """With a token, right or wrong, and with a traceback where there is an error."""
    address = f"http://gpu-1:{token}@127.0.0.1:{served.port}"
    by_variable = {"CTL_TOKEN": token, "CONTROLLER_ADDRESS": served.url, "CTL_DEBUG": "1"}
    by_address = {"CONTROLLER_ADDRESS": address, "CTL_DEBUG": "1"}
    by_failover = {"CONTROLLER_ADDRESS": f"{NOBODY},{address.replace('http:', 'https:')}"}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda command: run.ctl(*command, "-v", env=by_variable), names))
        list(threads.map(lambda command: run.ctl(*command, env=by_address), (("models", "list"), ("context", "show"))))
    run.ctl("status", env=by_failover)


def wrong_addresses(run: Run, token: str) -> None:
    for wrong in (f"http://{token}", f"http://{token}@", f"htp://a:{token}@h", f"http://a:{token}@h:x", token):
        run.ctl("models", "list", env={"CONTROLLER_ADDRESS": wrong, "CTL_DEBUG": "1"})
    by_variable = {"CTL_TOKEN": token, "CONTROLLER_ADDRESS": run.served["embedded"].url}
    run.ctl("models", "get", "", env=by_variable | {"_CTL_COMPLETE": "complete_zsh"})


def every_setting(run: Run, token: str) -> None:
    """Settings that hold a token, shown and checked; contexts."""
    remote = {"CONTROLLER_REMOTE_ADDR": f"http://gpu-1:{token}@127.0.0.1:1"}
    run.ctl("serve", "--show-config", env=remote)
    run.ctl("serve", "--check", env=remote)
    run.ctl("serve", "--auth", token)
    run.ctl("serve", "--tokens-file", str(run.folder / "none.toml"), "--check")
    run.left.add("repr of settings", repr(ControllerSettings(remote_addr=remote["CONTROLLER_REMOTE_ADDR"])))
    run.left.add("repr of the tokens file", repr(read_tokens_file(run.tokens_file)))
    secret = run.gives("token", f"{token}\n")
    for name, address in (("file", NOBODY), ("address", f"http://gpu-1:{token}@127.0.0.1:1")):
        # Where a person wants the token of a context to stand, it stands: in a file, or in the file of contexts.
        home = {"XDG_CONFIG_HOME": str(run.given / name)}
        run.ctl("context", "set", "prod", "--address", address, "--token-file", str(secret), env=home)
        for command in (("list",), ("show", "--context", "prod"), ("list", "-o", "json")):
            run.ctl("context", *command, env=home)
        run.ctl("models", "list", "--context", "prod", "-v", env=home | {"CTL_DEBUG": "1"})


def watches(run: Run, served: Served, token: str) -> None:
    """Follows changes while one happens, in two formats, with the token in each of its two places."""
    by_variable = {"CTL_TOKEN": token, "CONTROLLER_ADDRESS": served.url}
    by_address = {"CONTROLLER_ADDRESS": f"http://me:{token}@127.0.0.1:{served.port}"}
    for command, env in ((("events", "-f"), by_variable), (("models", "list", "--watch"), by_address)):
        watch = Process(f"watch-{command[0]}", [*CTL, *command, "-v"], environment(run.env | env), run.folder)
        until("the first line", lambda log=watch.log: "qwen3" in log.read_text(), watch)  # type: ignore[misc]
        run.left.add("cmdline of a watch", (Path("/proc") / str(watch.popen.pid) / "cmdline").read_bytes())
        watch.interrupt()


def edits(run: Run) -> None:
    for command in (
        ("token", "list"),
        ("token", "list", "-o", "json"),
        ("auth", "mode", "log"),
        ("auth", "mode", "enforce"),
    ):
        run.ctl(*command)
    for token in (run.secrets["create reader"], "dctl_" + "x" * 43):
        run.ctl("token", "create", token, "--role", "reader")  # a token where a name belongs
        run.ctl("token", "revoke", token)
        run.ctl("token", "create", "more", "--role", token)
        run.ctl("auth", "mode", token)


@pytest.mark.timeout(600)
def test_no_token_is_in_anything_that_a_run_leaves_behind(run: Run, mariadb: PrivateDatabase) -> None:
    for role in ("metrics", "reader", "worker", "operator"):
        run.makes_token("create", role, "--role", role)
    run.makes_token("rotate", "worker")
    run.makes_token("create", "gone", "--role", "operator")
    run.ctl("token", "revoke", "gone")
    run.secrets["unknown"] = new_token(secrets.token_bytes)
    run.secrets["malformed"] = new_token(secrets.token_bytes)[:-9] + "!"
    run.secrets["in the environment"] = new_token(secrets.token_bytes)
    with running_receiver("http/protobuf") as receiver:
        start(run, mariadb.server, mariadb.name, receiver)
        for token in run.secrets.values():
            every_request(run, run.served["embedded"], token)
        for served in run.served.values():
            every_request(run, served, run.secrets["unknown"])
            every_request(run, served, run.secrets["create worker"])
        for name in ("unknown", "create operator"):
            commands(run, run.served["embedded"], run.secrets[name], *COMMANDS)
        commands(run, run.served["embedded"], run.secrets["create reader"], *REFUSED_TO_READERS)
        commands(run, run.served["forwarding"], run.secrets["malformed"], *REFUSED_TO_READERS)
        wrong_addresses(run, run.secrets["in the environment"])
        every_setting(run, run.secrets["in the environment"])
        watches(run, run.served["embedded"], run.secrets["create operator"])
        edits(run)
        traceback_in_the_log(run)
        run.end()
        for span in receiver.spans(1):
            run.left.add("a span in OpenTelemetry", f"{span.name} {attributes_of(span)} {span}")
        run.left.add("headers of the export", str(receiver.headers))
    for (table,) in mariadb.execute("SHOW TABLES"):
        run.left.add(f"table {table}", repr(mariadb.execute(f"SELECT * FROM {table}")))
    assert not list(run.left.leaks(run.secrets)), "\n".join(run.left.leaks(run.secrets))
    assert_seen(run)


def start(run: Run, server: DatabaseServer, database: str, receiver: Receiver) -> None:
    """A controller in front of each kind of registry, in enforce and log mode, and one that forwards to the first. Two
    of the four log JSON lines.
    """
    collector = ["--tracer-to-open-telemetry", "true", "--otel-exporter-otlp-traces-protocol", receiver.protocol]
    collector += ["--otel-exporter-otlp-traces-endpoint", receiver.endpoint]
    as_json = ["--log-format", "json"]
    embedded = run.serve("embedded", "--auth", "enforce", *as_json, *collector)
    run.serve(
        "sqlite",
        *as_json,
        "--auth",
        "log",
        "--registry",
        "database",
        "--registry-db-type",
        "sqlite",
        "--registry-db-name",
        "ctl.db",
    )
    host = f"{server.host}:{server.port}"
    flags = ["--registry", "database", "--registry-db-host", host, "--registry-db-name", database]
    password = {"CONTROLLER_REGISTRY_DB_PASSWORD": server.password}
    run.serve("mariadb", "--auth", "log", *flags, "--registry-db-user", server.user, env=password)
    own = run.gives("remote-token", run.secrets["create operator"])
    run.serve("forwarding", "--auth", "log", "--remote-addr", embedded.url, "--remote-token-file", str(own))
    run.left.add("repr", repr(embedded))


def traceback_in_the_log(run: Run) -> None:
    """The table of events disappears: the controller fails at what it does not expect, and logs a traceback."""
    with sqlite3.connect(run.folder / "ctl.db") as database:
        database.execute("DROP TABLE ctl_event")
    database.close()
    served, token = run.served["sqlite"], run.secrets["create operator"]
    run.send("events", f"{served.url}/api/v1/events", method="GET", headers=basic(token, ""))
    run.send(
        "register",
        f"{served.url}/api/controller/models",
        method="POST",
        headers=basic("me", token),
        json=INSTANCE | {"port": 1},
    )


def assert_seen(run: Run) -> None:
    """The run has shown what it is about: else a search in nothing would succeed."""
    texts = {what: text.decode(errors="replace") for what, text in run.left.texts.items()}
    assert "register" in texts["table ctl_event"]
    assert any("Traceback" in text for what, text in texts.items() if what.startswith("output of ctl"))
    refused = texts["output of ctl auth status -v"]
    assert "unknown" in refused
    assert "********" in refused
    for name in ("embedded", "sqlite", "mariadb", "forwarding"):
        assert "/nowhere/********" in texts[f"file {name}-file.log"]
        assert '"action":"drain"' in texts[f"file {name}-audit.jsonl"]
        assert any(re.fullmatch(rf"file {name}[^-]*\.jsonl", what) for what in texts)
    assert '"outcome":"refused"' in texts["file embedded-audit.jsonl"]


@pytest.mark.parametrize(
    "written",
    [
        lambda token: token,
        lambda token: token[20:40],
        lambda token: token.encode().hex(),
        lambda token: "".join(f"%{byte:02X}" for byte in token.encode()),
        *(
            lambda token, user=user: b64encode(f"{user}:{token}".encode()).decode()
            for user in ("", "a", "ab", "gpu-east")
        ),
        lambda token: b64encode(f"{token}:".encode()).decode(),
    ],
)
def test_a_token_that_is_left_is_found(run: Run, written: Any) -> None:
    token = new_token(secrets.token_bytes)
    (run.folder / "app.log").write_text(f"GET /api/health as {written(token)}\n")
    run.left.add("table", repr([("qwen3@llm", new_token(secrets.token_bytes))]))
    run.end()
    (leak,) = run.left.leaks({"worker": token})
    assert leak.startswith("worker in file app.log: ")
    assert all(len(spelling) >= 16 for spelling in spellings(token))
