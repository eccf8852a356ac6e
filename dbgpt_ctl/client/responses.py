"""What a controller's response means: the one place where HTTP becomes results and errors. No I/O.

200 with what the call expects              the result
401                                         AttemptFailed with NotAllowed: each controller has its own tokens
403                                         NotAllowed
/api/v1: 404 that names an instance         NotFound
/api/v1: other 404, 405, 501 not_supported  NotSupported: DB-GPT's own controller, or one that forwards to it
DB-GPT's endpoints: 404, 405 of no ctl      AttemptFailed: every controller has these, so no controller is there
any other 4xx                               ControllerRefused, with the reason that the controller gave
everything else, or no response             AttemptFailed: the next controller is tried (see `failover`)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from dbgpt_ctl.client.results import MALFORMED, Answer, ControllerHealth, Inventory, read_key, read_time, read_timeouts
from dbgpt_ctl.domain.controllers import ControllerCondition
from dbgpt_ctl.domain.fields import printable
from dbgpt_ctl.errors import (
    Attempt,
    ControllerLeaving,
    ControllerRefused,
    ErrorKind,
    ForeignOrigin,
    ForwardsToItself,
    HostNotAllowed,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    NotSupported,
    RegistryUnusable,
)
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.settings.masking import mask_own_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbgpt_ctl.settings.addresses import Address

T = TypeVar("T")
MAX_REASON_CHARS = 300
MAX_DEPTH = 32
"""Of lists and objects in each other. The API has five; much more could be read here, and not be printed."""
LONG_BYTES = 1_000_000
MAX_OBJECT_BYTES = 64 * 1024
"""Every answer that is longer than LONG_BYTES is a list of objects that have a `model_name`, or as tokens a `name`, and
are shorter than this.
"""
EVENT_STREAM = "text/event-stream"
HTML = "text/html"
_UNAVAILABLE = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_FULL = b"This controller "
"""How the text begins with which a controller refuses one connection too many."""
MAKE_TOKEN = "ctl token create NAME --role ROLE makes one"  # noqa: S105 - a command
GIVE_TOKEN = "set CTL_TOKEN, or the --token-file of a context"  # noqa: S105 - an advice
CHECK_TOKEN = "check the token: CTL_TOKEN, the token file of the context, or NAME:TOKEN@ in the address"  # noqa: S105
_OUT_OF_SCOPE = frozenset({"models", "hosts", "max-instances"})
"""The reasons of NotPermitted where the token has the role, and the controller says what it lacks."""
_ANSWERED: Mapping[FailureCause | None, ErrorKind] = {
    FailureCause.NOT_A_CONTROLLER: ErrorKind.NOT_A_CONTROLLER,
    FailureCause.ANSWER_TOO_LARGE: ErrorKind.FAILED,
}
"""The causes of a `NoResponse` where something answered."""


@dataclass(frozen=True)
class Response:
    """A complete HTTP response. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray

    def json(self) -> Any:
        """The decoded body; None if it is not JSON, or not of the API's form as far as `decoded` looks."""
        return self._decoded

    @cached_property
    def _decoded(self) -> Any:
        size = len(self.body)
        # Decoded, a long body of anything else takes many times its size.
        if size > LONG_BYTES and self.body.count(b'name"') * MAX_OBJECT_BYTES < size:
            return None
        return decoded(self.body)


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No complete HTTP response came."""

    detail: str
    cause: FailureCause | None = None


class AttemptFailed(Exception):
    """This controller could not serve the call. `kind` is NO_ANSWER, UNAVAILABLE, FAILED or NOT_A_CONTROLLER, or
    NOT_ALLOWED with a `refusal`. `may_pass`: whether UNAVAILABLE may end without a person.
    """

    def __init__(
        self,
        address: Address,
        detail: str,
        kind: ErrorKind,
        cause: FailureCause | None = None,
        refusal: NotAllowed | None = None,
        *,
        may_pass: bool = True,
    ) -> None:
        super().__init__(f"{address}: {detail}")
        self.may_pass = may_pass
        self.attempt = Attempt(str(address), detail, cause)
        self.kind = kind
        self.refusal = refusal


def decoded(text: str | bytes | bytearray) -> Any:
    """The value of a JSON text; None if it is not JSON, or nested deeper than MAX_DEPTH."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if _is_deeper(value, MAX_DEPTH) else value


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in value if isinstance(item, dict | list))


