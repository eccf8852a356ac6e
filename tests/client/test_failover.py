"""Which controllers are tried, in which order and for how long: over scripted controllers, and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.addresses import parse_addresses
from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.failover import Failover, Outcome, Request
from dbgpt_ctl.client.responses import NoResponse, Response
from dbgpt_ctl.errors import ControllerRefused, ControllerUnreachable
from tests.client.talk import VERBS, Controllers, good, problem

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
