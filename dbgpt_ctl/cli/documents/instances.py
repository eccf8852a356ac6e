"""The documents of the commands that list instances and change them."""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict

from msgspec import UNSET, UnsetType

from dbgpt_ctl.domain.events import ActorKind
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.ping_results import PingResult
from dbgpt_ctl.wire.answers import Version
from dbgpt_ctl.wire.auth import RefusedWorkerObject
from dbgpt_ctl.wire.events import EventObject, EventState
from dbgpt_ctl.wire.fields import doc
from dbgpt_ctl.wire.instances import DrainFactsObject, Instance, KnownInstanceObject

TimeText: TypeAlias = Annotated[str, doc("ISO 8601 with an offset.", schema={"format": "date-time"})]


class InstanceIdentity(TypedDict):
    """Which instance."""

    model_name: Annotated[str, doc("NAME@TYPE")]
    host: str
    port: int


class Caveats(TypedDict):
    """What makes a list less than true."""

    stale_since: Annotated[TimeText | None, doc("The registry is away, and this is of that time (with --allow-stale).")]
    held_until: Annotated[
        TimeText | None, doc("The registry itself was away; until then some states are as they were before.")
    ]


class WireInstance(Instance):
    """DB-GPT's nine keys. They show a deregistered instance as unhealthy. A later DB-GPT may send more keys."""

    last_heartbeat: Annotated[  # type: ignore[assignment] # as it came: it may have no offset, or be null
        str | None, doc("ISO 8601; without an offset from DB-GPT's own controller, which sends its local time.")
    ]


BareInstance: TypeAlias = Annotated[WireInstance, doc("", schema={"not": {"required": ["state"]}})]
"""From a controller that reports no other facts."""


class PrintedEvent(EventObject):
    """An event as the controller sent it."""

    actor_name: Annotated[
        str | UnsetType | None,
        doc("The name of the token that came with the call; null without a valid one. Release 0.1.0 does not send it."),
    ] = UNSET  # type: ignore[assignment] # as it came: it may be missing


class EventLine(PrintedEvent):
    """One line for each event."""

    version: Version = 1


class ControllerRefusals(RefusedWorkerObject):
    """Heartbeats and registers that a controller refuses for one reason, to one caller."""

    controller: Annotated[str, doc("Its URL, without user and token.")]


class InstanceDetails(KnownInstanceObject):
    """All that is known of one instance."""

    since: Annotated[TimeText | None, doc("When its state began; null: the controller has forgotten it.")]
    still_beating: Annotated[bool, doc("Whether its worker sends heartbeats though it is deregistered.")]
    events: Annotated[list[PrintedEvent], doc("Its last five, oldest first.", schema={"maxItems": 5})]
    refused_heartbeats: Annotated[
        list[ControllerRefusals],
        doc(
            "Of an unhealthy instance: the heartbeats and registers that controllers refuse, from its host where the "
            "instance is not known."
        ),
    ]


class ModelsGet(TypedDict):
    """Instances with all their facts."""

    version: Version
    time: Annotated[TimeText | None, doc("The registry's time; null where no instance is known.")]
    held_until: Annotated[
        TimeText | None,
        doc("The registry itself was away; until then an instance that is held counts as healthy though silent."),
    ]
    instances: list[InstanceDetails]


class ListedLine(InstanceIdentity):
    """First, a line for each instance of the list."""

    version: Version
    type: Literal["instance"]
    time: TimeText
    state: InstanceState
    drained: bool
    instance: Annotated[dict[str, Any], doc("As `ctl models list -o json --full` prints it.")]


class SyncedLine(TypedDict):
    """Then one line: the list is complete."""

    version: Version
    type: Literal["synced"]
    time: TimeText
    instances: Annotated[int, doc("How many lines of instances came before.")]


class ChangeLine(InstanceIdentity):
    """Then a line for each change. id, verb and actor are null where only two lists were compared."""

    version: Version
    type: Literal["change"]
    time: TimeText
    old: EventState
    new: EventState
    drained: Annotated[bool, doc("Whether it is drained after the change.")]
    id: int | None
    verb: str | None
    actor: ActorKind | None
    actor_name: Annotated[str | None, doc("The name of the token that came with the call; null without a valid one.")]
    address: str | None
    reason: str | None


