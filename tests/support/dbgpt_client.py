"""Runs inside a DB-GPT environment: drives its real ModelRegistryClient, one JSON line in, one out.

In:  {"urls": ..., "options": {...}, "verb": ..., "instance": {...} or null, "args": {...}}
Out: {"value": ...} or {"error": "..."}

Instances come back as the fields of DB-GPT's own class, made by its own parser. Imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import os
import sys
from typing import Any, TextIO


def main() -> None:
    """Keeps the real stdout for the replies: DB-GPT prints to stdout too."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asyncio.run(_serve(replies))


async def _serve(replies: TextIO) -> None:
    from dbgpt.model.base import ModelInstance  # type: ignore[import-not-found]
    from dbgpt.model.cluster import ModelRegistryClient  # type: ignore[import-not-found]

    clients: dict[str, Any] = {}
    print(json.dumps({"value": "ready"}), file=replies, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        key = json.dumps([request["urls"], request["options"]])
        if key not in clients:
            clients[key] = ModelRegistryClient(request["urls"], **request["options"])
        args = [] if request["instance"] is None else [ModelInstance(**request["instance"])]
        try:
            value = getattr(clients[key], request["verb"])(*args, **request["args"])
            reply = {"value": _plain(await value if inspect.isawaitable(value) else value)}
        except Exception as error:  # noqa: BLE001 - every failure of the client is an answer
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
    os._exit(0)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value) | {"class": type(value).__name__}
    return value


if __name__ == "__main__":
    main()
