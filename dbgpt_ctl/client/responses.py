"""What a controller's answer means: this is the one border where HTTP becomes results and errors. No I/O.

200 and what the call expects     the result
401, 403                          NotAllowed
any other 4xx                     ControllerRefused, with the reason that the controller gave
everything else                   AttemptFailed: the next controller is tried (see `calls`)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client.models import ControllerHealth, InstanceList, read_time
from dbgpt_ctl.errors import Attempt, ControllerRefused, ErrorKind, NotAllowed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.addresses import Address

MAX_REASON_CHARS = 300
_UNAVAILABLE = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP response. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body. Raises ValueError when it is none."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No complete response came. `dropped`: a connection that stood was lost, as one kept alive may be at any time."""

    reason: str
    dropped: bool = False


class AttemptFailed(Exception):
    """This controller could not serve the call. `kind` is NO_ANSWER, UNAVAILABLE or FAILED."""

    def __init__(self, address: Address, detail: str, kind: ErrorKind) -> None:
        super().__init__(f"{address}: {detail}")
        self.attempt = Attempt(str(address), detail)
        self.kind = kind


def accepted(outcome: Reply | Unanswered, address: Address) -> Reply:
    """The reply if its status is exactly 200; else raises NotAllowed, ControllerRefused or AttemptFailed."""
    if isinstance(outcome, Unanswered):
        raise AttemptFailed(address, outcome.reason, ErrorKind.NO_ANSWER)
    status = outcome.status
    if status == HTTPStatus.OK:
        return outcome
    detail, code = explanation(outcome)
    reason = detail or _phrase(status)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        detail, advice = f"{status} {reason}", "put user:token@ into its address"
        if address.credentials is not None:
            detail, advice = f"{detail} (a token was sent)", "check the user:token@ in its address"
        raise NotAllowed(detail, controller=str(address), advice=advice, problem_code=code)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        is_foreign = status == HTTPStatus.NOT_FOUND and code is None
        raise ControllerRefused(
            f"{status} {reason}",
            controller=str(address),
            advice="is that the address of a controller?" if is_foreign else None,
            problem_code=code,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = ErrorKind.UNAVAILABLE if status in _UNAVAILABLE else ErrorKind.FAILED
        raise AttemptFailed(address, f"{status} {reason}", kind)
    raise no_controller(address, f"{status} {_phrase(status)}")


def no_controller(address: Address, what: str) -> AttemptFailed:
    """An answer that no controller gives: a wrong address, a proxy's page, another server on its port."""
    return AttemptFailed(address, f"what answers there is not a DB-GPT controller ({what})", ErrorKind.FAILED)


def read_verdict(reply: Reply, address: Address) -> bool:
    """`true` or `false`, as register, heartbeat and deregister answer."""
    verdict = _decoded(reply, address)
    if not isinstance(verdict, bool):
        raise no_controller(address, "200 without true or false")
    return verdict


def read_list(reply: Reply, address: Address) -> InstanceList:
    """A bare array of objects that have an identity; what else they hold is taken as it is."""
    objects = _decoded(reply, address)
    if not isinstance(objects, list) or not all(_has_identity(each) for each in objects):
        raise no_controller(address, "200 without a list of instances")
    stale = reply.headers.get("x-ctl-stale-since")
    return InstanceList(
        objects,
        str(address),
        date=read_date(reply),
        registry_time=read_time(reply.headers.get("x-ctl-time")),
        stale_since=read_time(stale) or _read_http_date(stale),
        held_until=read_time(reply.headers.get("x-ctl-held-until")),
    )


def read_date(reply: Reply) -> datetime | None:
    """The registry's time when it answered: X-Ctl-Time, else Date."""
    return read_time(reply.headers.get("x-ctl-time")) or _read_http_date(reply.headers.get("date"))


def read_health(outcome: Reply | Unanswered, address: Address, *, latency: float) -> ControllerHealth:
    """Up is a status of exactly 200 with a JSON object that has a `status`; any other body is another server's."""
    if isinstance(outcome, Unanswered):
        return ControllerHealth(str(address), ok=False, status=None, detail=outcome.reason, latency=None)
    ok, detail = outcome.status == HTTPStatus.OK, explanation(outcome)[0] or _phrase(outcome.status)
    if ok:
        told = _decoded_or_none(outcome)
        ok = isinstance(told, dict) and "status" in told
        detail = _health_detail(told) if ok else "what answers there is not a DB-GPT controller"
    return ControllerHealth(str(address), ok=ok, status=outcome.status, detail=detail, latency=latency)


def _health_detail(told: Mapping[str, Any]) -> str:
    """`ok`, and while the controller is degraded or holding states, why."""
    reason = told.get("reason")
    return one_line(f"{told['status']}: {reason}" if reason else str(told["status"]))


def explanation(reply: Reply) -> tuple[str | None, str | None]:
    """The reason in a reply, on one line, and its stable code.

    Read from problem details (RFC 9457) and from FastAPI's `{"detail": ...}`, a string or a list of `{"loc", "msg"}`.
    """
    told = _decoded_or_none(reply)
    if not isinstance(told, dict):
        return None, None
    detail, code = told.get("detail") or told.get("title"), told.get("code")
    if isinstance(detail, list):
        detail = "; ".join(_field_error(each) for each in detail if isinstance(each, dict))
    return (one_line(detail) if isinstance(detail, str) else None), (code if isinstance(code, str) else None)


def one_line(text: str) -> str:
    """A stranger's text for an error: on one line, bounded, without anything a terminal obeys."""
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))
    return line if len(line) <= MAX_REASON_CHARS else f"{line[: MAX_REASON_CHARS - 3]}..."


def _field_error(error: Mapping[str, Any]) -> str:
    path = error.get("loc")
    where = ".".join(str(step) for step in path[1:]) if isinstance(path, list) else ""
    return f"{where}: {error.get('msg')}" if where else str(error.get("msg"))


def _decoded(reply: Reply, address: Address) -> Any:
    try:
        return reply.json()
    except ValueError:
        raise no_controller(address, "200 without JSON") from None


def _has_identity(each: Any) -> bool:
    return (
        isinstance(each, dict)
        and isinstance(each.get("model_name"), str)
        and isinstance(each.get("host"), str)
        and isinstance(each.get("port"), int)
    )


def _decoded_or_none(reply: Reply) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None


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
