"""Large lists: the same bytes as in one piece, shared by their readers, and bounded in all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from dbgpt_ctl.controller.auth.long_answers import LongAnswers
from dbgpt_ctl.controller.http.serializers import wire_object
from dbgpt_ctl.controller.service import large_lists
from dbgpt_ctl.controller.service.large_lists import INSTANCES_PER_PIECE, LargeLists
from dbgpt_ctl.domain.instance import HEALTHY, InstanceKey, ListedInstance, ModelInstance
from dbgpt_ctl.registry.contract import Listing

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ALLOWED = LongAnswers(lambda _scope: None, lambda _scope: None)
COUNT = 2 * INSTANCES_PER_PIECE + 5


def listing() -> Listing:
    keys = (InstanceKey("qwen@llm", "10.0.0.4", port) for port in range(1, COUNT + 1))
    check_healthy = True
    instances = (ModelInstance(key, 1.0, check_healthy, None, NOW, NOW) for key in keys)
    return Listing(tuple(ListedInstance(instance, HEALTHY, None) for instance in instances))


class Reader:
    """A client that takes `takes` messages and no more."""

    def __init__(self, takes: int | None = None) -> None:
        self.messages: list[Any] = []
        self.takes = takes
        self.stalled = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if self.takes is not None and len(self.messages) >= self.takes:
            self.stalled.set()
            await asyncio.Event().wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def answered(lists: LargeLists, one: Listing, reader: Reader, client: object = None) -> None:
    async def read() -> Listing:
        return one

    _, encoded = await lists.encoded(one, read, wire_object)
    response = lists.answer(encoded, "application/json", {"X-Ctl-Time": "now"}, (b"[", b"]"))
    await response({"type": "http", "client": client}, None, reader.send)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_the_bytes_and_their_length_are_those_of_one_piece() -> None:
    lists, one, reader = LargeLists(lambda _: False, ALLOWED), listing(), Reader()
    await answered(lists, one, reader)
    assert reader.body == orjson.dumps([wire_object(entry) for entry in one.entries])
    headers = dict(reader.messages[0]["headers"])
    assert headers[b"content-length"] == str(len(reader.body)).encode()
    assert headers[b"x-ctl-time"] == b"now"
    assert not reader.messages[-1].get("more_body", False)
    assert lists.held_bytes == 0


@pytest.mark.anyio
async def test_readers_of_one_list_share_its_bytes() -> None:
    lists, one = LargeLists(lambda _: False, ALLOWED), listing()
    readers = [Reader(takes=3) for _ in range(5)]
    tasks = [asyncio.create_task(answered(lists, one, reader)) for reader in readers]
    for reader in readers:
        await reader.stalled.wait()
    assert lists.held_bytes == len(orjson.dumps([wire_object(entry) for entry in one.entries])) - 2
    assert len({id(reader.messages[2]["body"]) for reader in readers}) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert lists.held_bytes == 0


@pytest.mark.anyio
async def test_the_slowest_reader_is_dropped_when_readers_hold_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_lists, "MAX_HELD_BYTES", 100_000)
    monkeypatch.setattr(large_lists, "SLOW_SECS", 0.0)
    tasks: dict[object, asyncio.Task[None]] = {}

    def drop(client: object) -> bool:
        tasks.pop(client).cancel()
        return True

    lists, slow, last = LargeLists(drop, ALLOWED), Reader(takes=3), Reader()
    tasks["slow"] = asyncio.create_task(answered(lists, listing(), slow, "slow"))
    await slow.stalled.wait()
    await answered(lists, listing(), last, "last")
    assert tasks == {}
    assert last.body.endswith(b"}]")
