"""The query parameters of the API. An empty one counts as not given; `controller.http.v1_params` checks the values."""

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType, field

from dbgpt_ctl.domain.fields import MAX_PORT
from dbgpt_ctl.domain.instance import STATES
from dbgpt_ctl.wire.events import CURSOR
from dbgpt_ctl.wire.fields import DEFAULT_LIMIT, MAX_EVENT_ID, MAX_LIMIT, TIME, Sent, Time, doc
from dbgpt_ctl.wire.instances import Identity

SWITCH = "In any case; also 1/0, yes/no, on/off; empty means false."


SINCE = "x-since"
"""The key of a parameter that is newer than release 0.1.0: the release that it came with."""
NEWER = {SINCE: "0.2.0"}
PLACE = "in"
"""The key of a parameter that is not sent in the query."""


StateFilter: TypeAlias = Literal[STATES]  # type: ignore[valid-type]


class ListQuery(Sent):
    """Which instances to list."""

    model_name: Annotated[
        str | UnsetType, doc("Only instances of exactly this `NAME@TYPE`; empty means all.", "qwen3@llm")
    ] = UNSET
    healthy_only: Annotated[
        bool, doc(f"Only what can be routed to: healthy, not drained, not deregistered. {SWITCH}", True)
    ] = False


class DeregisterQuery(Identity):
    """Which instance to deregister."""

    remove_from_registry: Annotated[bool, doc(f"Whether it leaves every list. {SWITCH}", True)] = False


class InstanceQuery(Sent):
    """A filter of instances."""

    model_name: Annotated[
        str | UnsetType, doc("Only instances of exactly this `NAME@TYPE`. Empty means all.", "qwen3@llm")
    ] = UNSET
    host: Annotated[
        str | UnsetType, doc("Only instances at this host, exactly as it is registered. Empty means all.", "10.0.0.4")
    ] = UNSET
    port: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_PORT)] | UnsetType, doc("Only instances at this port. Empty means all.", 8001)
    ] = UNSET


class KnownInstancesQuery(InstanceQuery):
    """Which instances to list."""

    state: Annotated[
        StateFilter | UnsetType,
        doc("Only instances in this state; `drained`: every drained one, in any state. Empty means all.", "healthy"),
    ] = UNSET


class EventsQuery(InstanceQuery):
    """Which events to list."""

    name: Annotated[str | UnsetType, doc("Only models of this name, of any type.", "qwen2.5", schema=NEWER)] = UNSET
    type: Annotated[str | UnsetType, doc("Only models of this type.", "llm", schema=NEWER)] = UNSET
    verb: Annotated[str | UnsetType, doc("Only events of this verb.", "drain", schema=NEWER)] = UNSET
    by: Annotated[
        str | UnsetType, doc("Only those by this kind of actor, or by the token of this name.", "anna", schema=NEWER)
    ] = UNSET
    after: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_EVENT_ID)] | UnsetType, doc("Only those with a higher id.", 41)
    ] = UNSET
    since: Annotated[Time | UnsetType, doc("Only those from this time on, with an offset.", TIME)] = UNSET
    until: Annotated[Time | UnsetType, doc("Only those before this time, with an offset.", TIME, schema=NEWER)] = UNSET
    limit: Annotated[int, doc("At most this many.", 100, ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT


class WatchQuery(InstanceQuery):
    """What to watch, and from where."""

    cursor: Annotated[str | UnsetType, doc("The same as the header `Last-Event-ID`.", CURSOR)] = UNSET
    last_event_id: Annotated[
        Annotated[str, Meta(pattern=r"^[!-~]{1,64}\.[0-9]{1,18}$")] | UnsetType,
        doc(
            "The last id that was received: changes after it are sent. It overrides `cursor`.",
            CURSOR,
            schema={PLACE: "header"},
        ),
    ] = field(name="Last-Event-ID", default=UNSET)


class ProbeQuery(Sent):
    """How a probe answers."""

    verbose: Annotated[str | UnsetType, doc("Lists the checks, whatever its value is.", "")] = UNSET
