"""What a response means: results, refusals, and the errors in which both end."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from dbgpt_ctl.client.responses import LONG_BYTES, MAX_DEPTH, Response, decoded
from dbgpt_ctl.client.results import KnownInstance, read_time
from dbgpt_ctl.client.status import counts_of, total
from dbgpt_ctl.domain.controllers import ControllerRecord
from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.domain.registry_outage import Hold
from dbgpt_ctl.errors import (
    ControllerFailed,
    ControllerRefused,
    ControllerUnreachable,
    ErrorKind,
    NotAllowed,
    NotFound,
    NotSupported,
)
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.wire.encoding import plain_object
from dbgpt_ctl.wire.status import ModelCounts
from tests.client.clients import KEY, OBJECT, SENT, VERBS, Controllers, good, problem
from tests.client.v1_samples import CALLS, DRAIN, EVENT, KNOWN, NOW, NOWHERE, STATUS, TIME, answers

if TYPE_CHECKING:
    from tests.client.clients import Call, MakeCalls


REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
LIST = VERBS["list"]
(RECORD,) = cast("Any", STATUS["controllers"])
(COUNTS,) = cast("Any", STATUS["models"])
REGISTRY = cast("Any", STATUS["registry"])
HTML = httpx.Response(200, html="<html>Welcome to nginx!</html>")


@pytest.mark.parametrize("verdict", [True, False])
def test_verdicts_are_passed_on(make_calls: MakeCalls, verdict: bool) -> None:
    controllers = Controllers(one=httpx.Response(200, json=verdict))
    calls: list[Call] = [lambda client: client.heartbeat(SENT), lambda client: client.deregister(KEY)]
    assert make_calls("http://one", *calls, handler=controllers) == [verdict, verdict]


def listed(make_calls: MakeCalls, *objects: dict[str, Any], **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    controllers = Controllers(one=httpx.Response(200, json=list(objects), headers=named))
    (outcome,) = make_calls("http://user:secret@one:8000", lambda client: client.list(), handler=controllers)
    return outcome


def test_a_list_keeps_the_raw_objects_and_reads_them(make_calls: MakeCalls) -> None:
    second = OBJECT | {"host": "a", "extra": [1], "last_heartbeat": None, "healthy": False}
    answer = listed(make_calls, OBJECT, second, Date="Fri, 02 Jan 2026 03:04:06 GMT")
    assert answer.objects == [OBJECT, second]
    assert answer.controller == "http://one:8000"
    assert answer.time == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert answer.stale_since is None
    beat = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert answer.instances == (
        KnownInstance("qwen@llm", "10.0.0.4", 8001, 1.0, True, True, True, None, beat),
        KnownInstance("qwen@llm", "a", 8001, 1.0, True, False, True, state=InstanceState.UNHEALTHY),
    )
    assert answer.instances[0].key == KEY


def test_an_empty_list_without_a_date(make_calls: MakeCalls) -> None:
    answer = listed(make_calls)
    assert (answer.objects, answer.instances, answer.time) == ([], (), None)


def test_a_stale_list_says_since_when(make_calls: MakeCalls) -> None:
    answer = listed(make_calls, OBJECT, X_Ctl_Stale_Since="2026-01-02T03:04:05.500000+00:00")
    assert answer.stale_since == datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)


@pytest.mark.parametrize("date", ["yesterday", "", "Fri, 99 Jan 2026 03:04:06 GMT"])
def test_a_malformed_date_is_ignored(make_calls: MakeCalls, date: str) -> None:
    assert listed(make_calls, Date=date).time is None


@pytest.mark.parametrize("verb", ["register", "heartbeat", "deregister"])
def test_a_list_is_not_a_verdict(make_calls: MakeCalls, verb: str) -> None:
    controllers = Controllers(one=httpx.Response(200, json=[OBJECT]))
    (outcome,) = make_calls("http://one", VERBS[verb], handler=controllers)
    assert isinstance(outcome, ControllerUnreachable)


@pytest.mark.parametrize("wrong", [True, {}, [1], [{}], [OBJECT | {"port": "x"}], [OBJECT | {"host": None}], "x"])
def test_a_malformed_list_is_an_error(make_calls: MakeCalls, wrong: Any) -> None:
    (outcome,) = make_calls("http://one", LIST, handler=Controllers(one=httpx.Response(200, json=wrong)))
    assert isinstance(outcome, ControllerUnreachable)
    assert "http://one" in str(outcome)
    assert "not a DB-GPT controller" in str(outcome)


@pytest.mark.parametrize(
    ("answers", "kind", "says"),
    [
        ({"one": REFUSED}, ControllerUnreachable, ["http://one:8000", "onnection refused", "ctl serve", "--address"]),
        (
            {"one": REFUSED, "two": httpx.ReadTimeout("x")},
            ControllerUnreachable,
            ["one", "two", "no answer within 5 s"],
        ),
        (
            {"one": httpx.Response(502)},
            ControllerUnreachable,
            ["502 Bad Gateway", "from a proxy, not from a controller; start the controller"],
        ),
        ({"one": httpx.Response(504)}, ControllerUnreachable, ["504"]),
        (
            {"one": problem(503, "the database is away", "registry_unavailable")},
            ControllerUnreachable,
            ["503 the database is away"],
        ),
        ({"one": httpx.Response(500)}, ControllerFailed, ["http://one:8000: 500 Internal Server Error"]),
        ({"one": httpx.Response(501), "two": problem(500, "oh no", "error")}, ControllerFailed, ["501", "500 oh no"]),
        ({"one": httpx.Response(500), "two": HTML}, ControllerFailed, ["500", "http://two:8000", "not a DB-GPT"]),
        ({"one": httpx.Response(500), "two": REFUSED}, ControllerUnreachable, ["500", "onnection refused"]),
        ({"one": httpx.Response(302)}, ControllerUnreachable, ["not a DB-GPT controller", "302 Found"]),
        ({"one": httpx.Response(204)}, ControllerUnreachable, ["not a DB-GPT controller", "204"]),
        ({"one": httpx.Response(799)}, ControllerFailed, ["799"]),
        ({"one": httpx.Response(401)}, NotAllowed, ["401", "(a token was sent)", "NAME:TOKEN@"]),
        ({"one": problem(403, "not you", "forbidden")}, NotAllowed, ["403 not you"]),
        ({"one": problem(429, "full", "registry_full")}, ControllerRefused, ["http://one:8000", "429 full"]),
        (
            {"one": httpx.Response(404, json={"detail": "Not Found"})},
            ControllerUnreachable,
            ["404 Not Found", "address"],
        ),
        ({"one": httpx.Response(405)}, ControllerUnreachable, ["no controller is there", "405 Method Not Allowed"]),
    ],
)
def test_errors_hold_the_controller_the_reason_and_the_advice(
    make_calls: MakeCalls, answers: dict[str, Any], kind: type[Exception], says: list[str]
) -> None:
    address = ",".join(f"http://user:secret@{host}:8000" for host in answers)
    (outcome,) = make_calls(address, LIST, handler=Controllers(**answers))
    assert type(outcome) is kind
    assert [word for word in says if word not in str(outcome)] == []
    assert str(outcome).isprintable()
    assert "secret" not in repr(outcome)


@pytest.mark.parametrize(
    ("body", "detail", "code"),
    [
        ({"detail": "port 0 is wrong", "code": "invalid_instance"}, "port 0 is wrong", "invalid_instance"),
        ({"title": "Wrong", "code": "x"}, "Wrong", "x"),
        ({"detail": "port 0 is wrong"}, "port 0 is wrong", None),
        (
            {"detail": [{"loc": ["body", "host"], "msg": "Field required"}, {"loc": ["query", "a", 1], "msg": "Bad"}]},
            "host: Field required; a.1: Bad",
            None,
        ),
        ({"detail": [{"msg": "Bad"}, 7, {"loc": 3}]}, "Bad; None", None),
        ({"detail": {"a": 1}, "code": 7}, "Unprocessable", None),
        ([], "Unprocessable", None),
        ({"detail": "two\nlines\t\x1b[31mred\u202e"}, "two lines \\x1b[31mred\\u202e", None),
        ({"detail": "x" * 1000}, "xxx...", None),
        ({"detail": f"dctl_{'aB3-_' * 8} is wrong"}, "******** is wrong", None),
    ],
)
def test_the_reason_of_a_refusal(make_calls: MakeCalls, body: Any, detail: str, code: str | None) -> None:
    (outcome,) = make_calls("http://one", LIST, handler=Controllers(one=httpx.Response(422, json=body)))
    assert isinstance(outcome, ControllerRefused)
    assert detail in str(outcome)
    assert outcome.problem_code == code
    assert str(outcome).isprintable()
    assert len(str(outcome)) < 400


def test_health_of_each_controller(make_calls: MakeCalls) -> None:
    controllers = Controllers(
        one=REFUSED,
        two=good,
        three=problem(503, "leaving", "registry_unavailable"),
        four=HTML,
        five=httpx.Response(200, json={"status": "ok", "reason": "holding"}),
        six=httpx.Response(204),
        seven=httpx.ReadTimeout("x"),
        eight=problem(503, "it goes", "controller_leaving"),
    )
    address = ",".join(f"http://user:secret@{host}" for host in controllers.hosts)
    (healths,) = make_calls(address, lambda client: client.health(), handler=controllers)
    assert [(health.controller, health.condition, health.status, health.detail) for health in healths] == [
        ("http://one", "unreachable", None, "[Errno 111] Connection refused"),
        ("http://two", "healthy", 200, "ok"),
        ("http://three", "unhealthy", 503, "leaving"),
        ("http://four", "unreachable", 200, "what answers there is not a DB-GPT controller (200 OK)"),
        ("http://five", "degraded", 200, "holding"),
        ("http://six", "unreachable", 204, "what answers there is not a DB-GPT controller (204 No Content)"),
        ("http://seven", "unreachable", None, "no answer within 5 s"),
        ("http://eight", "leaving", 503, "it goes"),
    ]
    assert [health.ok for health in healths] == [False, True, False, False, True, False, False, False]
    assert [str(health) for health in healths[1:5:3]] == ["ok", "degraded: holding"]
    assert [health.latency is None for health in healths] == [True, False, False, False, False, False, True, False]


def test_an_inventory_is_read(make_calls: MakeCalls) -> None:
    (report,) = make_calls("http://one", CALLS["instances"], handler=Controllers(one=answers("instances")))
    (known,) = report.instances
    assert (report.controller, report.time, report.held_until, report.stale_since) == ("http://one", NOW, NOW, None)
    assert report.objects == [KNOWN]
    assert (known.key, known.state, known.drain, known.routable) == (KEY, InstanceState.HEALTHY, DRAIN, False)
    assert (known.held, known.flaps, known.removed, known.registered_at) == (True, 2, False, NOW)
    assert (known.object, known.time, known.last_heartbeat) == (KNOWN, NOW, known.last_heartbeat)


def test_the_other_answers_of_v1_are_read(make_calls: MakeCalls) -> None:
    outcomes = {
        verb: make_calls("http://one", CALLS[verb], handler=Controllers(one=answers(verb)))[0] for verb in CALLS
    }
    assert (outcomes["get"].key, outcomes["get"].held_until) == (KEY, NOW)
    assert (outcomes["drain"].instance.drain, outcomes["undrain"].durable) == (DRAIN, True)
    assert (outcomes["register"].instance.drain, outcomes["register"].durable) == (DRAIN, True)
    assert outcomes["prune"] == [KEY]
    page = outcomes["events"]
    assert (page.stream, page.last_id, page.missed, page.objects) == ("s", 7, True, [EVENT])
    (event,) = page.events
    assert (event.id, event.change.time, event.change.key) == (7, NOW, KEY)
    assert (event.change.old, event.change.new, event.change.drained) == ("healthy", "healthy", True)
    assert (event.change.cause.verb, event.change.cause.reason) == ("drain", "why")
    assert event.change.cause.actor == Actor(ActorKind.OPERATOR, "10.0.0.9", "anna")
    assert outcomes["settings"] == {"no_console": (True, "flag --no-console")}
    status = outcomes["status"]
    assert (status.answered_by, status.controller.version) == ("http://one", "1.2")
    assert plain_object(status) | STATUS == plain_object(status)
    timeout, interval = timedelta(seconds=60), timedelta(seconds=20.5)
    assert status.records == [ControllerRecord("a1", "1.2", "http://ctl-1:8000", timeout, interval, NOW, NOW)]
    assert status.holds == [Hold(NOW, NOW, NOW)]


@pytest.mark.parametrize("reply", NOWHERE, ids=["DB-GPT", "a page", "405", "an older ctl"])
@pytest.mark.parametrize("verb", CALLS)
def test_a_controller_without_v1_is_named_in_one_line(make_calls: MakeCalls, verb: str, reply: httpx.Response) -> None:
    def stock(request: httpx.Request) -> httpx.Response:
        return good(request) if request.url.path == "/api/controller/models" else Controllers(one=reply)(request)

    (error,) = make_calls("http://u:secret@one", CALLS[verb], handler=Controllers(one=stock))
    assert type(error) is NotSupported
    assert error.exit_code == 6
    verb_of_v1 = "instance" if verb == "get" else verb
    assert error.detail == f"it has no /api/v1/{verb_of_v1} because it is DB-GPT's own controller or an older ctl"
    assert str(error) == f"http://one does not support this: {error.detail}"
    assert (error.kind, error.controller) == (ErrorKind.NOT_SUPPORTED, "http://one")


@pytest.mark.parametrize("reply", NOWHERE[:3], ids=["FastAPI", "a page", "405"])
@pytest.mark.parametrize("verb", CALLS)
def test_another_server_is_not_taken_for_dbgpts_controller(
    make_calls: MakeCalls, verb: str, reply: httpx.Response
) -> None:
    """It has neither /api/v1 nor DB-GPT's list; the next address is tried."""
    controllers = Controllers(one=reply, two=answers(verb))
    (result,) = make_calls("http://one,http://two", CALLS[verb], handler=controllers)
    assert not isinstance(result, Exception)
    (error,) = make_calls("http://one", CALLS[verb], handler=controllers)
    assert (type(error), error.kind, error.cause) == (
        ControllerUnreachable,
        ErrorKind.NOT_A_CONTROLLER,
        FailureCause.NOT_A_CONTROLLER,
    )


