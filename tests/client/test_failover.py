"""Who is asked in turn, for how long, and what is said when nobody can serve: over scripted controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.addresses import parse_addresses
from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.failover import Failover, Outcome, Request
from dbgpt_ctl.client.responses import NoResponse, Response
from dbgpt_ctl.errors import ControllerFailed, ControllerRefused, ControllerUnreachable, NotAllowed
from tests.client.talk import OBJECT, VERBS, Controllers, good, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.talk import Talk

REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
LIST = VERBS["list"]
HTML = httpx.Response(200, html="<html>Welcome to nginx!</html>")

PASSED_OVER = {
    "refused": REFUSED,
    "connect timeout": httpx.ConnectTimeout("timed out"),
    "read timeout": httpx.ReadTimeout("timed out"),
    "pool timeout": httpx.PoolTimeout("timed out"),
    "read error": httpx.ReadError("reset"),
    "broken protocol": httpx.RemoteProtocolError("illegal status line"),
    "broken encoding": httpx.DecodingError("not gzip"),
    **{str(status): httpx.Response(status) for status in (500, 501, 502, 503, 504, 507, 599)},
    "problem": problem(503, "the database is away", "registry_unavailable"),
    "created": httpx.Response(201, json=True),
    "no content": httpx.Response(204),
    "redirect": httpx.Response(307, headers={"location": "http://two/api/controller/models"}),
    "page": HTML,
    "object": httpx.Response(200, json={"detail": "hello"}),
    "null": httpx.Response(200, content=b"null"),
    "nothing": httpx.Response(200),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("first", PASSED_OVER.values(), ids=PASSED_OVER)
def test_each_verb_passes_over_a_controller_that_cannot_serve(talk: Talk, verb: str, first: Any) -> None:
    controllers = Controllers(one=first, two=good)
    (outcome,) = talk("http://one,http://two,http://three", VERBS[verb], handler=controllers)
    assert not isinstance(outcome, Exception), outcome
    assert controllers.asked[0] == "one"
    assert controllers.asked[-1] == "two"
    assert {request.method for request in controllers.requests} == {controllers.requests[0].method}
    assert {request.content for request in controllers.requests} == {controllers.requests[0].content}


@pytest.mark.parametrize("verb", ["register", "heartbeat", "deregister"])
def test_a_list_is_no_verdict(talk: Talk, verb: str) -> None:
    controllers = Controllers(one=httpx.Response(200, json=[OBJECT]))
    (outcome,) = talk("http://one", VERBS[verb], handler=controllers)
    assert isinstance(outcome, ControllerFailed)


@pytest.mark.parametrize("wrong", [True, {}, [1], [{}], [OBJECT | {"port": "x"}], [OBJECT | {"host": None}], "x"])
def test_what_is_no_list_of_instances(talk: Talk, wrong: Any) -> None:
    (outcome,) = talk("http://one", LIST, handler=Controllers(one=httpx.Response(200, json=wrong)))
    assert isinstance(outcome, ControllerFailed)
    assert "http://one" in str(outcome)
    assert "not a DB-GPT controller" in str(outcome)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 422, 429])
def test_a_4xx_is_an_answer(talk: Talk, verb: str, status: int) -> None:
    controllers = Controllers(one=httpx.Response(status), two=good)
    (outcome,) = talk("http://one,http://two", VERBS[verb], handler=controllers)
    assert type(outcome) is ControllerRefused
    assert str(status) in str(outcome)
    assert controllers.asked == ["one"]


def test_the_controller_that_answered_last_is_asked_first(talk: Talk) -> None:
    controllers = Controllers(one=REFUSED, two=good, three=good)

    def heal(_client: object) -> None:
        controllers.hosts |= {"one": good, "two": REFUSED}

    talk("http://one,http://two,http://three", LIST, LIST, heal, LIST, LIST, handler=controllers)
    assert controllers.asked == ["one", "two", "two", "two", "three", "three"]


def test_a_refusal_is_an_answer_to_stay_with(talk: Talk) -> None:
    controllers = Controllers(one=REFUSED, two=httpx.Response(422))
    talk("http://one,http://two", LIST, LIST, handler=controllers)
    assert controllers.asked == ["one", "two", "two"]


def test_a_lost_connection_is_tried_once_more(talk: Talk) -> None:
    lost = iter([True, False])

    def one(request: httpx.Request) -> httpx.Response:
        if next(lost):
            raise httpx.ReadError("reset")
        return good(request)

    controllers = Controllers(one=one, two=good)
    (outcome,) = talk("http://one,http://two", LIST, handler=controllers)
    assert outcome.controller == "http://one"
    assert controllers.asked == ["one", "one"]


@pytest.mark.parametrize("error", [REFUSED, httpx.ReadTimeout("x"), httpx.ConnectTimeout("x")])
def test_nothing_else_is_tried_twice(talk: Talk, error: Exception) -> None:
    controllers = Controllers(one=error, two=good)
    talk("http://one,http://two", LIST, handler=controllers)
    assert controllers.asked == ["one", "two"]


@pytest.mark.parametrize(
    ("answers", "kind", "says"),
    [
        ({"one": REFUSED}, ControllerUnreachable, ["http://one:8000", "onnection refused", "ctl serve", "--address"]),
        (
            {"one": REFUSED, "two": httpx.ReadTimeout("x")},
            ControllerUnreachable,
            ["one", "two", "no answer within 5 s"],
        ),
        ({"one": httpx.Response(502)}, ControllerUnreachable, ["502 Bad Gateway", "try again"]),
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
        ({"one": httpx.Response(302)}, ControllerFailed, ["not a DB-GPT controller", "302 Found"]),
        ({"one": httpx.Response(204)}, ControllerFailed, ["not a DB-GPT controller", "204"]),
        ({"one": httpx.Response(799)}, ControllerFailed, ["799"]),
        ({"one": httpx.Response(401)}, NotAllowed, ["401", "user:token@"]),
        ({"one": problem(403, "not you", "forbidden")}, NotAllowed, ["403 not you"]),
        ({"one": problem(429, "full", "registry_full")}, ControllerRefused, ["http://one:8000", "429 full"]),
        ({"one": httpx.Response(404, json={"detail": "Not Found"})}, ControllerRefused, ["404 Not Found", "address"]),
    ],
)
def test_errors_say_who_what_and_what_to_do(
    talk: Talk, answers: dict[str, Any], kind: type[Exception], says: list[str]
) -> None:
    address = ",".join(f"http://user:secret@{host}:8000" for host in answers)
    (outcome,) = talk(address, LIST, handler=Controllers(**answers))
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
    ],
)
def test_the_reason_of_a_refusal(talk: Talk, body: Any, detail: str, code: str | None) -> None:
    (outcome,) = talk("http://one", LIST, handler=Controllers(one=httpx.Response(422, json=body)))
    assert isinstance(outcome, ControllerRefused)
    assert detail in str(outcome)
    assert outcome.problem_code == code
    assert str(outcome).isprintable()
    assert len(str(outcome)) < 400


def test_a_register_answered_false_is_refused(talk: Talk) -> None:
    (outcome,) = talk("http://one", VERBS["register"], handler=Controllers(one=httpx.Response(200, json=False)))
    assert type(outcome) is ControllerRefused


def test_health_of_each_controller(talk: Talk) -> None:
    controllers = Controllers(
        one=REFUSED,
        two=good,
        three=problem(503, "leaving", "registry_unavailable"),
        four=HTML,
        five=httpx.Response(200, json={"status": "ok", "reason": "holding"}),
        six=httpx.Response(204),
        seven=httpx.ReadTimeout("x"),
    )
    address = ",".join(f"http://user:secret@{host}" for host in controllers.hosts)
    (healths,) = talk(address, lambda client: client.health(), handler=controllers)
    assert [(health.controller, health.ok, health.status, health.detail) for health in healths] == [
        ("http://one", False, None, "[Errno 111] Connection refused"),
        ("http://two", True, 200, "ok"),
        ("http://three", False, 503, "leaving"),
        ("http://four", False, 200, "what answers there is not a DB-GPT controller"),
        ("http://five", True, 200, "ok: holding"),
        ("http://six", False, 204, "No Content"),
        ("http://seven", False, None, "no answer within 5 s"),
    ]
    assert [health.latency is None for health in healths] == [True, False, False, False, False, False, True]


class Drive:
    """Drives a flow by hand, with a clock that stands still."""

    def __init__(self, address: str, timeout: float = 6.0) -> None:
        self.now = 0.0
        self.calls = Calls(Failover(parse_addresses(address), timeout, lambda: self.now))
        self.timeouts: list[float] = []

    def list(self, answer: Callable[[Request], Outcome]) -> Any:
        flow = self.calls.list()
        try:
            request = next(flow)
            while True:
                self.timeouts.append(request.timeout)
                request = flow.send(answer(request))
        except StopIteration as done:
            return done.value


def test_controllers_that_swallow_everything_share_the_timeout() -> None:
    drive = Drive("http://a,http://b,http://c")

    def swallow(request: Request) -> NoResponse:
        drive.now += request.timeout
        return NoResponse("silence")

    with pytest.raises(ControllerUnreachable):
        drive.list(swallow)
    assert drive.timeouts == pytest.approx([2.0, 2.0, 2.0])
    assert drive.now == pytest.approx(6.0)


def test_what_a_dead_controller_did_not_use_is_left_to_the_others() -> None:
    drive = Drive("http://a,http://b,http://c")
    with pytest.raises(ControllerUnreachable):
        drive.list(lambda _request: NoResponse("refused"))
    assert drive.timeouts == pytest.approx([2.0, 3.0, 6.0])


def test_one_that_took_too_long_all_the_same_leaves_the_others_a_chance() -> None:
    drive = Drive("http://a,http://b")

    def answer(request: Request) -> Outcome:
        drive.now += 60.0
        return Response(200, {}, b"[]") if request.address.url == "http://b" else NoResponse("slow resolver")

    assert drive.list(answer).objects == []
    assert drive.timeouts == pytest.approx([3.0, 1.5])


def test_a_second_try_has_what_the_first_left() -> None:
    drive = Drive("http://a")

    def answer(request: Request) -> Outcome:
        drive.now += 4.0
        return NoResponse("reset", connection_lost=True) if len(drive.timeouts) == 1 else Response(200, {}, b"[]")

    assert drive.list(answer).objects == []
    assert drive.timeouts == pytest.approx([6.0, 2.0])