class PrintedPing(InstanceIdentity):
    """What one instance answered."""

    state: Annotated[
        InstanceState | None,
        doc("As the controller reports it; null: it does not know the instance, or does not answer."),
    ]
    drained: Annotated[bool | None, doc("null: as with state.")]
    result: PingResult
    connect_secs: Annotated[float | None, doc("Time of the first connection; null: there was none.")]
    ttft_secs: Annotated[
        float | None, doc("Time to the first text or thinking; null: there was none, or it was not asked for.")
    ]
    total_secs: Annotated[float | None, doc("The whole ping; null: nothing was asked.")]
    tokens: Annotated[int | None, doc("Generated tokens as the worker reports them; null: it reports none.")]
    detail: Annotated[str | None, doc("One line for people; null: there is nothing to say.")]


class ChangeResult(InstanceIdentity):
    """What became of one instance. Keys may be added under the same version."""

    result: Annotated[str, doc("`not tried`: an error before it ended the command.")]
    error: NotRequired[Annotated[str, doc("A stable code, such as not_found, not_supported or condition_not_met.")]]
    detail: NotRequired[Annotated[str, doc("The error, for people; there is one with each `error`.")]]


class DrainResult(ChangeResult):
    """What became of one instance. One with an error that did not fail: --wait ended before all controllers had
    followed, or an undrained one gets no requests for another reason.
    """

    state: NotRequired[Annotated[InstanceState, doc("What it is now.")]]
    drain: NotRequired[Annotated[DrainFactsObject | None, doc("null: not drained.")]]
    durable: NotRequired[Annotated[bool, doc("Whether it outlives the controller's process; absent from a dry run.")]]


class FieldChange(TypedDict):
    """One field that is not as the file declares it."""

    field: Annotated[
        str,
        doc(
            "state, weight, enabled, drain_reason, drain_until, prompt_template or check_healthy. state: it is "
            "deregistered, and the file declares it. drain_until is a time, or null for a drain without an end."
        ),
    ]
    old: str | float | bool | None
    new: str | float | bool | None
    possible: Annotated[bool, doc("Whether ctl apply can make the change.")]


class ApplyResult(ChangeResult):
    """What became of one instance. One with an error that did not fail: a part of its changes is not possible."""

    changes: NotRequired[
        Annotated[
            list[FieldChange],
            doc("Empty for what is pruned; of what is created, what is not as by default, its `old` null."),
        ]
    ]


class PlannedStep(InstanceIdentity):
    """An instance that is not as the file declares it."""

    action: Annotated[str, doc("create, change or prune.")]
    changes: Annotated[
        list[FieldChange],
        doc("Empty for what is pruned; of what is created, what is not as by default, its `old` null."),
    ]
    reason: NotRequired[Annotated[str, doc("Why apply cannot make some of the changes, and what to do.")]]


class DiffDocument(Caveats):
    """Keys may be added under the same version."""

    version: Version
    differences: list[PlannedStep]


class DeclaredDrain(TypedDict):
    """A drain with its reason, its end, or both."""

    reason: NotRequired[str]
    until: NotRequired[Annotated[TimeText, doc("In UTC, in whole seconds.")]]


class DeclaredInstance(TypedDict):
    """An entry of the file. A key that is absent has its default."""

    model: Annotated[str, doc("NAME@TYPE")]
    host: str
    port: int
    weight: NotRequired[Annotated[float, doc("Absent where it is 1.")]]
    enabled: NotRequired[Annotated[Literal[False], doc("Drained, without a known reason and end.")]]
    drain: NotRequired[DeclaredDrain]
    prompt_template: NotRequired[str]
    check_healthy: NotRequired[Literal[False]]


class ExportDocument(TypedDict):
    """A file for ctl apply. Keys may be added under the same version."""

    instances: Annotated[list[DeclaredInstance], doc("In order of identity.")]
