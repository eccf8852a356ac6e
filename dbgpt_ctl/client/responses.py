"""What a controller's response means: the one place where HTTP becomes results and errors. No I/O.

200 with what the call expects              the result
401, 403                                    NotAllowed
/api/v1: 404 that names an instance         NotFound
/api/v1: other 404, 405, 501 not_supported  NotSupported: DB-GPT's own controller, or one that forwards to it
any other 4xx                               ControllerRefused, with the reason that the controller gave
everything else, or no response             AttemptFailed: the next controller is tried (see `failover`)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from dbgpt_ctl.client.models import Answer, ControllerHealth, Inventory, read_key, read_time
from dbgpt_ctl.errors import Attempt, ControllerRefused, ErrorKind, NotAllowed, NotFound, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbgpt_ctl.addresses import Address

T = TypeVar("T")
MAX_REASON_CHARS = 300
EVENT_STREAM = "text/event-stream"
_UNAVAILABLE = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No complete response came. `connection_lost`: an established connection broke, as a kept-alive one may."""

    detail: str
    connection_lost: bool = False


class AttemptFailed(Exception):
    """This controller could not serve the call. `kind` is NO_ANSWER, UNAVAILABLE or FAILED."""

    def __init__(self, address: Address, detail: str, kind: ErrorKind) -> None:
        super().__init__(f"{address}: {detail}")
        self.attempt = Attempt(str(address), detail)
        self.kind = kind


def accept(outcome: Response | NoResponse, address: Address) -> Response:
    """The response if its status is exactly 200; else raises NotAllowed, ControllerRefused or AttemptFailed."""
    if isinstance(outcome, NoResponse):
        raise AttemptFailed(address, outcome.detail, ErrorKind.NO_ANSWER)
    status = outcome.status
    if status == HTTPStatus.OK:
        return outcome
    reason, code = explanation(outcome)
    detail = f"{status} {reason or _phrase(status)}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        advice = "put user:token@ into its address"
        if address.credentials is not None:
            detail, advice = f"{detail} (a token was sent)", "check the user:token@ in its address"
        raise NotAllowed(detail, controller=str(address), advice=advice, problem_code=code)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        is_foreign = status == HTTPStatus.NOT_FOUND and code is None
        raise ControllerRefused(
            detail,
            controller=str(address),
            advice="is that the address of a controller?" if is_foreign else None,
            problem_code=code,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise AttemptFailed(address, detail, ErrorKind.UNAVAILABLE if status in _UNAVAILABLE else ErrorKind.FAILED)
    raise not_a_controller(address, f"{status} {_phrase(status)}")


def accept_v1(outcome: Response | NoResponse, address: Address, verb: str) -> Response:
    """As `accept`; also raises NotFound for an unknown instance, and NotSupported where there is no /api/v1/`verb`."""
    if isinstance(outcome, Response):
        reason, code = explanation(outcome)
        if outcome.status == HTTPStatus.NOT_FOUND and code == NotFound.code and _names_instance(outcome):
            raise NotFound(reason or "the controller does not know it", controller=str(address))
        if outcome.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            detail = f"it has no /api/v1/{verb} because it is DB-GPT's own controller or an older ctl"
            raise NotSupported(detail, controller=str(address), problem_code=code)
        if outcome.status == HTTPStatus.NOT_IMPLEMENTED and code == NotSupported.code:
            raise NotSupported(reason or f"no {verb}", controller=str(address), problem_code=code)
    return accept(outcome, address)


def not_a_controller(address: Address, what: str) -> AttemptFailed:
    """An answer that no controller gives: a wrong address, a proxy's page, another server on its port."""
    return AttemptFailed(address, f"what answers there is not a DB-GPT controller ({what})", ErrorKind.FAILED)


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
    if not isinstance(objects, list) or not all(map(_has_identity, objects)):
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
    )


def read_health(outcome: Response | NoResponse, address: Address, *, latency: float) -> ControllerHealth:
    """Healthy is a status of exactly 200 with a JSON object that has a `status`; another body is another server's."""
    if isinstance(outcome, NoResponse):
        return ControllerHealth(str(address), ok=False, status=None, detail=outcome.detail, latency=None)
    ok, detail = outcome.status == HTTPStatus.OK, explanation(outcome)[0] or _phrase(outcome.status)
    if ok:
        health = outcome.json()
        ok = isinstance(health, dict) and "status" in health
        detail = _health_detail(health) if ok else "what answers there is not a DB-GPT controller"
    return ControllerHealth(str(address), ok=ok, status=outcome.status, detail=detail, latency=latency)


def v1_reader(verb: str, read: Callable[[Answer], T]) -> Callable[[Response | NoResponse, Address], T]:
    """`read` over an accepted response of /api/v1/`verb`. AttemptFailed where the body is not what /api/v1 sends."""

    def read_outcome(outcome: Response | NoResponse, address: Address) -> T:
        response = accept_v1(outcome, address, verb)
        try:
            fields = response.json()
            return read(Answer(fields, read_time(fields.get("time")) or _time_of(response), str(address)))
        except _MALFORMED:
            raise not_a_controller(address, "200 without what /api/v1 answers") from None

    return read_outcome


def read_stream(outcome: Response | NoResponse, address: Address) -> Address:
    """The controller that streams /api/v1/watch. The transport keeps the stream itself."""
    response = accept_v1(outcome, address, "watch")
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != EVENT_STREAM:
        raise not_a_controller(address, "200 without server-sent events")
    return address


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
    return (one_line(detail) if isinstance(detail, str) else None), (code if isinstance(code, str) else None)


def one_line(text: str) -> str:
    """A server's text for an error message: on one line, bounded, without control characters for a terminal."""
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))
    return line if len(line) <= MAX_REASON_CHARS else f"{line[: MAX_REASON_CHARS - 3]}..."


def _names_instance(response: Response) -> bool:
    """An older ctl sends the same code for a path that it does not know."""
    return isinstance(response.json().get("instance_key"), dict)


def _health_detail(fields: Mapping[str, Any]) -> str:
    """`ok`; while the controller is degraded or holds states, the reason too."""
    reason = fields.get("reason")
    return one_line(f"{fields['status']}: {reason}" if reason else str(fields["status"]))


def _field_error(error: Mapping[str, Any]) -> str:
    path = error.get("loc")
    where = ".".join(str(step) for step in path[1:]) if isinstance(path, list) else ""
    return f"{where}: {error.get('msg')}" if where else str(error.get("msg"))


def _decoded(response: Response, address: Address) -> Any:
    decoded = response.json()
    if decoded is None:
        raise not_a_controller(address, "200 without JSON")
    return decoded


def _has_identity(fields: Any) -> bool:
    try:
        read_key(fields)
    except _MALFORMED:
        return False
    return True


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
