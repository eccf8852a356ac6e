"""JSON Schemas of /api/v1, with a description and an example for each field."""

from __future__ import annotations

from typing import Any

from dbgpt_ctl.controller.api.params import MAX_AGE_SECS
from dbgpt_ctl.controller.api.schemas import IDENTITY, INSTANCE, Schema
from dbgpt_ctl.domain.events import ABSENT, ActorKind
from dbgpt_ctl.domain.fields import MAX_REASON_CHARS
from dbgpt_ctl.domain.instance import InstanceState

TIME = "2026-01-02T03:04:05.678901+00:00"
STATES = [state.value for state in InstanceState]
REASON = "new drivers"
ADDRESS = "10.0.0.9"


def described(kind: str | list[str], description: str, example: Any, **more: Any) -> Schema:
    """One field."""
    return {"type": kind, "description": description, "examples": [example], **more}


def time_field(description: str, *, nullable: bool = True) -> Schema:
    """A time, or null."""
    kind: str | list[str] = ["string", "null"] if nullable else "string"
    return described(kind, description, TIME, format="date-time")


def whole(title: str, properties: dict[str, Schema], description: str = "") -> Schema:
    """An object that holds all its fields, and is its own example."""
    schema: Schema = {"title": title, "type": "object", "required": list(properties), "properties": properties}
    return schema | {"description": description or title, "examples": [example_of(properties)]}


def example_of(properties: dict[str, Schema]) -> dict[str, Any]:
    """Made of the examples of its fields."""
    return {name: field["examples"][0] for name, field in properties.items()}


def listed(description: str, items: Schema) -> Schema:
    """An array of such objects."""
    return {"type": "array", "description": description, "items": items, "examples": [[items["examples"][0]]]}


