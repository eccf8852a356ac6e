"""A watch: its request, its messages, and how it ends."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.client import watch as watch_module
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.client.watch import MAX_LINE_BYTES, MAX_MESSAGE_BYTES, read_messages
from dbgpt_ctl.errors import ControllerUnreachable, NotSupported
from dbgpt_ctl.settings.addresses import parse_address
from tests.client.clients import Controllers, good, problem
from tests.client.servers import behaving, read_request
from tests.client.v1_samples import EVENT, NOWHERE
from tests.support.fake_controller import fake_controller

if TYPE_CHECKING:
    import socket


ADDRESS = parse_address("http://one")


def stream(*parts: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=iter(parts))


def watched(*parts: bytes, address: str = "http://one", **more: Any) -> list[Any]:
    hosts: dict[str, Any] = {"one": lambda _request: stream(*parts), **more}
    with (
        ControllerClient(address, transport=httpx.MockTransport(Controllers(**hosts))) as client,
        closing(client.watch(model_name="qwen@llm", cursor="s.6")) as watch,
    ):
        return list(watch)


def test_a_watch_yields_what_is_streamed() -> None:
    change = f"event: change\nid: s.7\ndata: {json.dumps(EVENT)}\n\n".encode()
    messages = watched(
        b'event: ready\nid: s.6\ndata: {"cursor":"s.6"}\n\n: keep-alive\n\n' + change[:30],
        change[30:] + b"event: of a newer release\ndata: {}\n\n",
        b'event: reset\nid: t.1\ndata: {"reason":"gone\\n","cursor":"t.1"}\n\nevent: leaving\ndata: {}\n\nevent: ready',
    )
    assert [message.kind for message in messages] == ["ready", "change", "reset", "leaving"]
    assert [message.cursor for message in messages[:3]] == ["s.6", "s.7", "t.1"]
    assert messages[1].event.id == 7
    assert messages[1].object == EVENT
    assert messages[2].reason == "gone"


def test_a_watch_goes_to_the_first_that_answers() -> None:
    away: dict[str, Any] = {"zero": problem(503, "leaving", "registry_unavailable")}
    address = "http://zero,http://one"
    assert [message.kind for message in watched(b"event: leaving\ndata: {}\n\n", address=address, **away)] == [
        "leaving"
    ]


def test_a_watch_that_no_controller_serves() -> None:
    def stock(request: httpx.Request) -> httpx.Response:
        return good(request) if request.url.path == "/api/controller/models" else NOWHERE[0]

    with (
        ControllerClient("http://one", transport=httpx.MockTransport(Controllers(one=stock))) as client,
        pytest.raises(NotSupported, match="has no /api/v1/watch"),
    ):
        next(client.watch())
    with (
        ControllerClient(
            "http://one", transport=httpx.MockTransport(Controllers(one=httpx.ConnectError("refused")))
        ) as client,
        pytest.raises(ControllerUnreachable),
    ):
        next(client.watch())


@pytest.mark.parametrize("body", [b"event: change\ndata: {}\n\n", b"event: ready\ndata: [\n\n", b"event: \xff\n\n"])
def test_a_watch_of_something_else_fails(body: bytes) -> None:
    with pytest.raises(ControllerUnreachable):
        watched(body)


def test_an_answer_that_is_no_stream_is_no_watch() -> None:
    with fake_controller(body={}) as fake, ControllerClient(fake.url) as client, pytest.raises(ControllerUnreachable):
        next(client.watch())


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_messages_are_the_same_in_any_pieces(size: int) -> None:
    body = b"id: 1\r\nevent: a\r\ndata: x\r\ndata:y\r\n\r\n: no\n\nid: 2\ndata: \xc3\xa4\n\ndata: cut"
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert list(read_messages(chunks, ADDRESS)) == [("a", "x\ny", "1"), ("message", "ä", "2")]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"x" * 1000] * (MAX_LINE_BYTES // 1000 + 2),
        [b"data: " + b"x" * MAX_LINE_BYTES + b"\n\n"],
        [b"data: x\n"] * (MAX_MESSAGE_BYTES // 7 + 2),
    ],
    ids=["a line without an end", "a long line", "a message without an end"],
)
def test_lines_and_messages_are_bounded(chunks: list[bytes]) -> None:
    with pytest.raises(ControllerUnreachable, match="without an end"):
        list(read_messages(chunks, ADDRESS))


def test_silence_ends_a_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout of the request bounds only the wait for the head."""
    monkeypatch.setattr(watch_module, "SILENCE_SECS", 0.05)

    def behave(connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        connection.sendall(b'event: ready\nid: s.1\ndata: {"cursor":"s.1"}\n\n')
        connection.recv(1)

    with behaving(behave) as url, ControllerClient(url, timeout=60) as client:
        watch = client.watch()
        assert next(watch).cursor == "s.1"
        with pytest.raises(ControllerUnreachable, match=r"nothing came for 0\.05 s"):
            next(watch)
