"""The near end of dbgpt_client.py: calls DB-GPT's real client, which lives in a process of its own."""

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

_FAR_END = Path(__file__).with_name("dbgpt_client.py")


class ClientError(Exception):
    """DB-GPT's client raised. The message is the type and text of its error."""


class RealClient:
    """DB-GPT's ModelRegistryClient: one per `urls` and options, kept as long as the process."""

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
        """What the client's method `verb` returned, instances as dicts of their fields. Raises ClientError."""
        popen = self._process.popen
        assert popen.stdin is not None
        asked = {"urls": urls, "verb": verb, "instance": instance, "options": options or {}, "args": args}
        popen.stdin.write(json.dumps(asked) + "\n")
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


@contextmanager
def real_client(lab: Lab, release: Release) -> Iterator[RealClient]:
    """Starts the process and waits until DB-GPT is imported there."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    # -P: next to the script lies a dbgpt.py that is not DB-GPT.
    process = Process("client", [release.python, "-P", _FAR_END], lab.env(), lab.folder, **pipes)
    with process.popen:
        try:
            client = RealClient(process)
            assert client.reply() == "ready"
            yield client
        finally:
            process.popen.kill()
