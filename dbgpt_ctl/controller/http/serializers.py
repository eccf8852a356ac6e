"""The JSON objects of the API: an instance in nine keys, an instance with all facts, and an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

from dbgpt_ctl.text.times import iso
from dbgpt_ctl.wire.encoding import encoded

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import DrainFacts, ListedInstance
    from dbgpt_ctl.registry.contract import Listing

VERSION = 1
"""Of every object of /api/v1."""


def versioned(**fields: Any) -> Response:
    """An answer of /api/v1: an object with these fields after its version."""
    return Response(encoded({"version": VERSION, **fields}), media_type="application/json")


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
        "last_heartbeat": iso(facts.last_heartbeat),
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


def caveats(listing: Listing, now: datetime) -> dict[str, Any]:
    """The fields of `Listed`: the time of a list, and what makes it less than true. `now`, that of the controller,
    counts where the list has no other time.
    """
    return {
        "time": listing.time or now,
        "stale_since": listing.stale_since,
        "held_until": listing.held_until,
        "heartbeat_timeouts_secs": listing.heartbeat_timeouts_secs,
    }