def test_a_controller_that_forwards_to_dbgpts_is_not_supported_either(make_calls: MakeCalls) -> None:
    reply = problem(501, "the controller behind this one: http://two has no /api/v1", "not_supported")
    (error,) = make_calls("http://one", CALLS["drain"], handler=Controllers(one=reply))
    assert type(error) is NotSupported
    assert "http://one does not support this: the controller behind this one: http://two" in str(error)


@pytest.mark.parametrize("verb", ["get", "drain", "undrain"])
def test_an_unknown_instance_is_not_found(make_calls: MakeCalls, verb: str) -> None:
    body = {"status": 404, "detail": "it is not known", "code": "not_found", "instance_key": KEY._asdict()}
    controllers = Controllers(one=httpx.ConnectError("refused"), two=httpx.Response(404, json=body))
    first, second = make_calls("http://one,http://two", CALLS[verb], CALLS[verb], handler=controllers)
    assert type(first) is type(second) is NotFound
    assert str(first) == "it is not known"
    assert controllers.tried == ["one", "two", "two"]  # that was an answer, so it is tried first in the next call


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("body", [b"", b"true", b"[]", b"{}", b'{"instances": 7, "time": 1}', b"{"])
def test_after_a_malformed_answer_of_v1_the_next_controller_is_tried(
    make_calls: MakeCalls, verb: str, body: bytes
) -> None:
    controllers = Controllers(one=httpx.Response(200, content=body), two=answers(verb))
    good, bad = (
        make_calls(address, CALLS[verb], handler=controllers)[0] for address in ("http://one,http://two", "http://one")
    )
    assert not isinstance(good, Exception)
    assert type(bad) is ControllerUnreachable


