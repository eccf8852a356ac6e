"""Bounds on a connection, prepared answers in one step, and the parts of uvicorn that both are made of."""

from __future__ import annotations

import asyncio
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dbgpt_ctl.controller.http import protocol as protocol_module
from dbgpt_ctl.controller.http.protocol import (
    MAX_COPIED_BYTES,
    MAX_HEAD_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PIPELINED,
    MAX_REQUEST_SECS,
    MAX_STALL_SECS,
    BoundedHttpProtocol,
    BoundedState,
    BoundedTransport,
)
from dbgpt_ctl.controller.server import create_server
from dbgpt_ctl.errors import CannotListen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RecordingTransport:
    """Records the calls of its methods."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.calls += pieces

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def write_eof(self) -> None:
        self.calls.append("eof")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    @property
    def answers(self) -> list[int]:
        """The statuses of all answers that were sent, in order."""
        sent = b"".join(call for call in self.calls if isinstance(call, bytes))
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", sent)]

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        self.pauses_at = high

    def get_extra_info(self, _name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return "close" in self.calls

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")


def transports() -> tuple[BoundedTransport, RecordingTransport]:
    transport = RecordingTransport()
    return BoundedTransport(cast("asyncio.Transport", transport), asyncio.get_running_loop()), transport


async def turn_of_the_loop() -> None:
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


@pytest.mark.anyio
async def test_pieces_leave_in_one_step() -> None:
    bounded, transport = transports()
    bounded.write(b"head", b"body")
    assert transport.calls == [b"headbody"]


@pytest.mark.anyio
async def test_a_long_body_is_not_copied() -> None:
    bounded, transport = transports()
    body = b"x" * (MAX_COPIED_BYTES + 1)
    bounded.write(b"head", body)
    assert transport.calls == [b"head", body]
    assert transport.calls[1] is body


@pytest.mark.anyio
async def test_nothing_is_sent_to_a_client_that_is_gone() -> None:
    bounded, transport = transports()
    transport.close()
    bounded.write(b"head")
    assert transport.calls == ["close"]


@pytest.mark.anyio
async def test_all_other_attributes_are_the_transports() -> None:
    bounded, transport = transports()
    pause: Callable[[], None] = bounded.pause_reading
    pause()
    assert transport.calls == ["pause_reading"]


class TlsTransport(RecordingTransport):
    """As the event loop's: no half of it closes alone, and a close waits for the peer."""

    def __init__(self, waiting: int = 0) -> None:
        super().__init__()
        self.waiting = waiting

    def write_eof(self) -> None:
        raise NotImplementedError

    def get_write_buffer_size(self) -> int:
        return self.waiting


class LaterLoop:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()


def over_tls() -> tuple[BoundedTransport, TlsTransport, TlsTransport, LaterLoop]:
    tls, below, loop = TlsTransport(), TlsTransport(), LaterLoop()
    asyncio_loop, transports = cast("asyncio.AbstractEventLoop", loop), cast("list[asyncio.Transport]", [tls, below])
    return BoundedTransport(transports[0], asyncio_loop, transports[1]), tls, below, loop


def test_a_peer_that_does_not_end_tls_is_cut_off_once_all_is_sent() -> None:
    bounded, tls, below, loop = over_tls()
    below.waiting = 10
    bounded.close()
    assert (tls.calls, below.calls) == (["close"], [])
    loop.later.pop()()
    assert below.calls == []  # a slow reader
    below.waiting = 0
    loop.later.pop()()
    assert (below.calls, loop.later) == (["abort"], [])


def test_a_peer_that_ends_tls_is_not_waited_for() -> None:
    bounded, _, below, loop = over_tls()
    bounded.close()
    below.close()
    loop.later.pop()()
    assert below.calls == ["close"]
    bounded.close()
    assert loop.later == []


def test_what_waits_below_tls_counts_as_unsent() -> None:
    bounded, tls, below, _ = over_tls()
    tls.waiting, below.waiting = 3, 4
    assert bounded.get_write_buffer_size() == 7


def test_tls_has_no_end_of_one_direction() -> None:
    bounded, tls, _, _ = over_tls()
    bounded.write(b"answer")
    bounded.write_eof()
    assert tls.calls == [b"answer"]


@pytest.mark.anyio
async def test_a_connection_over_tls_makes_room_at_once() -> None:
    """A close would wait for the peer, and keep a descriptor."""
    state, app = BoundedState(limit=1), partial(answers_after, event=asyncio.Event())
    config = uvicorn.Config(app, interface="asgi3", log_config=None, lifespan="off", ws="none")
    connection = BoundedHttpProtocol(config, state, {}, asyncio.get_running_loop())
    connection.below = cast("asyncio.Transport", TlsTransport())
    tls = TlsTransport()
    connection.connection_made(cast("asyncio.Transport", tls))
    connected(app, state)
    assert tls.calls == ["abort"]


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
    protocol.server_state = BoundedState()
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
    assert protocol.server_state.figures.readers_dropped == 1


