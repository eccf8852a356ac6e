"""DB-GPT's calls as bare as can be: what the load costs is not the controller's."""

from __future__ import annotations

import json
from base64 import b64encode
from http.client import HTTPConnection, HTTPException
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from email.message import Message
    from types import TracebackType
    from typing import Any, Self

TIMEOUT_SECS = 20.0
"""Longer than any wait that the controller may take: one that hangs shows as such."""
JSON = {"Content-Type": "application/json"}


class Reply(NamedTuple):
    """`status` 0: nobody answered."""

    status: int
    body: bytes
    headers: Message | None
    seconds: float

    @property
    def is_acknowledged(self) -> bool:
        return self.status == 200 and self.body == b"true"

    @property
    def is_stale(self) -> bool:
        return self.headers is not None and "X-Ctl-Stale-Since" in self.headers

    @property
    def is_held(self) -> bool:
        return self.headers is not None and "X-Ctl-Held-Until" in self.headers

    def __str__(self) -> str:
        return f"{self.status} {self.body[:200]!r} after {self.seconds:.2f} s"


class Instance(NamedTuple):
    """What a worker registers."""

    model_name: str
    port: int = 8001
    host: str = "10.0.0.4"


class Wire:
    """One connection to one controller, made anew when it broke. For one thread.

    `credentials`: NAME:TOKEN. `source`: the address that it calls from.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT_SECS, *, credentials: str = "", source: str = "") -> None:
        place = urlsplit(url)
        self._connection = HTTPConnection(str(place.hostname), place.port, timeout, source_address=(source, 0))
        self._headers = {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"} if credentials else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def register(self, instance: Instance) -> Reply:
        return self._call("POST", "/api/controller/models", instance)

    def heartbeat(self, instance: Instance) -> Reply:
        return self._call("POST", "/api/controller/heartbeat", instance)

    def deregister(self, instance: Instance, *, remove: bool = False) -> Reply:
        query = urlencode(instance._asdict() | {"remove_from_registry": str(remove).lower()})
        return self._call("DELETE", f"/api/controller/models?{query}")

    def list(self, model_name: str = "", *, healthy_only: bool = False) -> Reply:
        query = urlencode({"model_name": model_name, "healthy_only": str(healthy_only).lower()})
        return self._call("GET", f"/api/controller/models?{query}")

    def health(self) -> Reply:
        return self._call("GET", "/api/health")

    def _call(self, method: str, path: str, sent: Instance | None = None) -> Reply:
        body = None if sent is None else json.dumps(sent._asdict())
        started = monotonic()
        is_kept = self._connection.sock is not None
        try:
            self._connection.request(method, path, body, self._headers | (JSON if sent else {}))
            answer = self._connection.getresponse()
            reply = Reply(answer.status, answer.read(), answer.headers, monotonic() - started)
        except ConnectionError:
            self._connection.close()
            if method == "GET" and is_kept:  # it was closed as idle in the moment of the call: every client asks again
                return self._call(method, path)
            reply = Reply(0, b"", None, monotonic() - started)
        except (OSError, HTTPException):
            self._connection.close()
            reply = Reply(0, b"", None, monotonic() - started)
        return reply


def listed(url: str, model_name: str = "", *, healthy_only: bool = False) -> dict[str, dict[str, Any]]:
    """What a controller lists, by `MODEL_NAME/HOST:PORT`. It must answer."""
    with Wire(url) as wire:
        reply = wire.list(model_name, healthy_only=healthy_only)
    assert reply.status == 200, f"{url}: {reply}"
    return {f"{each['model_name']}/{each['host']}:{each['port']}": each for each in json.loads(reply.body)}
