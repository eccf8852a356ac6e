"""The JSON objects of the API: an instance in nine keys, an instance with all facts, and an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi.responses import Response

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.controller.http.connections import ConnectionFigures
    from dbgpt_ctl.controller.http.tls import TlsListener
    from dbgpt_ctl.domain.controllers import Check, ControllerRecord
    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import DrainFacts, ListedInstance
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.contract import Listing

VERSION = 1
"""Of every object of /api/v1."""


def versioned(**fields: Any) -> Response:
    """An answer of /api/v1: an object with these fields after its version."""
    return Response(orjson.dumps({"version": VERSION, **fields}), media_type="application/json")


def wire_object(entry: ListedInstance) -> dict[str, Any]:
    """The nine keys that every DB-GPT client knows; one more would crash the client."""
    facts = entry.instance
    return {
        "model_name": facts.key.model_name,
        "host": facts.key.host,
        "port": facts.key.port,
        "weight": facts.weight,
        "check_healthy": facts.check_healthy,
        "healthy": entry.is_healthy,
        "enabled": entry.drain is None,
        "prompt_template": facts.prompt_template,
        "last_heartbeat": facts.last_heartbeat.isoformat(timespec="microseconds"),
    }


def known_object(entry: ListedInstance) -> dict[str, Any]:
    """The nine keys, the state, the drain and all other facts: an INSTANCE of /api/v1."""
    facts, drain = entry.instance, entry.drain
    known = wire_object(entry)
    known["state"] = entry.state.value
    known["routable"] = entry.routable
    known["held"] = entry.held
    known["drain"] = None if drain is None else drain_object(drain)
    known["registered_at"] = iso(facts.registered_at)
    known["deregistered_at"] = iso(facts.deregistered_at)
    known["refused_at"] = iso(facts.refused_at)
    known["flaps"] = facts.flaps
    known["removed"] = facts.removed
    return known


def drain_object(drain: DrainFacts) -> dict[str, Any]:
    """The `drain` of an INSTANCE."""
    return {"since": iso(drain.since), "by": drain.by, "reason": drain.reason, "until": iso(drain.until)}


def event_object(event: Event) -> dict[str, Any]:
    """An EVENT of /api/v1."""
    change = event.change
    verb, actor, reason = change.cause
    return {
        "id": event.id,
        "time": iso(change.time),
        "model_name": change.key.model_name,
        "host": change.key.host,
        "port": change.key.port,
        "old": str(change.old),
        "new": str(change.new),
        "drained": change.drained,
        "verb": verb,
        "actor": str(actor.kind),
        "actor_name": actor.name,
        "address": actor.address,
        "reason": reason,
    }


def caveats_object(listing: Listing, now: datetime) -> dict[str, Any]:
    """The time of a list, and what makes it less than true. `now`, that of the controller, counts where the list has no
    other time.
    """
    return {
        "time": iso(listing.time or now),
        "stale_since": iso(listing.stale_since),
        "held_until": iso(listing.held_until),
        "heartbeat_timeouts_secs": listing.heartbeat_timeouts_secs,
    }


def check_object(check: Check) -> dict[str, Any]:
    """One of the `checks` of /api/v1/status."""
    return {"name": check.name, "ok": check.ok, "detail": check.detail}


def controller_object(record: ControllerRecord) -> dict[str, Any]:
    """One of the `controllers` of /api/v1/status."""
    return {
        "id": record.id,
        "version": record.version,
        "address": record.address,
        "heartbeat_timeout_secs": record.heartbeat_timeout.total_seconds(),
        "heartbeat_interval_secs": record.heartbeat_interval.total_seconds(),
        "started_at": iso(record.started_at),
        "seen_at": iso(record.seen_at),
    }


def outage_object(hold: Hold) -> dict[str, Any]:
    """One of the `outages` of /api/v1/status."""
    return {"gone_at": iso(hold.gone_at), "back_at": iso(hold.back_at), "held_until": iso(hold.until)}


def connections_object(figures: ConnectionFigures) -> dict[str, int]:
    """The `connections` of /api/v1/status."""
    return {
        "open": len(figures.connections),
        "limit": figures.limit,
        "closed": figures.closed,
        "refused": figures.refused,
    }


def tls_object(listener: TlsListener) -> dict[str, Any]:
    """The `tls` of /api/v1/status."""
    certificate = listener.certificate
    return {
        "port": listener.port,
        "not_after": iso(certificate.current.not_after),
        "problem": certificate.problem,
    }


def iso(time: datetime | None) -> str | None:
    """ISO 8601 with offset, always with microseconds."""
    return None if time is None else time.isoformat(timespec="microseconds")