async def answers_413_beyond_64_kb(_scope: Any, receive: Any, send: Any) -> None:
    """As the endpoints do."""
    size, more = 0, True
    while more and size <= 65536:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    status = 200 if size <= 65536 else 413
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def connected(app: Any, state: BoundedState | None = None) -> tuple[BoundedHttpProtocol, RecordingTransport]:
    config = uvicorn.Config(app, interface="asgi3", log_config=None, lifespan="off", ws="none")
    connection = BoundedHttpProtocol(config, state or BoundedState(), {}, asyncio.get_running_loop())
    transport = RecordingTransport()
    connection.connection_made(cast("asyncio.Transport", transport))
    return connection, transport


async def receive_all(connection: BoundedHttpProtocol, reads: Sequence[bytes]) -> None:
    for data in reads:
        if not connection.transport.is_closing():
            connection.data_received(data)
        for _ in range(5):
            await turn_of_the_loop()


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b"Content-Length: 65536\r\n\r\n" + b" " * 65536
LARGE_HEAD = POST + b"X-Filler: " + b"x" * (MAX_HEAD_BYTES - 100) + b"\r\n"
OK, BAD, TOO_LARGE = 200, 400, 413
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("reads", "answers"),
    [
        ([POST[:20], POST[20:] + BODY], [OK]),  # the end of a head in one read with a large body
        ([POST + BODY[:100], BODY[100:] + POST[:20], POST[20:] + BODY], [OK, OK]),  # with the end of the one before
        ([POST + BODY[:100], BODY[100:] + GET[:9], GET[9:]], [OK, OK]),
        ([LARGE_HEAD[:30000], LARGE_HEAD[30000:] + BODY], [OK]),
        ([LARGE_HEAD[:300], LARGE_HEAD[300:60000], LARGE_HEAD[60000:] + BODY[:99], BODY[99:]], [OK]),
        ([CHUNKED, *[b"1000\r\n%b\r\n" % (b" " * 4096)] * 16, b"0\r\n\r\n"], [OK]),
        ([GET * MAX_PIPELINED], [OK] * MAX_PIPELINED),
    ],
    ids=["split head", "pipelined", "small pipelined", "large head", "large head in three", "chunks", "many at once"],
)
@pytest.mark.anyio
async def test_a_message_within_the_bounds_is_answered(reads: Sequence[bytes], answers: list[int]) -> None:
    connection, transport = connected(answers_413_beyond_64_kb)
    await receive_all(connection, reads)
    for _ in range(len(answers) * 5):
        await turn_of_the_loop()
    assert transport.answers == answers
    assert not transport.is_closing()


