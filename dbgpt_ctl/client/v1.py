"""What an answer of /api/v1 means; beyond what `answers` says of all. No I/O.

404 that names an instance                      NotFound
any other 404, 405, 501 `not_supported`         NotSupported: DB-GPT's own controller, or one that forwards to it
200 and not what /api/v1 sends                  AttemptFailed, as by any other server
"""

from __future__ import annotations

import json
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from dbgpt_ctl.client.details import (
    ControllerStatus,
    Drained,
    EventReport,
    Inventory,
    KnownInstance,
    Watched,
    read_event,
    read_key,
)
from dbgpt_ctl.client.models import read_time
from dbgpt_ctl.client.responses import Reply, Unanswered, accepted, explanation, no_controller, one_line, read_date
from dbgpt_ctl.errors import ControllerFailed, NotFound, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.addresses import Address
    from dbgpt_ctl.client.sse import Message
    from dbgpt_ctl.domain.instance import InstanceKey

T = TypeVar("T")
EVENT_STREAM = "text/event-stream"


def accepted_for(verb: str) -> Callable[[Reply | Unanswered, Address], Reply]:
    """As `answers.accepted`, and NotFound or NotSupported, which says which `verb` is meant."""

    def accept(outcome: Reply | Unanswered, address: Address) -> Reply:
        if isinstance(outcome, Reply):
            detail, code = explanation(outcome)
            if outcome.status == HTTPStatus.NOT_FOUND and code == NotFound.code and _names_instance(outcome):
                raise NotFound(detail or "the controller does not know it", controller=str(address))
            if outcome.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
                raise NotSupported(
                    f"it has no /api/v1/{verb} because it is DB-GPT's own controller or an older ctl",
                    controller=str(address),
                    problem_code=code,
                )
            if outcome.status == HTTPStatus.NOT_IMPLEMENTED and code == NotSupported.code:
                raise NotSupported(detail or f"no {verb}", controller=str(address), problem_code=code)
        return accepted(outcome, address)

    return accept


def _names_instance(reply: Reply) -> bool:
    """An older ctl has the same code for a path that it does not know."""
    return isinstance(reply.json().get("instance_key"), dict)


def _reading(read: Callable[[Any, Reply, Address], T]) -> Callable[[Reply, Address], T]:
    @wraps(read)
    def reading(reply: Reply, address: Address) -> T:
        try:
            return read(reply.json(), reply, address)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise no_controller(address, "200 without what /api/v1 answers") from None

    return reading


@_reading
def read_instances(told: Any, reply: Reply, address: Address) -> Inventory:
    """All facts of the instances."""
    time = read_time(told["time"]) or read_date(reply)
    for found in told["instances"]:
        read_key(found)
    return Inventory(
        instances=tuple(KnownInstance.read(found, time) for found in told["instances"]),
        complete=True,
        controller=str(address),
        time=time,
        stale_since=read_time(told.get("stale_since")),
        held_until=read_time(told.get("held_until")),
    )


@_reading
def read_instance(told: Any, reply: Reply, address: Address) -> KnownInstance:  # noqa: ARG001 - a reader's shape
    """One instance."""
    return KnownInstance.read(told["instance"], read_time(told["time"]) or read_date(reply))


@_reading
def read_drained(told: Any, reply: Reply, address: Address) -> Drained:  # noqa: ARG001
    """The instance as it is now."""
    time = read_time(told.get("time")) or read_date(reply)
    return Drained(KnownInstance.read(told["instance"], time), durable=bool(told["durable"]))


@_reading
def read_pruned(told: Any, reply: Reply, address: Address) -> list[InstanceKey]:  # noqa: ARG001
    """The identities, in their order."""
    return [read_key(each) for each in told["instances"]]


@_reading
def read_events(told: Any, reply: Reply, address: Address) -> EventReport:  # noqa: ARG001
    """A page of events."""
    return EventReport(
        tuple(map(read_event, told["events"])),
        str(told["stream"]),
        int(told["last_id"]),
        missed=told["missed"] is True,
        objects=list(told["events"]),
        controller=str(address),
    )


@_reading
def read_status(told: Any, reply: Reply, address: Address) -> ControllerStatus:  # noqa: ARG001
    """How the controller is."""
    return ControllerStatus.read(told, str(address))


def read_stream(reply: Reply, address: Address) -> Address:
    """Who streams; the stream itself is the transport's."""
    if reply.headers.get("content-type", "").partition(";")[0].strip().lower() != EVENT_STREAM:
        raise no_controller(address, "200 without server-sent events")
    return address


def read_message(message: Message, address: Address) -> Watched | None:
    """What a message of a watch says; None for a kind that this version does not know."""
    try:
        told = json.loads(message.data)
        match message.event:
            case "change":
                return Watched("change", message.id, read_event(told), object=told)
            case "ready" | "reset" | "dropped" | "leaving" as kind:
                reason = told.get("reason")
                cursor = told.get("cursor") or message.id
                return Watched(kind, cursor, reason=None if reason is None else one_line(str(reason)), object=told)
            case _:
                return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ControllerFailed("it streams what is no change of an instance", controller=str(address)) from None
