"""Calls DB-GPT's real client in a process of its own, which runs dbgpt_client.py."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.dbgpt_process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.dbgpt import Release
    from tests.support.dbgpt_cluster import Lab

_SCRIPT = Path(__file__).with_name("dbgpt_client.py")


class ClientError(Exception):
    """DB-GPT's client raised. The message is the type and text of its error."""


class RealClient:
    """DB-GPT's ModelRegistryClient: one per `urls` and options, kept until the process ends."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def call(
        self,
        urls: str,
        verb: str,
        instance: dict[str, Any] | None = None,
        *,
        options: dict[str, Any] | None = None,
        **args: Any,
    ) -> Any:
        """The result of the client's method `verb`, instances as dicts of their fields. Raises ClientError."""
        popen = self._process.popen
        assert popen.stdin is not None
        request = {"urls": urls, "verb": verb, "instance": instance, "options": options or {}, "args": args}
        popen.stdin.write(json.dumps(request) + "\n")
        popen.stdin.flush()
        return self.reply()

    def reply(self) -> Any:
        popen = self._process.popen
        assert popen.stdout is not None
        line = popen.stdout.readline()
        assert line, f"{self._process.name} ended\n{self._process.tail()}"
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["value"]


class Caller:
    """The real client, bound to one address, with the three ways in which DB-GPT requests a list."""

    def __init__(self, client: RealClient, urls: str, **options: Any) -> None:
        self._client = client
        self._urls = urls
        self._options = options

    def __call__(self, verb: str, instance: dict[str, Any] | None = None, **args: Any) -> Any:
        return self._client.call(self._urls, verb, instance, options=self._options, **args)

    def named(self, model_name: str, *, healthy_only: bool = False) -> list[dict[str, Any]]:
        """The instances of one model, from the asynchronous and the synchronous client: they must agree."""
        listed: list[dict[str, Any]] = self("get_all_instances", model_name=model_name, healthy_only=healthy_only)
        assert self("sync_get_all_instances", model_name=model_name, healthy_only=healthy_only) == listed
        everything = self("get_all_model_instances", healthy_only=healthy_only)
        assert [instance for instance in everything if instance["model_name"] == model_name] == listed
        return listed


@contextmanager
def real_client(lab: Lab, release: Release) -> Iterator[RealClient]:
    """Starts the process and waits until DB-GPT is imported there."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    # -P: the folder of the script has a dbgpt.py that is not DB-GPT.
    process = Process("client", [release.python, "-P", _SCRIPT], lab.env(), lab.folder, **pipes)
    with process.popen:
        try:
            client = RealClient(process)
            assert client.reply() == "ready"
            yield client
        finally:
            process.popen.kill()
