"""Prepared answers are, byte by byte, those of the usual way; and what a connection is known by."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from starlette.responses import Response
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from dbgpt_ctl.controller.http.prepared import SEND_PREPARED, PreparedResponse, sent_at_once
from dbgpt_ctl.controller.http.protocol import send_prepared
from dbgpt_ctl.controller.server import create_server, listening_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]
TIMEOUT_SECS = 20.0
HEADERS = {"X-Ctl-Time": "2026-01-02T03:04:05.678901+00:00"}
ANSWERS = {
    "/true": PreparedResponse(b"true", "application/json"),
    "/long": PreparedResponse(b"x" * 200_000, "application/json", HEADERS),
    "/empty": PreparedResponse(b"", "application/json"),
}
GET = b"GET /true HTTP/1.1\r\nHost: x\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
POST = b"POST /true HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"Connection: close\r\n"
BODY = b"Content-Length: 2\r\n\r\n{}"


class App:
    """Answers with a prepared response; only with `at_once` in the one step. It notes the scopes of all requests."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.scopes: list[dict[str, Any]] = []
        self.sent_at_once: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            return
        self.scopes.append(scope)
        while (await receive()).get("more_body"):
            pass
        response = ANSWERS[scope["path"]]
        self.sent_at_once.append(self.at_once and sent_at_once(response, scope, send))
        if not self.sent_at_once[-1]:
            await response(scope, receive, send)


@asynccontextmanager
async def serving(app: Any, host: str) -> AsyncIterator[tuple[str, int]]:
    """The address of a server of the application."""
    server = create_server(app)
    with listening_socket(host, 0) as sock:
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0)
        try:
            yield sock.getsockname()[:2]
        finally:
            server.should_exit = True
            await task


async def answer_to(app: Any, request: bytes, host: str = "127.0.0.1") -> tuple[bytes, tuple[Any, ...]]:
    """All that a server sends after these bytes and the end of them, and the client's own address."""
    async with serving(app, host) as address, asyncio.timeout(TIMEOUT_SECS):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        received = bytearray()
        while not (received and reader.at_eof()) and not answered_all(received, request):
            received += await reader.read(65536)
        name = writer.get_extra_info("sockname")
        writer.close()
        await writer.wait_closed()
        return bytes(received), name


def answered_all(received: bytearray, request: bytes) -> bool:
    """Whether as many whole answers were received as there are requests, on a connection that stays open."""
    if CLOSE in request or b"HTTP/1.0" in request:
        return False
    heads = re.findall(rb"HTTP/1\.1 200 OK\r\n.*?content-length: (\d+)\r\n.*?\r\n\r\n", received, re.DOTALL)
    lengths = sum(map(int, heads))
    framing = len(b"".join(re.findall(rb"HTTP/1\.1 .*?\r\n\r\n", received, re.DOTALL)))
    return len(heads) == request.count(b" HTTP/1.") and len(received) == framing + lengths


def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], app: Any, request: bytes, *host: str) -> Any:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(answer_to(app, request, *host))


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["uvloop", "asyncio"])
@pytest.mark.parametrize(
    "request_bytes",
    [
        GET + b"\r\n",
        GET + CLOSE + b"\r\n",
        GET.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
        POST + BODY,
        POST + CLOSE + BODY,
        POST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + CLOSE + b"Expect: 100-continue\r\n" + BODY,
        (POST + BODY) * 5 + POST + CLOSE + BODY,
        GET.replace(b"/true", b"/long") + b"\r\n" + GET + CLOSE + b"\r\n",
        GET.replace(b"/true", b"/empty") + CLOSE + b"\r\n",
        GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + CLOSE,
        HEAD + b"\r\n" + GET + CLOSE + b"\r\n",
    ],
    ids=[
        *("kept", "close", "1.0", "body", "body, close", "chunked", "continue", "pipelined", "long", "empty"),
        *("upgrade", "head"),
    ],
)
def test_the_bytes_are_those_of_the_usual_way(loop_factory: Any, request_bytes: bytes) -> None:
    apps = usual, prepared = App(at_once=False), App(at_once=True)
    expected, sent = (run(loop_factory, app, request_bytes)[0] for app in apps)
    dates = re.compile(rb"date: [^\r]+")
    assert dates.sub(b"date", sent) == dates.sub(b"date", expected)
    assert sent.count(b"HTTP/1.1 200 OK\r\ndate: ") == len(prepared.scopes) > 0
    assert prepared.sent_at_once[0]  # a later one waits where the system has not taken a long one before it
    assert not any(usual.sent_at_once)


