"""The events of the API, and the stream of them."""

from typing import Annotated, Literal, TypeAlias

from dbgpt_ctl.domain.events import ABSENT, ActorKind
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.wire.answers import Versioned
from dbgpt_ctl.wire.fields import ADDRESS, REASON, STREAM, TIME, Count, Time, doc
from dbgpt_ctl.wire.instances import Identity

CURSOR = f"{STREAM}.41"


EventState: TypeAlias = Literal[(*(state.value for state in InstanceState), ABSENT)]  # type: ignore[valid-type]


class EventObject(Identity):
    """One change of one instance."""

    id: Annotated[Count, doc("Rises by one with each change.", 42)]
    time: Annotated[Time, doc("When it became true.", TIME)]
    old: Annotated[EventState, doc("The state before.", "healthy")]
    new: Annotated[EventState, doc("The state after. A drain and an undrain leave it as it was.", "healthy")]
    drained: Annotated[bool, doc("Whether it is drained after the change.", True)]
    verb: Annotated[str, doc("register, heartbeat, deregister, drain, undrain, prune or expire.", "drain")]
    actor: Annotated[ActorKind, doc("What caused it.", "operator")]
    actor_name: Annotated[
        str | None, doc("The name of the token that came with the call; null without a valid one.", "anna")
    ]
    address: Annotated[str | None, doc("Where the call came from.", ADDRESS)]
    reason: Annotated[str | None, doc("Why, in the operator's words.", REASON)]


class Events(Versioned):
    """The events."""

    stream: Annotated[str, doc("Names the numbering: ids of another stream mean nothing in it.", STREAM)]
    last_id: Annotated[Count, doc("The id of the newest event; 0 without events.", 42)]
    missed: Annotated[bool, doc("Some of the events after `after` are forgotten.", False)]
    next_after: Annotated[
        Count,
        doc(
            "The `after` of the next page: all events up to this id were looked at. With `after`, there are more while "
            "it is less than `last_id`.",
            42,
        ),
    ]
    complete_since: Annotated[
        Time | None, doc("Some of the events before this time are forgotten; null where none is.", None, TIME)
    ]
    operator_complete_since: Annotated[
        Time | None, doc("The same of what operators did, which is kept longer.", None, TIME)
    ]
    events: Annotated[list[EventObject], doc("In order of their ids.")]


EXAMPLE_STREAM = (
    f'event: ready\nid: {CURSOR}\ndata: {{"cursor":"{CURSOR}"}}\n\n'
    f'event: change\nid: {STREAM}.42\ndata: {{"id":42,"time":"{TIME}","model_name":"qwen3@llm","host":"10.0.0.4",'
    f'"port":8001,"old":"healthy","new":"healthy","drained":true,"verb":"drain","actor":"operator",'
    f'"actor_name":"anna","address":"{ADDRESS}","reason":"{REASON}"}}\n\n'
)


Watch: TypeAlias = Annotated[
    str,
    doc(
        "Server-sent events, for as long as both sides like. `ready` comes first; `change` holds an EVENT, and its id "
        "is the cursor after it; `reset`: changes are missing here, list again; `dropped` (this reader is "
        "too slow), `refused` (the token is not valid any more) and `leaving` (the controller ends) are the last. "
        "Comments are signs of life.",
        EXAMPLE_STREAM,
    ),
]
