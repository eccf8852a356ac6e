"""An answer leaves in one piece."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from dbgpt_ctl.controller.http.joined import JoinedWrites

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


class Transport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")


def joined() -> tuple[JoinedWrites, Transport]:
    transport = Transport()
    return JoinedWrites(cast("asyncio.Transport", transport), asyncio.get_running_loop()), transport


async def turn_of_the_loop() -> None:
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


async def test_what_is_written_in_one_turn_is_sent_at_once() -> None:
    writes, transport = joined()
    for turn in (b"1", b"2"):
        writes.write(b"head" + turn)
        writes.write(b"body" + turn)
        await turn_of_the_loop()
    assert transport.calls == [b"head1body1", b"head2body2"]


@pytest.mark.parametrize("written", [[b"head", b"body"], []])
async def test_all_is_sent_before_it_is_closed(written: list[bytes]) -> None:
    writes, transport = joined()
    for data in written:
        writes.write(data)
    writes.close()
    await turn_of_the_loop()
    assert transport.calls == [*([b"".join(written)] if written else []), "close"]


async def test_nothing_is_sent_to_who_has_gone() -> None:
    writes, transport = joined()
    writes.write(b"head")
    transport.close()
    await turn_of_the_loop()
    assert transport.calls == ["close"]


async def test_all_else_is_the_transports_own() -> None:
    writes, transport = joined()
    pause: Callable[[], None] = writes.pause_reading
    pause()
    assert transport.calls == ["pause_reading"]