def test_a_server_between_sees_the_messages() -> None:
    """An application around this one, with a `send` of its own, gets every answer as ASGI messages."""
    app, seen = App(at_once=True), []

    async def around(scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        await app(scope, receive, noting)

    sent, _ = run(uvloop.new_event_loop, around, GET + CLOSE + b"\r\n")
    assert sent.endswith(b"\r\n\r\ntrue")
    assert seen[-2:] == ["http.response.start", "http.response.body"]
    assert app.sent_at_once == [False]


def test_other_responses_take_the_usual_way() -> None:
    def never(*_: Any) -> bool:
        raise AssertionError

    assert not sent_at_once(Response(b"true"), {SEND_PREPARED: never}, None)
    assert not sent_at_once(ANSWERS["/true"], {}, None)


class Recorder:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def write(self, *pieces: bytes) -> None:
        self.calls.append(b"".join(pieces))

    def close(self) -> None:
        self.calls.append("close")


def cycle_with(recorder: Recorder, *, write_paused: bool) -> RequestResponseCycle:
    nothing: Any = None
    return RequestResponseCycle(
        scope={"method": "GET"},  # type: ignore[typeddict-item]
        transport=recorder,  # type: ignore[arg-type]
        flow=SimpleNamespace(write_paused=write_paused),  # type: ignore[arg-type]
        logger=nothing,
        access_logger=nothing,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=False,
        on_response=lambda: recorder.calls.append("on_response"),
    )


def test_what_is_sent_and_what_follows() -> None:
    recorder = Recorder()
    cycle = cycle_with(recorder, write_paused=False)
    assert send_prepared(cycle.send, ANSWERS["/true"])
    assert cycle.response_complete
    assert recorder.calls[1:] == ["close", "on_response"]
    assert recorder.calls[0].startswith(b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 4\r\n")
    assert not send_prepared(cycle.send, ANSWERS["/true"])  # the usual way reports the second answer


def test_a_peer_that_does_not_read_is_awaited_in_the_usual_way() -> None:
    recorder = Recorder()
    assert not send_prepared(cycle_with(recorder, write_paused=True).send, ANSWERS["/true"])
    assert recorder.calls == []


def test_a_peer_that_is_gone_gets_nothing() -> None:
    recorder = Recorder()
    cycle = cycle_with(recorder, write_paused=False)
    cycle.disconnected = True
    assert send_prepared(cycle.send, ANSWERS["/true"])
    assert recorder.calls == []


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_addresses_are_those_of_the_sockets(loop_factory: Any, host: str) -> None:
    """Without asking the socket for them, for each connection."""
    app = App(at_once=True)
    _, client = run(loop_factory, app, GET + CLOSE + b"\r\n", host)
    (scope,) = app.scopes
    assert scope["client"] == client[:2]
    assert scope["server"][0] == host
    assert isinstance(scope["server"][1], int)
    assert scope["scheme"] == "http"


def test_uvicorn_formats_no_line_for_a_connection() -> None:
    """It asks for the level of its own logger, which by default is lower than any."""
    level = create_server(App(at_once=True)).config.log_level
    assert isinstance(level, int)
    assert level > TRACE_LOG_LEVEL


def test_both_sides_of_an_ipv4_address_on_an_ipv6_socket() -> None:
    """A controller that listens on all addresses gets IPv4 clients on an IPv6 socket, with four parts of an address."""
    app = App(at_once=True)

    async def scenario() -> None:
        async with serving(app, "::") as (_, port), asyncio.timeout(TIMEOUT_SECS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, family=socket.AF_INET)
            writer.write(GET + CLOSE + b"\r\n")
            assert (await reader.read()).endswith(b"true")
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
    assert app.scopes[0]["client"][0] == "::ffff:127.0.0.1"
    assert len(app.scopes[0]["client"]) == 2
