"""Workers that send heartbeats while something else is measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.load import HEARTBEAT, fields
from benchmarks.report import MeasurementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


async def while_beating(url: str, instances: int, every: float, measure: Callable[[], float]) -> tuple[float, float]:
    """The result of `measure` and the heartbeats answered a second, while all instances send one every `every` seconds.

    Raises MeasurementError when an answer was not 200.
    """
    loop = asyncio.get_running_loop()
    async with _beating(url, instances, every) as answers:
        started = loop.time()
        figure = await asyncio.to_thread(measure)
        answered, elapsed = len(answers), loop.time() - started
    wrong = next((line for line in answers if line.split()[1:2] != [b"200"]), None)
    if wrong is not None:
        raise MeasurementError(f"a heartbeat at {url} was answered {wrong!r}")
    return figure, answered / elapsed


@contextlib.asynccontextmanager
async def _beating(url: str, instances: int, every: float) -> AsyncIterator[list[bytes]]:
    """The status lines of the answers so far. A heartbeat does not wait for the answers of earlier ones."""
    answers: list[bytes] = []
    stop = asyncio.Event()

    async def pace() -> None:
        loop = asyncio.get_running_loop()
        started, sent = loop.time(), 0
        while not stop.is_set():
            group.create_task(_beat(url, sent % instances, answers))
            sent += 1
            await asyncio.sleep(started + sent * every / instances - loop.time())

    async with asyncio.TaskGroup() as group:
        group.create_task(pace())
        try:
            yield answers
        finally:
            stop.set()


async def _beat(url: str, index: int, answers: list[bytes]) -> None:
    """Over a new connection, as DB-GPT's workers do."""
    address = urlsplit(url)
    body = json.dumps(fields(index)).encode()
    head = f"POST {HEARTBEAT.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        answers.append(await reader.readline())
        await reader.read()
        writer.close()
        await writer.wait_closed()
    except OSError as error:
        answers.append(f"- {error}".encode())