def accept(outcome: Response | NoResponse, address: Address) -> Response:
    """The response if its status is exactly 200; else raises NotAllowed, ControllerRefused or AttemptFailed."""
    if isinstance(outcome, NoResponse):
        kind = _ANSWERED.get(outcome.cause, ErrorKind.NO_ANSWER)
        raise AttemptFailed(address, outcome.detail, kind, outcome.cause)
    status = outcome.status
    if status == HTTPStatus.OK:
        return outcome
    reason, code = explanation(outcome)
    detail = f"{status} {reason or _phrase(status)}"
    if status == HTTPStatus.UNAUTHORIZED:
        refusal = _refusal(outcome, address)
        raise AttemptFailed(address, refusal.detail, ErrorKind.NOT_ALLOWED, refusal=refusal)
    if status == HTTPStatus.FORBIDDEN:
        raise _refusal(outcome, address)
    if _is_unknown_path(outcome):
        raise not_a_controller(address, f"{status} {_phrase(status)}")
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        attempt = Attempt(str(address), detail, _cause_of(code))
        raise ControllerRefused(detail, controller=str(address), attempts=[attempt], problem_code=code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _failed(outcome, address)
    raise not_a_controller(address, f"{status} {_phrase(status)}")


def _failed(response: Response, address: Address) -> AttemptFailed:
    """The failure for a 5xx."""
    if message := _message_of_proxy(response):
        return AttemptFailed(address, message, ErrorKind.UNAVAILABLE, FailureCause.GATEWAY)
    status, (reason, code) = response.status, explanation(response)
    kind = ErrorKind.UNAVAILABLE if status in _UNAVAILABLE else ErrorKind.FAILED
    detail, may_pass = f"{status} {reason or _phrase(status)}", code != RegistryUnusable.code
    return AttemptFailed(address, detail, kind, _cause_of(code), may_pass=may_pass)


def _refusal(response: Response, address: Address) -> NotAllowed:
    """The error for a 401 or 403. A controller of this package says itself what is wrong, and what to write where."""
    message, code = explanation(response)
    detail = f"{response.status} {message or _phrase(response.status)}"
    reason: str | None = None
    match code:
        case NotAuthenticated.code | NotPermitted.code:
            reason = str(response.json().get("reason"))
            advice = None if reason in _OUT_OF_SCOPE else MAKE_TOKEN
        case ForeignOrigin.code:
            advice = None
        case _ if address.credentials is None:
            advice = GIVE_TOKEN
        case _:
            detail, advice = f"{detail} (a token was sent)", CHECK_TOKEN
    return NotAllowed(detail, controller=str(address), advice=advice, problem_code=code, reason=reason)


def accept_v1(outcome: Response | NoResponse, address: Address, verb: str) -> Response:
    """As `accept`; also raises NotFound for an unknown instance, and NotSupported where there is no /api/v1/`verb`."""
    if isinstance(outcome, Response):
        reason, code = explanation(outcome)
        is_not_found = outcome.status == HTTPStatus.NOT_FOUND and code == NotFound.code
        if is_not_found and isinstance(outcome.json().get("instance_key"), dict):  # without it: an older ctl's path
            raise NotFound(reason or "the controller does not know it", controller=str(address))
        if outcome.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            detail = f"it has no /api/v1/{verb} because it is DB-GPT's own controller or an older ctl"
            raise NotSupported(detail, controller=str(address), problem_code=code)
        if outcome.status == HTTPStatus.NOT_IMPLEMENTED and code == NotSupported.code:
            raise NotSupported(reason or f"no {verb}", controller=str(address), problem_code=code)
    return accept(outcome, address)


def not_a_controller(address: Address, what: str) -> AttemptFailed:
    """An answer that no controller gives: a wrong address, a proxy's page, another server on its port."""
    detail = f"what answers there is not a DB-GPT controller ({what})"
    return AttemptFailed(address, detail, ErrorKind.NOT_A_CONTROLLER, FailureCause.NOT_A_CONTROLLER)


def read_verdict(outcome: Response | NoResponse, address: Address) -> bool:
    """`true` or `false`, as register, heartbeat and deregister answer."""
    verdict = _decoded(accept(outcome, address), address)
    if not isinstance(verdict, bool):
        raise not_a_controller(address, "200 without true or false")
    return verdict


def read_list(outcome: Response | NoResponse, address: Address) -> Inventory:
    """A bare array of objects that have an identity. Their other keys are not checked."""
    response = accept(outcome, address)
    objects = _decoded(response, address)
    timeouts: tuple[float, ...] = ()
    try:
        is_list = isinstance(objects, list) and all(map(read_key, objects))
        if text := response.headers.get("x-ctl-heartbeat-timeouts"):
            timeouts = read_timeouts(text.split(","))
    except MALFORMED:
        is_list = False
    if not is_list:
        raise not_a_controller(address, "200 without a list of instances")
    stale = response.headers.get("x-ctl-stale-since")
    return Inventory(
        objects,
        complete=False,
        controller=str(address),
        time=_time_of(response),
        registry_time=read_time(response.headers.get("x-ctl-time")),
        stale_since=read_time(stale) or _read_http_date(stale),
        held_until=read_time(response.headers.get("x-ctl-held-until")),
        heartbeat_timeouts_secs=timeouts,
    )


def read_health(outcome: Response | NoResponse, address: Address, *, latency: float) -> ControllerHealth:
    """Who answers with a status of exactly 200 and a JSON object that has a `status` serves; another body is another
    server's. DB-GPT's own controller never gives a reason.
    """
    url = str(address)
    if isinstance(outcome, NoResponse):
        return ControllerHealth(url, ControllerCondition.UNREACHABLE, None, outcome.detail, None, outcome.cause)
    status, health, (detail, code) = outcome.status, outcome.json(), explanation(outcome)
    if status == HTTPStatus.OK and isinstance(health, dict) and "status" in health:
        reason = health.get("reason")
        condition = ControllerCondition.DEGRADED if reason else ControllerCondition.HEALTHY
        return ControllerHealth(url, condition, status, one_line(str(reason or health["status"])), latency)
    if status < HTTPStatus.BAD_REQUEST or _is_unknown_path(outcome):
        _, detail, cause = not_a_controller(address, f"{status} {_phrase(status)}").attempt
        return ControllerHealth(url, ControllerCondition.UNREACHABLE, status, detail, latency, cause)
    if message := _message_of_proxy(outcome):
        return ControllerHealth(url, ControllerCondition.UNREACHABLE, status, message, latency, FailureCause.GATEWAY)
    condition = ControllerCondition.LEAVING if code == ControllerLeaving.code else ControllerCondition.UNHEALTHY
    return ControllerHealth(url, condition, status, detail or _phrase(status), latency, _cause_of(code))


def v1_reader(verb: str, read: Callable[[Answer], T]) -> Callable[[Response | NoResponse, Address], T]:
    """`read` over an accepted response of /api/v1/`verb`. AttemptFailed where the body is not what /api/v1 sends."""

    def read_outcome(outcome: Response | NoResponse, address: Address) -> T:
        response = accept_v1(outcome, address, verb)
        try:
            fields = response.json()
            return read(Answer(fields, read_time(fields.get("time")) or _time_of(response), str(address)))
        except MALFORMED:
            raise not_a_controller(address, "200 without what /api/v1 answers") from None

    return read_outcome


def _parameters(answer: Answer) -> dict[str, frozenset[str]]:
    announced = answer.fields.get("parameters") or {}
    return {path: frozenset(map(str, names)) for path, names in announced.items()}


read_parameters = v1_reader("status", _parameters)
"""The parameters that are newer than release 0.1.0, by path, as a status announces them."""


def read_stream(outcome: Response | NoResponse, address: Address) -> Address:
    """The controller that streams /api/v1/watch. The transport keeps the stream itself."""
    response = accept_v1(outcome, address, "watch")
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != EVENT_STREAM:
        raise not_a_controller(address, "200 without server-sent events")
    return address


def read_console(outcome: Response | NoResponse, address: Address) -> str:
    """The URL of the console. Raises NotSupported where the controller serves none."""
    if isinstance(outcome, Response) and outcome.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        _, code = explanation(outcome)
        raise NotSupported("it serves no console", controller=str(address), problem_code=code)
    headers = accept(outcome, address).headers
    # The console is the only page here that lets no script write HTML; many servers answer any path with a page.
    is_ours = "require-trusted-types-for" in headers.get("content-security-policy", "")
    if not is_ours or not headers.get("content-type", "").startswith(HTML):
        raise not_a_controller(address, "200 without the console")
    return f"{address}/console/"


def explanation(response: Response) -> tuple[str | None, str | None]:
    """The reason in a response, on one line, and its stable code.

    Read from problem details (RFC 9457) and from FastAPI's `{"detail": ...}`, a string or a list of `{"loc", "msg"}`.
    """
    fields = response.json()
    if not isinstance(fields, dict):
        return None, None
    detail, code = fields.get("detail") or fields.get("title"), fields.get("code")
    if isinstance(detail, list):
        detail = "; ".join(_field_error(error) for error in detail if isinstance(error, dict))
    # A server may quote the Authorization header that it refuses.
    reason = one_line(mask_own_tokens(detail)) if isinstance(detail, str) else None
    return reason, (code if isinstance(code, str) else None)


def one_line(text: str) -> str:
    """A server's text for an error message: on one line, bounded, without control characters for a terminal."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_REASON_CHARS else f"{line[: MAX_REASON_CHARS - 3]}..."


_CAUSES = {
    ForwardsToItself.code: FailureCause.FORWARDS_TO_ITSELF,
    HostNotAllowed.code: FailureCause.HOST_NOT_ALLOWED,
}
"""What the `code` of a problem says about the way to the controller."""


def _cause_of(problem_code: str | None) -> FailureCause | None:
    return None if problem_code is None else _CAUSES.get(problem_code)


def _is_unknown_path(response: Response) -> bool:
    """Whether the server does not know the path, and is no controller of this package, which would send a code."""
    is_unknown = response.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
    return is_unknown and explanation(response)[1] is None


def _message_of_proxy(response: Response) -> str | None:
    """What to say of a 502, 503 or 504 that no controller sends: a controller gives a reason."""
    if response.status not in _UNAVAILABLE or explanation(response)[0] or response.body.startswith(_FULL):
        return None
    server = one_line(response.headers.get("server", ""))
    name = f" ({server})" if server else ""
    return f"{response.status} {_phrase(response.status)} from a proxy{name}, not from a controller"


def _field_error(error: Mapping[str, Any]) -> str:
    path = error.get("loc")
    where = ".".join(str(step) for step in path[1:]) if isinstance(path, list) else ""
    return f"{where}: {error.get('msg')}" if where else str(error.get("msg"))


def _decoded(response: Response, address: Address) -> Any:
    decoded = response.json()
    if decoded is None:
        raise not_a_controller(address, "200 without JSON")
    return decoded


def _time_of(response: Response) -> datetime | None:
    """The registry's time of the answer: X-Ctl-Time, else Date."""
    return read_time(response.headers.get("x-ctl-time")) or _read_http_date(response.headers.get("date"))


def _read_http_date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"
