"""The instances of the API, and what is sent to change one."""

from typing import Annotated, TypeAlias

from msgspec import Meta

from dbgpt_ctl.domain.fields import MAX_PORT, MAX_REASON_CHARS, MAX_TEXT_CHARS
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.wire.fields import ADDRESS, MAX_AGE_SECS, MAX_DRAIN_SECS, REASON, TIME, Count, Sent, Time, doc


class Identity(Sent):
    """Which instance."""

    model_name: Annotated[
        str,
        doc(
            "`NAME@TYPE` with exactly one `@`; TYPE is llm, text2vec, reranker, service or any other. "
            "Spaces around it are stripped, case and accents count.",
            "qwen3@llm",
            min_length=1,
            max_length=MAX_TEXT_CHARS,
            pattern=r"^[^@]*[^@\s][^@]*@[^@]*[^@\s][^@]*$",
        ),
    ]
    host: Annotated[
        str,
        doc(
            "Host name or address at which the worker is called, without scheme, path or spaces. "
            "A metadata address of a cloud, such as 169.254.169.254, is not registered.",
            "10.0.0.4",
            min_length=1,
            max_length=MAX_TEXT_CHARS,
        ),
    ]
    port: Annotated[
        int, doc("Port at which the worker is called. A number as text is taken too.", 8001, ge=1, le=MAX_PORT)
    ]


class RegisteredFacts(Identity):
    """What a register says of an instance."""

    weight: Annotated[
        float | None, doc("A finite number; null means 1.0. DB-GPT's API servers do not look at it.", 1.0)
    ] = 1.0
    check_healthy: Annotated[
        bool | None, doc("Whether it is unhealthy when its last heartbeat is too old; null means true.", True)
    ] = True
    prompt_template: Annotated[
        Annotated[str, Meta(max_length=MAX_TEXT_CHARS)] | None,
        doc("Name of a prompt template; null and empty mean none.", None, "vicuna_v1.1"),
    ] = None


class RegistrationObject(RegisteredFacts):
    """What a worker sends of itself. The other keys that DB-GPT's workers send are ignored."""

    enabled: Annotated[
        bool | None,
        doc("False: drained, in no list of healthy ones. Counts when the instance is new; null means true.", True),
    ] = True


class Instance(Identity, forbid_unknown_fields=True):
    """Exactly these nine keys: one more would crash DB-GPT's clients."""

    weight: Annotated[float, doc("As registered.", 1.0)]
    check_healthy: Annotated[bool, doc("Whether it is unhealthy when its last heartbeat is too old.", True)]
    healthy: Annotated[bool, doc("Whether its last heartbeat is fresh and it is not deregistered.", True)]
    enabled: Annotated[bool, doc("False: drained by an operator.", True)]
    prompt_template: Annotated[
        Annotated[str, Meta(max_length=MAX_TEXT_CHARS)] | None, doc("Name of a prompt template, if it has one.", None)
    ]
    last_heartbeat: Annotated[Time, doc("When it last registered or beat, in UTC.", TIME)]


Instances: TypeAlias = Annotated[list[Instance], doc("In order of model_name, host and port.")]


Stored: TypeAlias = Annotated[bool, doc("Stored: true.", schema={"const": True})]


HeartbeatStored: TypeAlias = Annotated[
    bool, doc("Whether the heartbeat is stored; false: the instance is deregistered and must register.")
]


WasKnown: TypeAlias = Annotated[bool, doc("Whether the instance was ever known.")]


class DrainFactsObject(Sent):
    """A drain. It is in force whatever the state of the instance is."""

    since: Annotated[
        Time | None, doc("When an operator drained it; null if its first register had `enabled` false.", TIME)
    ]
    by: Annotated[
        str | None,
        doc(
            "The caller of the drain: the name of its token and its address; without a valid token the address.",
            f"anna ({ADDRESS})",
        ),
    ]
    reason: Annotated[str | None, doc("Why, in the operator's words.", REASON)]
    until: Annotated[
        Time | None, doc("When the drain ends by itself, on the registry's clock; null means never.", None, TIME)
    ]


class KnownInstanceObject(Instance, forbid_unknown_fields=False):
    """An instance with all its facts."""

    enabled: Annotated[bool, doc("False: drained.", False)]
    state: Annotated[InstanceState, doc("Its state now, drained or not.", "healthy")]
    routable: Annotated[bool, doc("Whether it gets requests: it is healthy and not drained.", False)]
    held: Annotated[
        bool,
        doc("Whether it is healthy only because the registry itself was away: its own heartbeat is too old.", False),
    ]
    drain: Annotated[DrainFactsObject | None, doc("Its drain; null if it is not drained.")]
    registered_at: Annotated[Time, doc("When it was registered first.", TIME)]
    deregistered_at: Annotated[Time | None, doc("When it was deregistered, if it is.", None)]
    refused_at: Annotated[
        Time | None, doc("When its last heartbeat was refused, because it came after a deregister.", None)
    ]
    flaps: Annotated[Count, doc("How often it expired since it was registered first.", 0)]
    removed: Annotated[bool, doc("Whether it is in no list, and kept only to refuse late heartbeats.", False)]


DrainReason: TypeAlias = Annotated[
    Annotated[str, Meta(max_length=MAX_REASON_CHARS)] | None,
    doc("One printable line, shown to other operators.", REASON),
]
DrainSecs: TypeAlias = Annotated[
    Annotated[float, Meta(ge=1, le=MAX_DRAIN_SECS)] | None,
    doc("The drain ends by itself after this many seconds, on the registry's clock; null means never.", 7200.0),
]


class DrainRequestObject(Sent):
    """Why to drain, and for how long."""

    reason: DrainReason = None
    for_secs: DrainSecs = None


class DrainObject(Identity):
    """Which instance to drain, and why."""

    reason: DrainReason = None
    for_secs: DrainSecs = None


class DrainedRegistration(RegisteredFacts):
    """An instance to register and to drain."""

    drain: Annotated[DrainRequestObject, doc("The drain; an empty object is one without reason and end.")]


class Prune(Sent):
    """What to forget."""

    older_than_secs: Annotated[float, doc("Gone for longer than this.", 86_400.0, ge=0, le=int(MAX_AGE_SECS))]
    dry_run: Annotated[bool, doc("Only report which.", True)] = False
    unchecked: Annotated[
        bool,
        doc(
            "Also those without `check_healthy`, which are healthy for ever: where the last heartbeat is older than "
            "`older_than_secs` and than the heartbeat timeout.",
            False,
        ),
    ] = False