@pytest.mark.parametrize(("levels", "is_read"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (900, False)])
def test_json_is_read_up_to_a_depth(levels: int, *, is_read: bool) -> None:
    """Python reads 900 levels, and cannot print them as YAML."""
    body = b"[" * levels + b"]" * levels
    assert (Response(200, {}, body).json() is not None) is is_read
    assert (decoded(b'[1,{"a":' + body[2:-2] + b"}]") is not None) is is_read


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00"])
def test_a_time_at_an_end_of_the_calendar_is_none(text: str) -> None:
    """It has no value in UTC or in the zone of this host."""
    assert read_time(text) is None


def test_a_long_answer_that_is_no_list_of_instances_or_tokens_is_not_decoded() -> None:
    for item in (b'{"model_name":"a@llm"},', b'{"name":"a-token"},'):
        listed = b"[" + item * (LONG_BYTES // len(item) + 1) + b"{}]"
        assert Response(200, {}, listed).json() is not None
    for long in (b'"' + b"a" * LONG_BYTES + b'"', b"[" + b"[]," * LONG_BYTES + b"1]", b"[" * LONG_BYTES * 2):
        assert Response(200, {}, long).json() is None
    assert Response(200, {}, b'"' + b"a" * (LONG_BYTES - 2) + b'"').json() is not None


@pytest.mark.parametrize("status", [200, 400, 404, 500])
@pytest.mark.parametrize("call", [LIST, CALLS["status"], lambda client: client.health()])
def test_json_nested_too_deep_to_be_read_is_no_json(make_calls: MakeCalls, call: Call, status: int) -> None:
    deep, page = (httpx.Response(status, content=body) for body in (b'{"detail":' + b"[" * 200_000, b"<html>"))
    (outcome,) = make_calls("http://one", call, handler=Controllers(one=deep))
    (same,) = make_calls("http://one", call, handler=Controllers(one=page))
    if isinstance(same, Exception):
        assert (type(outcome), str(outcome)) == (type(same), str(same))
    else:
        assert (outcome[0].condition, outcome[0].detail) == (same[0].condition, same[0].detail)


MANY_DIGITS = int("9" * 4300)
"""Python reads it, and fails to print a sum of it."""


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("status", STATUS | {"controllers": [RECORD | {"heartbeat_timeout_secs": 1e308}]}),
        ("status", STATUS | {"watchers": float("inf")}),
        ("status", STATUS | {"watchers": MANY_DIGITS}),
        ("status", STATUS | {"registry": REGISTRY | {"place": {}}}),
        ("status", STATUS | {"registry": REGISTRY | {"reason": [1]}}),
        ("status", STATUS | {"settings": {"heartbeat_timeout_secs": "long"}}),
        ("status", STATUS | {"settings": {"heartbeat_interval_secs": MANY_DIGITS}}),
        ("status", STATUS | {"settings": {"max_instances": {"a": 1}}}),
        ("status", STATUS | {"models": [COUNTS | {"model_name": None}]}),
        ("status", STATUS | {"tls": {"port": 8443, "not_after": None, "problem": ["none"]}}),
        ("status", STATUS | {"outages": [{"gone_at": TIME, "back_at": None, "held_until": TIME}]}),
        ("status", STATUS | {"auth": {"mode": "log", "tokens_file": {"digest": "", "tokens": 1, "problem": {"a": 1}}}}),
        ("events", {"events": [EVENT | {"time": "0001-01-01T00:00:00+14:00"}], "stream": "s", "last_id": 1}),
        ("events", {"events": [EVENT | {"actor_name": 5}], "stream": "s", "last_id": 7, "missed": False}),
        ("events", {"events": [EVENT | {"address": [1]}], "stream": "s", "last_id": 7, "missed": False}),
        ("instances", {"instances": [KNOWN | {"flaps": float("inf")}]}),
        ("settings", {"settings": [{"name": "port", "value": 1, "origin": None}]}),
        ("settings", {"settings": [{"name": ["port"], "value": 1, "origin": "default"}]}),
    ],
)
def test_values_that_no_controller_has_are_malformed(make_calls: MakeCalls, verb: str, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    (error,) = make_calls("http://one", CALLS[verb], handler=Controllers(one=httpx.Response(200, content=body)))
    assert type(error) is ControllerUnreachable


TRUSTED_TYPES = {"Content-Security-Policy": "default-src 'none'; require-trusted-types-for 'script'"}


def test_the_console_is_at_the_controller_that_answers(make_calls: MakeCalls) -> None:
    page = httpx.Response(200, html="<!DOCTYPE html>", headers=TRUSTED_TYPES)
    controllers = Controllers(one=httpx.Response(503), two=page)
    (url,) = make_calls(
        "http://u:secret@one,http://u:secret@two:8000/prefix/", lambda client: client.console(), handler=controllers
    )
    assert url == "http://two:8000/prefix/console/"
    asked = controllers.requests[-1]
    assert (asked.method, asked.url.path, asked.headers["accept"]) == ("GET", "/prefix/console/", "text/html")


@pytest.mark.parametrize(
    "page",
    [
        httpx.Response(200, html="<!DOCTYPE html>"),
        httpx.Response(200, json={}, headers=TRUSTED_TYPES),
        httpx.Response(302, headers={"Location": "http://elsewhere"}),
    ],
)
def test_another_page_is_not_taken_for_the_console(make_calls: MakeCalls, page: httpx.Response) -> None:
    (error,) = make_calls("http://one", lambda client: client.console(), handler=Controllers(one=page))
    assert type(error) is ControllerUnreachable


def test_an_older_controller_sends_no_name_of_a_token(make_calls: MakeCalls) -> None:
    older = {name: value for name, value in EVENT.items() if name != "actor_name"}
    body = json.dumps({"events": [older], "stream": "s", "last_id": 7, "missed": False}).encode()
    answer = Controllers(one=httpx.Response(200, content=body))
    (page,) = make_calls("http://one", lambda client: client.events(), handler=answer)
    assert page.events[0].change.cause.actor == Actor(ActorKind.OPERATOR, "10.0.0.9")


def test_of_a_list_only_the_nine_keys_are_read(make_calls: MakeCalls) -> None:
    more = OBJECT | {"state": "asleep", "flaps": "many", "held": True, "removed": True}
    answer = listed(make_calls, more)
    assert answer.instances == listed(make_calls, OBJECT).instances
    assert answer.instances[0].object == more


@pytest.mark.parametrize(("code", "retries"), [("registry_unavailable", True), ("registry_unusable", False)])
def test_what_no_time_repairs_is_not_to_be_tried_again(make_calls: MakeCalls, code: str, *, retries: bool) -> None:
    (error,) = make_calls("http://one", LIST, handler=Controllers(one=problem(503, "why", code)))
    assert str(error).endswith("; try again later" if retries else "503 why")


@pytest.mark.parametrize("verb", CALLS)
def test_other_refusals_of_v1_are_those_of_every_call(make_calls: MakeCalls, verb: str) -> None:
    controllers = Controllers(one=problem(422, "no", "invalid_instance"), two=problem(403, "no", "forbidden"))
    refused, forbidden = (make_calls(f"http://{host}", CALLS[verb], handler=controllers)[0] for host in ("one", "two"))
    assert type(refused) is ControllerRefused
    assert type(forbidden) is NotAllowed


@pytest.mark.parametrize(
    ("healthy", "enabled", "state", "drain"),
    [
        (True, True, InstanceState.HEALTHY, None),
        (True, False, InstanceState.HEALTHY, DrainFacts()),
        (False, True, InstanceState.UNHEALTHY, None),
        (False, False, InstanceState.UNHEALTHY, DrainFacts()),
    ],
)
def test_the_state_and_the_drain_that_the_nine_keys_show(
    healthy: bool, enabled: bool, state: InstanceState, drain: DrainFacts | None
) -> None:
    known = KnownInstance.read(OBJECT | {"healthy": healthy, "enabled": enabled})
    assert (known.state, known.drain, known.routable) == (state, drain, healthy and enabled)


def test_the_counts_of_instances() -> None:
    facts = [("healthy", True), ("healthy", False), ("unhealthy", True), ("unhealthy", False), ("deregistered", False)]
    instances = [
        KnownInstance.read(OBJECT | {"healthy": state == "healthy", "enabled": enabled, "state": state})
        for state, enabled in facts
    ]
    counts = counts_of(instances, "qwen@llm")
    assert counts == ModelCounts(
        model_name="qwen@llm",
        healthy=2,
        unhealthy=2,
        deregistered=1,
        routable=1,
        held=0,
        drained=3,
        unhealthy_drained=1,
        unchecked=0,
    )
    assert (total([counts, counts]).drained, total([]).healthy) == (6, 0)


def test_a_heartbeat_without_an_offset_is_in_this_hosts_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-05:30")
        time.tzset()
        read = KnownInstance.read(OBJECT | {"last_heartbeat": "2026-01-02T03:04:05.678901"}).last_heartbeat
    time.tzset()
    assert read is not None
    assert read.utcoffset() == timedelta(hours=5, minutes=30)
    assert read == datetime(2026, 1, 1, 21, 34, 5, 678901, tzinfo=UTC)


@pytest.mark.parametrize("beat", [None, "", "soon", 17, "2026-13-01T00:00:00"])
def test_a_heartbeat_that_is_not_a_time_is_none(beat: Any) -> None:
    assert KnownInstance.read(OBJECT | {"last_heartbeat": beat}).last_heartbeat is None
