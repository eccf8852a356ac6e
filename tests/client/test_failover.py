"""Which controllers are tried, in which order and for how long: over scripted controllers, and by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.failover import ANNOUNCED_SECS, STATUS, Failover, Flow, Outcome, Request, drive
from dbgpt_ctl.client.responses import NoResponse, Response
from dbgpt_ctl.client.results import EventReport
from dbgpt_ctl.errors import ControllerRefused, ControllerUnreachable, InvalidInstance, NotSupported
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.settings.addresses import parse_addresses
from tests.client.clients import SENT, VERBS, Controllers, good, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.client.clients import MakeCalls


REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
LIST = VERBS["list"]
EVENTS = "/api/v1/events"
PAGE = {"events": [], "last_id": 0, "missed": False}
HTML = httpx.Response(200, html="<html>Welcome to nginx!</html>")

CANNOT_SERVE = {
    "refused": REFUSED,
    "connect timeout": httpx.ConnectTimeout("timed out"),
    "read timeout": httpx.ReadTimeout("timed out"),
    "pool timeout": httpx.PoolTimeout("timed out"),
    "read error": httpx.ReadError("reset"),
    "broken protocol": httpx.RemoteProtocolError("illegal status line"),
    "broken encoding": httpx.DecodingError("not gzip"),
    **{str(status): httpx.Response(status) for status in (404, 405, 500, 501, 502, 503, 504, 507, 599)},
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
@pytest.mark.parametrize("first", CANNOT_SERVE.values(), ids=CANNOT_SERVE)
def test_each_call_goes_on_to_the_next_controller_when_one_cannot_serve(
    make_calls: MakeCalls, verb: str, first: Any
) -> None:
    controllers = Controllers(one=first, two=good)
    (outcome,) = make_calls("http://one,http://two,http://three", VERBS[verb], handler=controllers)
    assert not isinstance(outcome, Exception), outcome
    assert controllers.tried[0] == "one"
    assert controllers.tried[-1] == "two"
    sent = [request for request in controllers.requests if request.url.scheme == "http"]
    assert {request.method for request in sent} == {sent[0].method}
    assert {request.content for request in sent} == {sent[0].content}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 422, 429])
def test_a_4xx_of_a_controller_is_an_answer(make_calls: MakeCalls, verb: str, status: int) -> None:
    controllers = Controllers(one=problem(status, "no", "not_that"), two=good)
    (outcome,) = make_calls("http://one,http://two", VERBS[verb], handler=controllers)
    assert type(outcome) is ControllerRefused
    assert str(status) in str(outcome)
    assert controllers.tried == ["one"]


def test_the_controller_that_answered_last_is_tried_first(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=REFUSED, two=good, three=good)

    def heal(_client: object) -> None:
        controllers.hosts |= {"one": good, "two": REFUSED}

    make_calls("http://one,http://two,http://three", LIST, LIST, heal, LIST, LIST, handler=controllers)
    assert controllers.tried == ["one", "two", "two", "two", "three", "three"]


def test_a_controller_that_refuses_is_tried_first_in_the_next_call(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=REFUSED, two=httpx.Response(422))
    make_calls("http://one,http://two", LIST, LIST, handler=controllers)
    assert controllers.tried == ["one", "two", "two"]


def test_a_lost_connection_is_tried_once_more(make_calls: MakeCalls) -> None:
    lost = iter([True, False])

    def one(request: httpx.Request) -> httpx.Response:
        if next(lost):
            raise httpx.ReadError("reset")
        return good(request)

    controllers = Controllers(one=one, two=good)
    (outcome,) = make_calls("http://one,http://two", LIST, handler=controllers)
    assert outcome.controller == "http://one"
    assert controllers.tried == ["one", "one"]


@pytest.mark.parametrize("error", [REFUSED, httpx.ReadTimeout("x"), httpx.ConnectTimeout("x")])
def test_nothing_else_is_tried_twice(make_calls: MakeCalls, error: Exception) -> None:
    controllers = Controllers(one=error, two=good)
    make_calls("http://one,http://two", LIST, handler=controllers)
    assert controllers.tried == ["one", "two"]


class Driver:
    """Runs calls over scripted outcomes, with a clock that stands still."""

    def __init__(self, address: str, timeout: float = 6.0) -> None:
        self.now = 0.0
        self.calls = Calls(Failover(parse_addresses(address), timeout, lambda: self.now))
        self.timeouts: list[float] = []

    def list(self, answer: Callable[[Request], Outcome]) -> Any:
        return self.run(self.calls.list(), answer)

    def run(self, flow: Flow[Any], answer: Callable[[Request], Outcome]) -> Any:
        self.answer = answer
        return drive(flow, self.send)

    def send(self, request: Request) -> Outcome:
        self.timeouts.append(request.timeout)
        return self.answer(request)


def test_controllers_that_never_answer_share_the_timeout() -> None:
    driver = Driver("http://a,http://b,http://c")

    def time_out(request: Request) -> NoResponse:
        driver.now += request.timeout
        return NoResponse("silence")

    with pytest.raises(ControllerUnreachable):
        driver.list(time_out)
    assert driver.timeouts == pytest.approx([2.0, 2.0, 2.0])
    assert driver.now == pytest.approx(6.0)


def test_each_controller_has_the_whole_timeout_for_a_change_and_its_share_to_connect() -> None:
    driver = Driver("http://a,http://b")
    driver.calls.failover.change_timeout = 6.0
    connects = []

    def away(request: Request) -> Response:
        connects.append(request.connect_timeout)
        driver.now += 4.0
        return Response(503, {}, problem(503, "the database is away", "registry_unavailable").content)

    with pytest.raises(ControllerUnreachable, match="http://a: 503 the database is away; http://b: 503 the database"):
        driver.run(driver.calls.register(SENT), away)
    assert driver.timeouts == [6.0, 6.0]
    assert connects == pytest.approx([2.7, 1.8])


def test_what_a_dead_controller_did_not_use_is_left_to_the_others() -> None:
    driver = Driver("http://a,http://b,http://c")
    with pytest.raises(ControllerUnreachable):
        driver.list(lambda _request: NoResponse("refused"))
    assert driver.timeouts == pytest.approx([2.0, 3.0, 6.0])


def test_a_controller_that_exceeds_its_share_leaves_the_others_some_time() -> None:
    driver = Driver("http://a,http://b")

    def answer(request: Request) -> Outcome:
        driver.now += 60.0
        return Response(200, {}, b"[]") if request.address.url == "http://b" else NoResponse("slow resolver")

    assert driver.list(answer).objects == []
    assert driver.timeouts == pytest.approx([3.0, 1.5])


def test_a_retry_has_the_time_that_the_first_try_left() -> None:
    driver = Driver("http://a")

    def answer(request: Request) -> Outcome:
        driver.now += 4.0
        return NoResponse("reset", FailureCause.RESET) if len(driver.timeouts) == 1 else Response(200, {}, b"[]")

    assert driver.list(answer).objects == []
    assert driver.timeouts == pytest.approx([6.0, 2.0])


@pytest.mark.parametrize(("takes", "left"), [(4.0, 2.0), (5.9, 1.5)])
def test_whether_a_server_without_v1_is_a_controller_is_asked_in_the_time_that_is_left(
    takes: float, left: float
) -> None:
    driver = Driver("http://a")

    def answer(_request: Request) -> Outcome:
        driver.now += takes
        return Response(404, {}, b"")

    with pytest.raises(ControllerUnreachable):
        driver.run(driver.calls.status(), answer)
    assert driver.timeouts == pytest.approx([6.0, left])


def test_a_controller_that_answers_and_cannot_serve_is_not_called_silent(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=REFUSED, two=httpx.Response(503))
    (error,) = make_calls("http://one,http://two", LIST, handler=controllers)
    assert str(error).startswith(
        "no controller can serve now: http://one: [Errno 111] Connection refused; http://two: 503"
    )


@pytest.mark.parametrize(
    ("verb", "first", "may_be_done"),
    [
        ("register", httpx.ReadTimeout("timed out"), True),
        ("register", REFUSED, False),
        ("list", httpx.ReadTimeout("timed out"), False),
    ],
)
def test_a_change_without_an_answer_may_have_been_done(
    make_calls: MakeCalls, verb: str, first: Exception, may_be_done: bool
) -> None:
    (error,) = make_calls("http://one", VERBS[verb], handler=Controllers(one=first))
    assert str(error).endswith("; it may have been done all the same") is may_be_done


class Roll:
    """Controllers of both releases: `announced` is what each host announces, None for release 0.1.0, which ignores what
    it does not know. Those of `down` do not answer.
    """

    def __init__(self, **announced: Sequence[str] | None) -> None:
        self.announced = announced
        self.requests: list[str] = []
        self.down: set[str] = set()

    def __call__(self, request: Request) -> Outcome:
        host = request.address.url.removeprefix("http://")
        path, _, query = request.target.partition("?")
        self.requests.append(f"{host} {path.removeprefix('/api/v1/')}")
        known = self.announced[host]
        if host in self.down:
            return NoResponse("refused")
        if path == STATUS:
            return Response(200, {}, json.dumps({} if known is None else {"parameters": {EVENTS: known}}).encode())
        if known is not None and "actor" in query and "actor" not in known:
            return Response(422, {}, problem(422, "'actor' is not one of host", InvalidInstance.code).content)
        return Response(200, {}, json.dumps(PAGE | {"stream": host}).encode())

    def asked_since(self) -> list[str]:
        requests, self.requests = self.requests, []
        return requests


def by_anna(driver: Driver, controllers: Roll) -> str:
    return str(driver.run(driver.calls._get("events", EventReport.read, newer={"actor": "anna"}), controllers).stream)


def test_a_new_parameter_goes_to_a_controller_that_announces_it() -> None:
    driver, controllers = Driver("http://a"), Roll(a=["actor"])
    assert [by_anna(driver, controllers) for _ in range(2)] == ["a", "a"]
    assert controllers.requests == ["a status", "a events", "a events"]


@pytest.mark.parametrize("announced", [None, [], ["change"]])
def test_a_new_parameter_does_not_go_to_a_controller_that_does_not_announce_it(announced: list[str] | None) -> None:
    driver, controllers = Driver("http://a,http://b"), Roll(a=announced, b=["actor"])
    for _ in range(2):
        with pytest.raises(NotSupported, match="does not know the parameter actor"):
            by_anna(driver, controllers)
    assert controllers.requests == ["a status"]


def test_each_controller_is_asked_what_it_announces() -> None:
    driver, controllers = Driver("http://a,http://b"), Roll(a=["actor"], b=None)
    assert by_anna(driver, controllers) == "a"
    controllers.down.add("a")
    with pytest.raises(NotSupported):
        by_anna(driver, controllers)
    assert controllers.asked_since() == ["a status", "a events", "a events", "b status"]
    controllers.down = {"b"}
    driver.now += ANNOUNCED_SECS + 1
    assert by_anna(driver, controllers) == "a"
    assert controllers.asked_since() == ["b status", "a status", "a events"]


def test_a_controller_that_was_taken_back_is_asked_again() -> None:
    driver, controllers = Driver("http://a"), Roll(a=["actor"])
    by_anna(driver, controllers)
    controllers.announced["a"] = ["change"]
    with pytest.raises(NotSupported):
        by_anna(driver, controllers)
    assert controllers.asked_since() == ["a status", "a events", "a events", "a status"]


def test_a_refused_value_of_a_new_parameter_is_an_answer() -> None:
    driver, status = Driver("http://a"), Roll(a=["actor"])

    def answer(request: Request) -> Outcome:
        if request.target == STATUS:
            return status(request)
        return Response(422, {}, problem(422, "actor '' is empty", InvalidInstance.code).content)

    with pytest.raises(ControllerRefused, match="actor '' is empty"):
        driver.run(driver.calls._get("events", EventReport.read, newer={"actor": "anna"}), answer)


def test_what_a_controller_announces_is_asked_in_the_time_of_the_call() -> None:
    driver, controllers = Driver("http://a"), Roll(a=["actor"])

    def answer(request: Request) -> Outcome:
        driver.now += 5.0
        return controllers(request)

    driver.run(driver.calls._get("events", EventReport.read, newer={"actor": "anna"}), answer)
    assert driver.timeouts == pytest.approx([6.0, 1.5])