@pytest.mark.parametrize(
    "reads",
    [
        [POST, b"X-Filler: " + b"x" * MAX_HEAD_BYTES],
        [CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: x\r\n\r\n"],
        [CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: x", *[b"x" * 65536] * 4],
        [CHUNKED + b"2;a=", *[b"x" * 65536] * 4],
        [CHUNKED, *[b"1\r\n \r\n" * 5000] * 8],
        [GET * (MAX_PIPELINED + 2)],
    ],
    ids=["head", "trailer", "long trailer", "extension", "one byte in a chunk", "pipelined"],
)
@pytest.mark.anyio
async def test_a_message_beyond_the_bounds_is_refused(reads: Sequence[bytes]) -> None:
    connection, transport = connected(answers_413_beyond_64_kb)
    await receive_all(connection, reads)
    assert transport.answers == [BAD]
    assert transport.is_closing()


@pytest.mark.anyio
async def test_a_large_body_gets_its_answer_and_its_rest_is_not_read() -> None:
    connection, transport = connected(answers_413_beyond_64_kb)
    head = POST + b"Content-Length: 10000000\r\n\r\n"
    await receive_all(connection, [head, *[b" " * 50_000] * (MAX_MESSAGE_BYTES // 50_000 + 5)])
    assert transport.answers == [TOO_LARGE]
    assert transport.calls.count("eof") == 1
    assert not transport.is_closing()


@pytest.mark.anyio
async def test_trailers_after_the_answer_close_without_a_second_answer() -> None:
    connection, transport = connected(answers_413_beyond_64_kb)
    body = b"11000\r\n%b\r\n" % (b" " * 0x11000)
    await receive_all(connection, [CHUNKED + body, b"0\r\nX-Trailer: x\r\n\r\n"])
    assert transport.answers == [TOO_LARGE]
    assert transport.is_closing()


UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.mark.anyio
async def test_an_upgrade_is_declined_and_nothing_is_read_after_it() -> None:
    connection, transport = connected(answers_413_beyond_64_kb)
    await receive_all(connection, [GET[:-2] + UPGRADE + b"\r\n" + GET, GET])
    assert transport.answers == [OK]
    assert transport.is_closing()


@pytest.mark.parametrize("framing", [b"Content-Length: 27\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.anyio
async def test_the_body_of_an_upgrade_is_not_taken_for_a_request(framing: bytes) -> None:
    connection, transport = connected(answers_413_beyond_64_kb)
    await receive_all(connection, [POST + UPGRADE + framing + b"\r\n", GET])
    assert transport.answers == [BAD]
    assert transport.is_closing()


@pytest.mark.parametrize("target", [b"CONNECT x:80", b"GET http://[", b"GET //"])
@pytest.mark.anyio
async def test_a_target_that_is_no_url_is_refused(target: bytes) -> None:
    connection, transport = connected(answers_413_beyond_64_kb)
    await receive_all(connection, [target + b" HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert len(transport.answers) == 1
    assert transport.is_closing() == (transport.answers == [BAD])


@pytest.mark.anyio
async def test_empty_lines_do_not_keep_a_connection() -> None:
    """Uvicorn stops its timer at any byte, and starts it again after an answer only."""
    connection, transport = connected(answers_413_beyond_64_kb)
    await receive_all(connection, [GET, b"\r\n", b"\r\n"])
    assert transport.answers == [OK]
    assert connection.eviction_rank() is not None
    clock = LoopClock()
    clock.now = connection.loop.time() + MAX_REQUEST_SECS + 1
    connection.loop = cast("asyncio.AbstractEventLoop", clock)
    connection.close_if_stalled()
    assert transport.is_closing()


async def answers_after(scope: Any, _receive: Any, send: Any, *, event: asyncio.Event) -> None:
    if scope["path"] == "/busy":
        await event.wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.anyio
async def test_the_connection_that_is_idle_for_longest_makes_room() -> None:
    state, app = BoundedState(limit=3), partial(answers_after, event=asyncio.Event())
    waiting, idle, later_idle = (connected(app, state) for _ in range(3))
    for connection, _ in (idle, later_idle):
        await receive_all(connection, [GET])
        await asyncio.sleep(0.01)  # the idle ones differ in age
    _, newest = connected(app, state)
    assert [transport.is_closing() for _, transport in (waiting, idle, later_idle)] == [False, True, False]
    connected(app, state)
    assert later_idle[1].is_closing()
    connected(app, state)
    assert waiting[1].is_closing()
    assert not newest.is_closing()
    assert (state.figures.closed, state.figures.refused, len(state.figures.connections)) == (3, 0, 3)


@pytest.mark.anyio
async def test_a_connection_is_refused_while_all_others_are_answered() -> None:
    event = asyncio.Event()
    state, app = BoundedState(limit=2), partial(answers_after, event=event)
    busy = [connected(app, state) for _ in range(2)]
    for connection, _ in busy:
        await receive_all(connection, [GET.replace(b"/ ", b"/busy ")])
    _, newest = connected(app, state)
    assert newest.answers == [503]
    assert newest.is_closing()
    event.set()
    await receive_all(busy[0][0], [])
    for _ in range(5):
        await turn_of_the_loop()
    assert [transport.answers for _, transport in busy] == [[OK], [OK]]
    assert (state.figures.closed, state.figures.refused) == (0, 1)


@pytest.mark.anyio
async def test_a_peer_that_does_not_read_makes_room() -> None:
    state, app = BoundedState(limit=1), partial(answers_after, event=asyncio.Event())
    reader, transport = connected(app, state)
    await receive_all(reader, [GET.replace(b"/ ", b"/busy ")])
    reader.pause_writing()
    connected(app, state)
    assert transport.calls[-1] == "abort"
    reader.connection_lost(None)


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
        config = uvicorn.Config(app, interface="asgi3", log_config=None, lifespan="off", ws="none")
        loop, transport = asyncio.get_running_loop(), RecordingTransport()
        connection = Recording(config, BoundedState(), {}, loop)
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
    sent = b"".join(call for call in transport.calls if isinstance(call, bytes))
    assert sent.startswith(b"HTTP/1.1 200 "), hint
    assert sent.endswith(b"\r\n\r\nok"), hint
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


def test_tls_is_refused_where_a_part_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """To serve without it would send tokens in the clear."""
    monkeypatch.delitem(sys.modules, "dbgpt_ctl.controller.http.protocol")
    monkeypatch.delattr(HttpToolsProtocol, "send_400_response")
    with pytest.raises(CannotListen, match=r"TLS is not possible: uvicorn .* has no HttpToolsProtocol"):
        create_server(cast("Any", None), tls=cast("Any", object()))
