"""Runs inside a DB-GPT environment: many of its real ModelRegistryClients call at once until standard input ends.

Arguments: the URLs, as DB-GPT takes them, and how many clients. Prints one line when the load runs and a JSON object at
the end: how many calls, which of them failed, the longest. Imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

PAUSE_SECS = 0.05


class Tally:
    def __init__(self) -> None:
        self.calls = 0
        self.longest = 0.0
        self.failures: list[str] = []

    async def count(self, name: str, call: Any) -> Any:
        started = time.monotonic()
        self.calls += 1
        try:
            return await call
        except Exception as error:  # noqa: BLE001 - each failure is what is looked for
            self.failures.append(f"{time.strftime('%X')} {name}: {type(error).__name__}: {error}")
        finally:
            self.longest = max(self.longest, time.monotonic() - started)


async def worker(urls: str, number: int, tally: Tally, stop: asyncio.Event) -> None:
    """Registers, beats, and asks who is there, as a worker and an API server do."""
    from dbgpt.model.base import ModelInstance  # type: ignore[import-not-found]
    from dbgpt.model.cluster import ModelRegistryClient  # type: ignore[import-not-found]

    client = ModelRegistryClient(urls)
    own = ModelInstance(model_name="rolling@llm", host="10.0.0.5", port=9000 + number)
    await tally.count("register", client.register_instance(own))
    rounds = 0
    while not stop.is_set():
        rounds += 1
        await tally.count("heartbeat", client.send_heartbeat(own))
        for _ in range(3):
            listed = await tally.count("list", client.get_all_instances("rolling@llm", healthy_only=True))
            if listed is not None and own.port not in {each.port for each in listed}:
                tally.failures.append(f"{time.strftime('%X')} list: without {own.port}: {len(listed)} instances")
            await asyncio.sleep(PAUSE_SECS)
        if rounds % 10 == 0:
            await tally.count("register", client.register_instance(own))


async def main(urls: str, clients: int) -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # DB-GPT prints what it likes
    tally, stop = Tally(), asyncio.Event()
    workers = [asyncio.create_task(worker(urls, number, tally, stop)) for number in range(clients)]
    print("running", file=replies, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await asyncio.gather(*workers)
    print(json.dumps(vars(tally)), file=replies, flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
