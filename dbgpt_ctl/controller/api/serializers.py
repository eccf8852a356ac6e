"""The JSON objects of the API: an instance in nine keys, an instance with all facts, and an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import ListedInstance


def wire_object(entry: ListedInstance) -> dict[str, Any]:
    """The nine keys that every DB-GPT client knows; one more would crash the client."""
    facts = entry.instance
    return {
        "model_name": facts.key.model_name,
        "host": facts.key.host,
        "port": facts.key.port,
        "weight": facts.weight,
        "check_healthy": facts.check_healthy,
        "healthy": entry.beats,
        "enabled": facts.enabled,
        "prompt_template": facts.prompt_template,
        "last_heartbeat": facts.last_heartbeat.isoformat(timespec="microseconds"),
    }


def known_object(entry: ListedInstance) -> dict[str, Any]:
    """The nine keys, the state and all other facts: an INSTANCE of /api/v1."""
    facts = entry.instance
    known = wire_object(entry)
    known["state"] = entry.state.value
    known["registered_at"] = iso(facts.registered_at)
    known["deregistered_at"] = iso(facts.deregistered_at)
    known["refused_at"] = iso(facts.refused_at)
    known["drained_at"] = iso(facts.drained_at)
    known["drained_by"] = facts.drained_by
    known["drain_reason"] = facts.drain_reason
    known["flaps"] = facts.flaps
    known["removed"] = facts.removed
    return known


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
        "verb": verb,
        "actor": str(actor.kind),
        "address": actor.address,
        "reason": reason,
    }


def iso(time: datetime | None) -> str | None:
    """ISO 8601 with offset, always with microseconds."""
    return None if time is None else time.isoformat(timespec="microseconds")
