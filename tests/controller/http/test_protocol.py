"""Bounds on a connection, answers in one packet, and the parts of uvicorn that both are made of."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from dbgpt_ctl.controller.http import protocol as protocol_module
from dbgpt_ctl.controller.http.protocol import MAX_STALL_SECS, BoundedHttpProtocol, OnePacketTransport
from dbgpt_ctl.controller.http.server import create_server

if TYPE_CHECKING:
    from collections.abc import Callable


class RecordingTransport:
    """Records the calls of its methods."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return "close" in self.calls

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")


def transports() -> tuple[OnePacketTransport, RecordingTransport]:
    transport = RecordingTransport()
    return OnePacketTransport(cast("asyncio.Transport", transport), asyncio.get_running_loop()), transport


async def turn_of_the_loop() -> None:
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


@pytest.mark.anyio
async def test_what_is_written_in_one_turn_is_sent_at_once() -> None:
    one_packet, transport = transports()
    for turn in (b"1", b"2"):
        one_packet.write(b"head" + turn)
        one_packet.write(b"body" + turn)
        await turn_of_the_loop()
    assert transport.calls == [b"head1body1", b"head2body2"]


@pytest.mark.parametrize("written", [[b"head", b"body"], []])
@pytest.mark.anyio
async def test_all_is_sent_before_it_is_closed(written: list[bytes]) -> None:
    one_packet, transport = transports()
    for data in written:
        one_packet.write(data)
    one_packet.close()
    await turn_of_the_loop()
    assert transport.calls == [*([b"".join(written)] if written else []), "close"]


@pytest.mark.anyio
async def test_nothing_is_sent_to_a_client_that_is_gone() -> None:
    one_packet, transport = transports()
    one_packet.write(b"head")
    transport.close()
    await turn_of_the_loop()
    assert transport.calls == ["close"]


@pytest.mark.anyio
async def test_all_other_attributes_are_the_transports() -> None:
    one_packet, transport = transports()
    pause: Callable[[], None] = one_packet.pause_reading
    pause()
    assert transport.calls == ["pause_reading"]


class LoopClock:
    """Stands in for an event loop's time."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class StallingTransport:
    """With bytes that wait for the peer."""

    waiting = 0
    aborted = False
    closed = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def protocol() -> BoundedHttpProtocol:
    protocol = BoundedHttpProtocol.__new__(BoundedHttpProtocol)
    protocol.loop = LoopClock()  # type: ignore[assignment]
    protocol.transport = StallingTransport()  # type: ignore[assignment]
    return protocol


def test_a_watch_is_not_closed_however_long_it_lasts(protocol: BoundedHttpProtocol) -> None:
    """Its request is complete, and its peer takes what is sent."""
    for waiting in (0, 10, 20, 10, 0) * 100:
        protocol.transport.waiting = waiting  # type: ignore[attr-defined]
        protocol.close_if_stalled()
        protocol.loop.now += MAX_STALL_SECS  # type: ignore[attr-defined]
    assert not protocol.transport.aborted  # type: ignore[attr-defined]
    assert not protocol.transport.closed  # type: ignore[attr-defined]


def test_a_peer_that_takes_nothing_is_cut_off(protocol: BoundedHttpProtocol) -> None:
    protocol.transport.waiting = 70_000  # type: ignore[attr-defined]
    protocol.close_if_stalled()
    protocol.loop.now += MAX_STALL_SECS  # type: ignore[attr-defined]
    protocol.close_if_stalled()
    assert not protocol.transport.aborted  # type: ignore[attr-defined]
    protocol.loop.now += 1  # type: ignore[attr-defined]
    protocol.close_if_stalled()
    assert protocol.transport.aborted  # type: ignore[attr-defined]


def test_this_version_of_uvicorn_has_every_part_that_the_protocol_uses() -> None:
    assert protocol_module.missing_internals() == [], (
        "uvicorn changed its internals: adapt dbgpt_ctl/controller/http/protocol.py, or lower the pin in pyproject.toml"
    )


def test_uvicorn_calls_the_parts_in_the_order_that_the_protocol_relies_on() -> None:
    """The canary: what uvicorn does with a connection, a head in two reads, a body, and the end."""
    calls: list[str] = []

    class Recording(BoundedHttpProtocol):
        def on_message_begin(self) -> None:
            calls.append("begin")
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            calls.append("headers")
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            calls.append("complete")
            super().on_message_complete()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"{}"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def scenario() -> tuple[BoundedHttpProtocol, RecordingTransport]:
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
        loop, transport = asyncio.get_running_loop(), RecordingTransport()
        connection = Recording(config, ServerState(), {}, loop)
        connection.connection_made(cast("asyncio.Transport", transport))
        for data in (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Le", b"ngth: 2\r\n\r\n", b"{}"):
            connection.data_received(data)
        for _ in range(5):
            await turn_of_the_loop()
        connection.shutdown()
        return connection, transport

    connection, transport = asyncio.run(scenario())
    hint = "uvicorn changed how it serves a connection: adapt dbgpt_ctl/controller/http/protocol.py"
    assert calls == ["begin", "headers", "complete"], hint
    answers = [call for call in transport.calls if isinstance(call, bytes)]
    assert len(answers) == 1, hint
    assert answers[0].startswith(b"HTTP/1.1 200 "), hint
    assert answers[0].endswith(b"\r\n\r\nok"), hint
    assert transport.calls[-1] == "close", hint
    assert connection.transport.get_write_buffer_size() == 0, hint


def test_plain_uvicorn_serves_where_a_part_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "dbgpt_ctl.controller.http.protocol")
    monkeypatch.delattr(HttpToolsProtocol, "send_400_response")
    server = create_server(cast("Any", None))
    assert type(server) is uvicorn.Server
    assert server.config.http == "auto"
    assert "has no bounds" in caplog.text
    assert "has no HttpToolsProtocol.send_400_response" in caplog.text