VERSION = described("integer", "Of this object: 1.", 1, const=1)
NOW = time_field("The registry's time: ages count against it.", nullable=False)
TIMES = {
    "time": NOW,
    "stale_since": time_field("The database is away: what changed since then may be missing."),
    "held_until": time_field("The registry itself was away: until then some are as they were before, though silent."),
}
STATE = described("string", "What its facts mean now.", "healthy", enum=STATES)
KNOWN = whole(
    "KnownInstance",
    INSTANCE["properties"]
    | {
        "state": STATE,
        "registered_at": time_field("When it was registered first.", nullable=False),
        "deregistered_at": time_field("When it was deregistered, if it is."),
        "refused_at": time_field("Its last beat that was refused because it came after a deregister."),
        "drained_at": time_field("When an operator drained it, if it is."),
        "drained_by": described(["string", "null"], "The address that the drain came from.", ADDRESS),
        "drain_reason": described(["string", "null"], "Why, in the operator's words.", REASON),
        "flaps": described("integer", "How often it expired since it was registered first.", 0),
        "removed": described("boolean", "In no list, only remembered to refuse late beats.", False),
    },
    "An instance with all its facts.",
)
KNOWN["examples"][0] |= {
    "state": "drained",
    "healthy": True,
    "enabled": False,
    "deregistered_at": None,
    "refused_at": None,
}
EVENT_STATES = [*STATES, ABSENT]
EVENT = whole(
    "Event",
    {
        "id": described("integer", "Rises by one with each change.", 42),
        "time": time_field("When it became true.", nullable=False),
        **IDENTITY,
        "old": described("string", "The state before.", "healthy", enum=EVENT_STATES),
        "new": described("string", "The state after.", "drained", enum=EVENT_STATES),
        "verb": described("string", "register, heartbeat, deregister, drain, undrain, prune or expire.", "drain"),
        "actor": described("string", "Who.", "operator", enum=[kind.value for kind in ActorKind]),
        "address": described(["string", "null"], "Where the call came from.", ADDRESS),
        "reason": described(["string", "null"], "Why, in the operator's words.", REASON),
    },
    "One change of one instance.",
)
INSTANCES = whole(
    "KnownInstances",
    {"version": VERSION, **TIMES, "instances": listed("In order of model_name, host and port.", KNOWN)},
)
ONE_INSTANCE = whole("OneInstance", {"version": VERSION, "time": NOW, "instance": KNOWN})
DRAINED = whole(
    "Drained",
    {
        "version": VERSION,
        "instance": KNOWN,
        "durable": described("boolean", "Whether it outlives the controller's process.", True),
    },
)
IDENTITY_ONLY = whole("Identity", IDENTITY, "Which instance.")
UNDRAIN = IDENTITY_ONLY
DRAIN: Schema = {
    "title": "Drain",
    "description": "Which instance, and why.",
    "type": "object",
    "required": list(IDENTITY),
    "properties": IDENTITY
    | {
        "reason": described(
            ["string", "null"], "One printable line, shown to other operators.", REASON, maxLength=MAX_REASON_CHARS
        )
    },
}
DRAIN["examples"] = [example_of(DRAIN["properties"])]
PRUNE: Schema = {
    "title": "Prune",
    "description": "What to forget.",
    "type": "object",
    "required": ["older_than_secs"],
    "properties": {
        "older_than_secs": described(
            "number", "Gone for longer than this.", 86_400.0, minimum=0, maximum=int(MAX_AGE_SECS)
        ),
        "dry_run": described(["boolean", "null"], "Only tell which; null means false.", True, default=False),
    },
}
PRUNE["examples"] = [example_of(PRUNE["properties"])]
PRUNED = whole(
    "Pruned",
    {
        "version": VERSION,
        "dry_run": described("boolean", "Nothing was forgotten.", True),
        "instances": listed("In order of model_name, host and port.", IDENTITY_ONLY),
    },
)
STREAM = "3f2a9c"
EVENTS = whole(
    "Events",
    {
        "version": VERSION,
        "stream": described("string", "Names the numbering: ids of another stream mean nothing in it.", STREAM),
        "last_id": described("integer", "Of the newest event there is; 0 for none.", 42),
        "missed": described("boolean", "Some that were asked for are forgotten.", False),
        "events": listed("In order of their ids.", EVENT),
    },
)
ABOUT = whole(
    "Controller",
    {
        "version": described("string", "Of its package.", "1.0.0"),
        "started_at": time_field("When its process started.", nullable=False),
        "leaving": described("boolean", "It ends soon.", False),
    },
    "The controller itself.",
)
REGISTRY = whole(
    "Registry",
    {
        "kind": described("string", "embedded, sqlite, mysql, mariadb or remote.", "mariadb"),
        "place": described(["string", "null"], "Where it keeps its facts.", "db1:3306/dbgpt"),
        "durable": described("boolean", "Whether they outlive the controller's process.", True),
        "ready": described("boolean", "Lists can be answered.", True),
        "reason": described(["string", "null"], "What is not as it should be.", None),
    },
    "Where instances are kept.",
)
SETTINGS = whole(
    "Settings",
    {
        "heartbeat_interval_secs": described("number", "How often workers should beat.", 20.0),
        "heartbeat_timeout_secs": described("number", "A beat older than this is too old.", 60.0),
        "max_instances": described("integer", "More are refused.", 200_000),
    },
    "What it was started with.",
)
SETTINGS["required"] = []
MODEL = whole(
    "Model",
    {
        "model_name": IDENTITY["model_name"],
        **{state: described("integer", f"How many are {state}.", int(state == "healthy")) for state in STATES},
    },
    "How many instances of one model are in which state.",
)
STATUS = whole(
    "Status",
    {
        "version": VERSION,
        **TIMES,
        "controller": ABOUT,
        "registry": REGISTRY,
        "settings": SETTINGS,
        "models": listed("In order of model_name.", MODEL),
        "watchers": described("integer", "How many watch at this controller.", 0),
        "last_event_id": described(["integer", "null"], "Of the newest event; null while it cannot be told.", 42),
    },
)
