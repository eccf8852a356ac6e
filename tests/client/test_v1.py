"""The verbs of /api/v1: what is sent, what an answer means, and what DB-GPT's own controller says to them."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.addresses import parse_address
from dbgpt_ctl.client import ControllerClient
from dbgpt_ctl.client import watch as watch_module
from dbgpt_ctl.client.watch import MAX_LINE_BYTES, MAX_MESSAGE_BYTES, read_messages
from dbgpt_ctl.domain.events import ActorKind
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import (
    ControllerFailed,
    ControllerRefused,
    ControllerUnreachable,
    ErrorKind,
    NotAllowed,
    NotFound,
    NotSupported,
)
from tests.client.servers import behaving, read_request
from tests.client.talk import KEY, OBJECT, SENT, Controllers, problem
from tests.support.fake_controller import fake_controller

if TYPE_CHECKING:
    import socket

    from tests.client.talk import Talk

ADDRESS = parse_address("http://one")
TIME = "2026-01-02T03:04:05.678901+00:00"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
KNOWN = OBJECT | {
    "state": "drained",
    "registered_at": TIME,
    "deregistered_at": None,
    "refused_at": None,
    "drained_at": TIME,
    "drained_by": "10.0.0.9",
    "drain_reason": "why",
    "flaps": 2,
    "removed": False,
    "of a newer release": 1,
}
EVENT = {
    "id": 7,
    "time": TIME,
    **KEY._asdict(),
    "old": "healthy",
    "new": "drained",
    "verb": "drain",
    "actor": "operator",
    "address": "10.0.0.9",
    "reason": "why",
}
STATUS = {
    "version": 1,
    "time": TIME,
    "controller": {"version": "1.2", "started_at": TIME, "leaving": False},
    "registry": {"kind": "mariadb", "place": "db1/dbgpt", "durable": True, "ready": True, "reason": None},
    "settings": {"heartbeat_interval_secs": 20, "heartbeat_timeout_secs": 60, "max_instances": 9},
    "stale_since": None,
    "held_until": TIME,
    "models": [{"model_name": "qwen@llm", "healthy": 1, "unhealthy": 2, "drained": 3, "deregistered": 4}],
    "watchers": 5,
    "last_event_id": 7,
}
ANSWERS: dict[str, Any] = {
    "instances": {"version": 1, "time": TIME, "stale_since": None, "held_until": TIME, "instances": [KNOWN]},
    "get": {"version": 1, "time": TIME, "instance": KNOWN},
    "drain": {"version": 1, "instance": KNOWN, "durable": True},
    "undrain": {"version": 1, "instance": KNOWN, "durable": True},
    "prune": {"version": 1, "dry_run": True, "instances": [KEY._asdict()]},
    "events": {"version": 1, "stream": "s", "last_id": 7, "missed": True, "events": [EVENT]},
    "status": STATUS,
}
CALLS: dict[str, Any] = {
    "instances": lambda client: client.instances("qwen@llm", host="10.0.0.4", state="drained"),
    "get": lambda client: client.get(KEY),
    "drain": lambda client: client.drain(KEY, reason="why"),
    "undrain": lambda client: client.undrain(KEY),
    "prune": lambda client: client.prune(timedelta(hours=1), dry_run=True),
    "events": lambda client: client.events(after=3, since=NOW, model_name="qwen@llm", host="10.0.0.4", port=1, limit=9),
    "status": lambda client: client.status(),
}
REQUESTS = {
    "instances": ("GET", "/api/v1/instances", {"model_name": "qwen@llm", "host": "10.0.0.4", "state": "drained"}),
    "get": ("GET", "/api/v1/instance", {"model_name": "qwen@llm", "host": "10.0.0.4", "port": "8001"}),
    "drain": ("POST", "/api/v1/drain", KEY._asdict() | {"reason": "why"}),
    "undrain": ("POST", "/api/v1/undrain", KEY._asdict()),
    "prune": ("POST", "/api/v1/prune", {"older_than_secs": 3600.0, "dry_run": True}),
    "events": (
        "GET",
        "/api/v1/events",
        {"after": "3", "since": TIME, "model_name": "qwen@llm", "host": "10.0.0.4", "port": "1", "limit": "9"},
    ),
    "status": ("GET", "/api/v1/status", {}),
}


def answers(verb: str) -> httpx.Response:
    return httpx.Response(200, json=ANSWERS[verb])


@pytest.mark.parametrize("verb", CALLS)
def test_what_is_sent(talk: Talk, verb: str) -> None:
    controllers = Controllers(one=answers(verb))
    talk("http://one", CALLS[verb], handler=controllers, actor="operator")
    (request,) = controllers.requests
    sent = json.loads(request.content) if request.method == "POST" else dict(request.url.params)
    assert (request.method, request.url.path, sent) == REQUESTS[verb]
    assert request.headers["x-ctl-actor"] == "operator"


def test_without_an_actor_it_is_a_worker(talk: Talk) -> None:
    controllers = Controllers(one=httpx.Response(200, json=True))
    talk("http://one", lambda client: client.heartbeat(SENT), handler=controllers)
    assert "x-ctl-actor" not in controllers.requests[0].headers


def test_what_is_read(talk: Talk) -> None:
    (report,) = talk("http://one", CALLS["instances"], handler=Controllers(one=answers("instances")))
    (known,) = report.instances
    assert (report.controller, report.time, report.held_until, report.stale_since) == ("http://one", NOW, NOW, None)
    assert report.objects == [KNOWN]
    assert (known.key, known.state, known.drained_at, known.drained_by) == (KEY, InstanceState.DRAINED, NOW, "10.0.0.9")
    assert (known.drain_reason, known.flaps, known.removed, known.registered_at) == ("why", 2, False, NOW)
    assert (known.object, known.time, known.last_heartbeat) == (KNOWN, NOW, known.last_heartbeat)


def test_what_is_read_of_the_others(talk: Talk) -> None:
    outcomes = {verb: talk("http://one", CALLS[verb], handler=Controllers(one=answers(verb)))[0] for verb in CALLS}
    assert outcomes["get"].key == KEY
    assert (outcomes["drain"].instance.state, outcomes["undrain"].durable) == (InstanceState.DRAINED, True)
    assert outcomes["prune"] == [KEY]
    page = outcomes["events"]
    assert (page.stream, page.last_id, page.missed, page.objects) == ("s", 7, True, [EVENT])
    (event,) = page.events
    assert (event.id, event.change.time, event.change.key) == (7, NOW, KEY)
    assert (event.change.old, event.change.new) == ("healthy", "drained")
    assert (event.change.cause.verb, event.change.cause.reason) == ("drain", "why")
    assert (event.change.cause.actor.kind, event.change.cause.actor.address) == (ActorKind.OPERATOR, "10.0.0.9")
    status = outcomes["status"]
    assert (status.controller, status.version, status.kind, status.place) == (
        "http://one",
        "1.2",
        "mariadb",
        "db1/dbgpt",
    )
    assert (status.models[0].deregistered, status.watchers, status.last_event_id) == (4, 5, 7)
    assert status.object == STATUS


NOWHERE = [
    httpx.Response(404, json={"detail": "Not Found"}),
    httpx.Response(404, text="<html>"),
    httpx.Response(405, json={"detail": "Method Not Allowed"}),
    problem(404, "GET '/api/v1/drain': Not Found", "not_found"),
]


@pytest.mark.parametrize("reply", NOWHERE, ids=["DB-GPT", "a page", "405", "an older ctl"])
@pytest.mark.parametrize("verb", CALLS)
def test_a_controller_without_v1_is_named_in_one_line(talk: Talk, verb: str, reply: httpx.Response) -> None:
    (error,) = talk("http://u:secret@one", CALLS[verb], handler=Controllers(one=reply))
    assert type(error) is NotSupported
    assert error.exit_code == 6
    said = "instance" if verb == "get" else verb
    assert error.detail == f"it has no /api/v1/{said} because it is DB-GPT's own controller or an older ctl"
    assert str(error) == f"http://one does not support this: {error.detail}"
    assert (error.kind, error.controller) == (ErrorKind.NOT_SUPPORTED, "http://one")


def test_what_forwards_to_one_says_so_too(talk: Talk) -> None:
    reply = problem(501, "the controller behind this one: http://two has no /api/v1", "not_supported")
    (error,) = talk("http://one", CALLS["drain"], handler=Controllers(one=reply))
    assert type(error) is NotSupported
    assert "http://one does not support this: the controller behind this one: http://two" in str(error)


@pytest.mark.parametrize("verb", ["get", "drain", "undrain"])
def test_an_unknown_instance_is_not_found(talk: Talk, verb: str) -> None:
    body = {"status": 404, "detail": "it is not known", "code": "not_found", "instance_key": KEY._asdict()}
    controllers = Controllers(one=httpx.ConnectError("refused"), two=httpx.Response(404, json=body))
    first, second = talk("http://one,http://two", CALLS[verb], CALLS[verb], handler=controllers)
    assert type(first) is type(second) is NotFound
    assert str(first) == "it is not known"
    assert controllers.asked == ["one", "two", "two"]  # that was an answer: it is asked first next time


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("body", [b"", b"true", b"[]", b"{}", b'{"instances": 7, "time": 1}', b"{"])
def test_what_is_no_answer_of_v1_is_passed_over(talk: Talk, verb: str, body: bytes) -> None:
    controllers = Controllers(one=httpx.Response(200, content=body), two=answers(verb))
    good, bad = (
        talk(address, CALLS[verb], handler=controllers)[0] for address in ("http://one,http://two", "http://one")
    )
    assert not isinstance(good, Exception)
    assert type(bad) is ControllerFailed


@pytest.mark.parametrize("verb", CALLS)
def test_other_refusals_are_as_ever(talk: Talk, verb: str) -> None:
    controllers = Controllers(one=problem(422, "no", "invalid_instance"), two=problem(403, "no", "forbidden"))
    refused, forbidden = (talk(f"http://{host}", CALLS[verb], handler=controllers)[0] for host in ("one", "two"))
    assert type(refused) is ControllerRefused
    assert type(forbidden) is NotAllowed


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
    assert [each.kind for each in messages] == ["ready", "change", "reset", "leaving"]
    assert [each.cursor for each in messages[:3]] == ["s.6", "s.7", "t.1"]
    assert messages[1].event.id == 7
    assert messages[1].object == EVENT
    assert messages[2].reason == "gone"


def test_a_watch_goes_to_the_first_that_answers() -> None:
    away: dict[str, Any] = {"zero": problem(503, "leaving", "registry_unavailable")}
    address = "http://zero,http://one"
    assert [each.kind for each in watched(b"event: leaving\ndata: {}\n\n", address=address, **away)] == ["leaving"]


def test_a_watch_that_nobody_serves() -> None:
    with (
        ControllerClient("http://one", transport=httpx.MockTransport(Controllers(one=NOWHERE[0]))) as client,
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
    with pytest.raises(ControllerFailed):
        watched(body)


def test_an_answer_that_is_no_stream_is_no_watch() -> None:
    with fake_controller() as fake, ControllerClient(fake.url) as client, pytest.raises(ControllerFailed):
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
    with pytest.raises(ControllerFailed, match="without an end"):
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


INVENTORY: Any = lambda client: client.inventory("qwen@llm", host="10.0.0.4")  # noqa: E731


def test_an_inventory_of_a_controller_with_v1_is_complete(talk: Talk) -> None:
    controllers = Controllers(one=answers("instances"))
    (inventory,) = talk("http://one", INVENTORY, handler=controllers)
    (known,) = inventory.instances
    assert (inventory.complete, inventory.controller, inventory.time) == (True, "http://one", NOW)
    assert (inventory.held_until, inventory.stale_since, inventory.objects) == (NOW, None, [KNOWN])
    assert (known.state, known.drained_at, known.flaps) == (InstanceState.DRAINED, NOW, 2)
    assert [request.url.path for request in controllers.requests] == ["/api/v1/instances"]


def dbgpt(request: httpx.Request) -> httpx.Response:
    """DB-GPT's own controller, which has no /api/v1 and knows no filter by host."""
    if "/api/v1/" in request.url.path:
        return httpx.Response(404, json={"detail": "Not Found"})
    headers = {"Date": "Fri, 02 Jan 2026 03:04:06 GMT"}
    return httpx.Response(200, json=[OBJECT, OBJECT | {"host": "other", "healthy": False}], headers=headers)


