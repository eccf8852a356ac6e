"""In which order the controllers of an address are tried, for how long, and when the next one is. No I/O, no own clock.

A `Flow` is a generator: it yields the `Request` to send, is sent the outcome (`Response` or `NoResponse`), and returns
the result of the call or raises one of `errors.ControllerError`. `drive` runs a flow over a blocking sender;
`aio.drive_async` runs the same flow in an event loop.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from dbgpt_ctl import __version__, forwarding
from dbgpt_ctl.client.responses import AttemptFailed, NoResponse, Response, read_list, read_parameters
from dbgpt_ctl.errors import (
    Attempt,
    ControllerError,
    ControllerFailed,
    ControllerRefused,
    ControllerUnreachable,
    ErrorKind,
    InvalidInstance,
    NotFound,
    NotSupported,
    VerbNotSupported,
)
from dbgpt_ctl.failure_causes import CERTIFICATE_CAUSES, FailureCause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbgpt_ctl.settings.addresses import Address
    from dbgpt_ctl.traceparent import TraceContext

MODELS = "/api/controller/models"
HEALTH = "/api/health"
STATUS = "/api/v1/status"
JSON = "application/json"
_SHORT_LIST = f"{MODELS}?model_name=none%40ctl"
"""The list of a model that there is not: its answer is short."""
ADVICE = "is `ctl serve` running there? set --address or CONTROLLER_ADDRESS"
RETRY = "try again later"
MAY_BE_DONE = "it may have been done all the same"
_AFTER_SENDING = frozenset({FailureCause.ANSWER_TIMEOUT, FailureCause.RESET, FailureCause.ANSWER_TOO_LARGE})
"""The controller may have got the request."""

MAX_ANSWER_BYTES = 100_000_000
"""Of a list: 200,000 instances with all facts take 79 MB with names of usual lengths, 148 MB with the longest ones. A
process that meets an endless list stays below 150 MB.
"""
MAX_SHORT_ANSWER_BYTES = 1_000_000
"""Of any other answer: one instance, true or false, a problem."""

CONNECT_SHARE = 0.9
ANNOUNCED_SECS = 60.0
"""For how long a client remembers which parameters a controller announces: it may be upgraded meanwhile."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one controller. `timeout`, in seconds, covers it from the connect to the last byte of the
    response.
    """

    method: str
    address: Address
    target: str
    """Path and query."""
    body: bytes | None
    timeout: float
    trace: TraceContext | None = None
    """The header `traceparent`."""
    actor: str | None = None
    """The header `X-Ctl-Actor`."""
    accept: str = JSON
    """The header `Accept`."""
    forwarded_by: str | None = None
    """The header `X-Ctl-Forwarded-By`."""
    max_bytes: int = MAX_SHORT_ANSWER_BYTES
    """The longest body that a 200 may have; of another status it is MAX_SHORT_ANSWER_BYTES at most."""
    connect_within: float = inf
    """The most seconds for the connection."""
    newer: frozenset[str] = frozenset()
    """Those of the parameters in `target` that release 0.1.0 does not know: it would ignore them."""

    @property
    def connect_timeout(self) -> float:
        """Of `timeout`, for the connection: an answer that does not come is so told from a connection."""
        return min(self.timeout * CONNECT_SHARE, self.connect_within)

    @property
    def url(self) -> str:
        """Without credentials; `address` has them."""
        return self.address.url + self.target

    @property
    def headers(self) -> dict[str, str]:
        """All headers but those of the connection."""
        # No compressed answer: a few bytes of it could become any number.
        headers = {"User-Agent": f"dbgpt-ctl/{__version__}", "Accept": self.accept, "Accept-Encoding": "identity"}
        if self.body is not None:
            headers["Content-Type"] = JSON
        if self.address.credentials is not None:
            headers["Authorization"] = "Basic " + b64encode(":".join(self.address.credentials).encode()).decode()
        if self.trace is not None:
            headers["traceparent"] = str(self.trace)
        if self.actor is not None:
            headers["X-Ctl-Actor"] = self.actor
        if self.forwarded_by is not None:
            headers[forwarding.HEADER] = self.forwarded_by
        return headers


Outcome: TypeAlias = Response | NoResponse
Flow: TypeAlias = Generator[Request, Outcome, T]
Read: TypeAlias = Callable[[Outcome, "Address"], T]
"""Returns the result, or raises AttemptFailed to go on with the next controller, or ControllerError to end the call."""


def drive(flow: Flow[T], send: Callable[[Request], Outcome]) -> T:
    """Sends the requests of a flow until it has its result. Raises what the flow raises."""
    try:
        request = next(flow)
        while True:
            request = flow.send(send(request))
    except StopIteration as done:
        result: T = done.value
        return result


@dataclass(slots=True)
class Failover:
    """Tries one or more controllers that share their registry.

    The next controller is tried when one does not answer, answers 5xx, or answers what no controller sends; repeating a
    call is safe. So it is after a 401: each controller reads its own tokens file, and a new token may not be in each of
    them yet. Any other 4xx is an answer and ends the call. The controller that answered last is tried first in the next
    call, so a dead controller does not delay every call of a loop. `timeout`, in seconds, covers the whole call: each
    controller in turn gets an equal share of what is left of it, so one that never answers costs no more than its
    share.

    A request with parameters that are newer than release 0.1.0 goes only to a controller whose status announces them.
    Where the first one that answers does not, the call raises NotSupported. The status is asked once for each
    controller, and anew after ANNOUNCED_SECS, after a failure and after a refusal.
    """

    addresses: Sequence[Address]
    timeout: float
    monotonic: Callable[[], float]
    advice: str = ADVICE
    """What to do when no controller answers; ends the message of ControllerUnreachable."""
    order: Callable[[], Sequence[Address]] | None = None
    """The controllers to try, in this order; None: all, the one that answered last first."""
    observe: Callable[[Address, bool], None] = lambda _address, _answered: None
    """Called with each controller that was tried, and whether it answered."""
    on_refusal: Callable[[Sequence[Attempt]], None] = lambda _attempts: None
    """Called with those that answered 401, when another one has served the call."""
    change_timeout: float = 0.0
    """The seconds that each controller has for the answer to a change, if that is more than its share. A controller
    whose database is away says so only after 4 s (rule 10).
    """
    _last: int = field(default=0, init=False)
    _controllers: set[Address] = field(default_factory=set, init=False)
    """Those without /api/v1 that are controllers all the same."""
    _announced: dict[str, tuple[float, Mapping[str, frozenset[str]]]] = field(default_factory=dict, init=False)
    """By URL: when the status was asked, and what it announces."""

    def call(self, template: Request, read: Read[T]) -> Flow[T]:
        """Sends `template` to the controllers in turn, each with its own address and timeout."""
        left = list(self.order() if self.order else [*self.addresses[self._last :], *self.addresses[: self._last]])
        failures: list[AttemptFailed] = []
        deadline = self.monotonic() + self.timeout
        while left:
            # What a controller without /api/v1 is asked may take longer than a share; the others still get a chance.
            share = max(deadline - self.monotonic(), self.timeout / 4) / len(left)
            address = left.pop(0)
            timeout = share if template.method == "GET" else max(share, self.change_timeout)
            request = replace(template, address=address, timeout=timeout, connect_within=share * CONNECT_SHARE)
            until = self.monotonic() + timeout
            try:
                result = yield from self._ask(request, read, until)
            except AttemptFailed as failure:
                failures.append(failure)
                self._announced.pop(address.url, None)
                self.observe(address, False)
                continue
            except (ControllerRefused, NotFound):
                self._answered(address)
                raise
            self._answered(address)
            if refused := [failure.attempt for failure in failures if failure.refusal]:
                self.on_refusal(refused)
            return result
        error = _error_of(failures, self.advice)
        may_be_done = any(failure.attempt.cause in _AFTER_SENDING for failure in failures)
        raise error.advised(f"{error.advice}; {MAY_BE_DONE}") if may_be_done and template.method != "GET" else error

    def attempt(self, request: Request) -> Flow[Outcome]:
        """The outcome of a request to one controller.

        It is sent again if an established connection was lost: it may have been closed since the call before. An
        outcome as of a server that speaks TLS on a port for plain HTTP, or the reverse, is looked into with a second
        request, which carries nothing of the first one.
        """
        deadline = self.monotonic() + request.timeout
        outcome = yield request
        left = deadline - self.monotonic()
        if isinstance(outcome, NoResponse) and outcome.cause is FailureCause.RESET and left > 0:
            outcome = yield replace(request, timeout=left)
            left = deadline - self.monotonic()
        if left > 0 and _may_be_other_scheme(outcome, request.address):
            address = request.address.other_scheme
            other = yield Request("GET", address, HEALTH, None, left)
            if _speaks(other, address):
                cause = FailureCause.NEEDS_HTTP if request.address.is_https else FailureCause.NEEDS_HTTPS
                spoken = "plain HTTP" if request.address.is_https else "TLS"
                return NoResponse(f"it speaks {spoken} on that port", cause)
        return outcome

    def _ask(self, request: Request, read: Read[T], until: float) -> Flow[T]:
        """The result of one controller."""
        if request.newer:
            yield from self._require_announced(request, until)
            request = replace(request, timeout=max(until - self.monotonic(), request.timeout / 4))
        outcome = yield from self.attempt(request)
        try:
            return (yield from self._read(request, outcome, read, until))
        except ControllerRefused as refused:
            if request.newer and refused.problem_code == InvalidInstance.code:  # it may be an older one by now
                self._announced.pop(request.address.url, None)
                yield from self._require_announced(request, until)
            raise

    def _read(self, request: Request, outcome: Outcome, read: Read[T], until: float) -> Flow[T]:
        """The result. A server without /api/v1 is a controller only if it has DB-GPT's list, which has to come in what
        is left of the request's time, but in a quarter of it at least.
        """
        address = request.address
        try:
            return read(outcome, address)
        except NotSupported as refusal:
            if refusal.problem_code is None and address not in self._controllers:
                timeout = max(until - self.monotonic(), request.timeout / 4)
                short_list = replace(request, method="GET", target=_SHORT_LIST, body=None, accept=JSON, timeout=timeout)
                read_list((yield replace(short_list, max_bytes=MAX_SHORT_ANSWER_BYTES)), address)
                self._controllers.add(address)
            raise

    def _require_announced(self, request: Request, until: float) -> Flow[None]:
        """Raises NotSupported unless the controller announces the newer parameters of the request."""
        url, now = request.address.url, self.monotonic()
        asked_at, announced = self._announced.get(url, (-inf, {}))
        if now - asked_at > ANNOUNCED_SECS:
            asked = replace(request, method="GET", target=STATUS, body=None, accept=JSON, max_bytes=MAX_ANSWER_BYTES)
            announced = yield from self._read(asked, (yield from self.attempt(asked)), read_parameters, until)
            self._announced[url] = now, announced
        if unknown := request.newer - announced.get(request.target.partition("?")[0], frozenset()):
            detail = f"it is an older ctl, which does not know the parameter {', '.join(sorted(unknown))}"
            raise NotSupported(detail, controller=str(request.address), problem_code=VerbNotSupported.code)

    def _answered(self, address: Address) -> None:
        if address in self.addresses:  # its token may have been exchanged during the call
            self._last = self.addresses.index(address)
        self.observe(address, True)


def _error_of(failures: Sequence[AttemptFailed], advice: str) -> ControllerError:
    """One error for all attempts. Where one answers and cannot serve, `no controller answers` would be wrong."""
    attempts, kinds = [failure.attempt for failure in failures], {failure.kind for failure in failures}
    if refusals := [failure.refusal for failure in failures if failure.refusal]:
        return refusals[0] if len(failures) == 1 else refusals[0].among(attempts)
    if ErrorKind.UNAVAILABLE in kinds:
        may_pass = any(failure.may_pass for failure in failures)
        return ControllerUnreachable.of_attempts(attempts, ErrorKind.UNAVAILABLE, RETRY if may_pass else None)
    if ErrorKind.NO_ANSWER in kinds:
        return ControllerUnreachable.of_attempts(attempts, ErrorKind.NO_ANSWER, advice)
    if ErrorKind.FAILED in kinds:
        return ControllerFailed.of_attempts(attempts, ErrorKind.FAILED)
    return ControllerUnreachable.of_attempts(attempts, ErrorKind.NOT_A_CONTROLLER, advice)


def _may_be_other_scheme(outcome: Outcome, address: Address) -> bool:
    """Whether a server answers so that is called by http instead of https, or the reverse."""
    if isinstance(outcome, Response):
        return not address.is_https and outcome.status == HTTPStatus.BAD_REQUEST and outcome.json() is None
    signs = {FailureCause.RESET, FailureCause.TLS_FAILED if address.is_https else FailureCause.NOT_A_CONTROLLER}
    return outcome.cause in signs


def _speaks(outcome: Outcome, address: Address) -> bool:
    """Whether the outcome shows that the server speaks the scheme of the address. On a port for TLS many servers answer
    plain HTTP too: with 400, or with a redirect to https.
    """
    if address.is_https:
        return isinstance(outcome, Response) or outcome.cause in CERTIFICATE_CAUSES
    return isinstance(outcome, Response) and not (
        HTTPStatus.MULTIPLE_CHOICES <= outcome.status <= HTTPStatus.BAD_REQUEST
    )
