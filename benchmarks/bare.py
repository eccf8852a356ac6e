"""The upper limit: an ASGI application that does nothing, under the controller's own uvicorn settings.

`python -m benchmarks.bare PORT INSTANCES MODELS`. It reads the body of a request and answers with prepared bytes:
`true`, or a list of the same length as a controller's.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import orjson
import uvicorn

from benchmarks.load import fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]


class BareApplication:
    """Answers a list with a list, anything else with `true`."""

    def __init__(self, instances: int, models: int) -> None:
        listed = [_listed(i, models) for i in range(instances)]
        self._all = orjson.dumps(listed)
        self._one = orjson.dumps([instance for instance in listed if instance["model_name"] == "m1@llm"])

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        answer = b"true"
        if scope["method"] == "GET" and scope["path"].endswith("/models"):
            answer = self._one if scope["query_string"] else self._all
        headers = [(b"content-length", str(len(answer)).encode()), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def _listed(index: int, models: int) -> dict[str, Any]:
    listed = fields(index, models) | {"healthy": True, "last_heartbeat": "2026-01-02T03:04:05.678901+00:00"}
    del listed["remove_from_registry"]
    return listed


def main(port: int, instances: int, models: int) -> None:
    app = BareApplication(instances, models)
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_config=None, access_log=False, server_header=False, ws="none",
        lifespan="off", backlog=4096,
    )  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