def test_an_inventory_of_dbgpts_controller_holds_the_nine_keys(talk: Talk) -> None:
    controllers = Controllers(one=dbgpt)
    on_host, everywhere = talk(
        "http://one", INVENTORY, lambda client: client.inventory("qwen@llm"), handler=controllers
    )
    assert (on_host.complete, on_host.controller) == (False, "http://one")
    assert on_host.time == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert on_host.objects == [OBJECT]
    assert [(found.host, found.state) for found in everywhere.instances] == [
        ("10.0.0.4", InstanceState.HEALTHY),
        ("other", InstanceState.UNHEALTHY),
    ]
    facts = ("registered_at", "deregistered_at", "refused_at", "drained_at", "drained_by", "drain_reason")
    assert [getattr(on_host.instances[0], name) for name in facts] == [None] * len(facts)
    assert controllers.requests[1].url.raw_path == b"/api/controller/models?model_name=qwen%40llm"


def test_an_inventory_that_has_to_be_complete_is_not_supported_by_dbgpts_controller(talk: Talk) -> None:
    controllers = Controllers(one=dbgpt)
    (error,) = talk("http://one", lambda client: client.inventory(require_complete=True), handler=controllers)
    assert type(error) is NotSupported
    assert len(controllers.requests) == 1


def test_other_errors_of_an_inventory_are_raised(talk: Talk) -> None:
    controllers = Controllers(one=problem(403, "no", "forbidden"))
    (error,) = talk("http://one", INVENTORY, handler=controllers)
    assert type(error) is NotAllowed
    assert len(controllers.requests) == 1
