"""The answers that hold instances, and those of a refusal and of a health check."""

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, UnsetType

from dbgpt_ctl.auth.tokens import Reason
from dbgpt_ctl.wire.fields import TIME, Sent, Time, doc
from dbgpt_ctl.wire.instances import Identity, KnownInstanceObject

Version: TypeAlias = Annotated[Literal[1], doc("The version of this format: 1.", 1)]


class Versioned(Sent, forbid_unknown_fields=True):
    """An answer with the version of its format."""

    version: Version = 1


class Timed(Versioned):
    """An answer with the time that its states are of."""

    time: Annotated[Time, doc("The registry's time: ages count against it.", TIME)]


class Held(Timed):
    """An answer whose states may be held."""

    held_until: Annotated[
        Time | None,
        doc("The registry itself was away: until then the silent ones are as they were before.", None, TIME),
    ] = None
    heartbeat_timeouts_secs: Annotated[
        tuple[float, ...],
        doc(
            "Where the controllers that share the registry differ in it: the timeouts, the shortest first. States are "
            "by that of this controller.",
            [60.0, 120.0],
        ),
    ] = ()


class Listed(Held):
    """An answer made of a list, which may be stale too."""

    stale_since: Annotated[
        Time | None, doc("The database is away: what changed since then may be missing.", None, TIME)
    ] = None


class KnownInstances(Listed):
    """The instances."""

    instances: Annotated[list[KnownInstanceObject], doc("In order of model_name, host and port.")]


class OneInstance(Held):
    """The instance."""

    instance: KnownInstanceObject


class DrainedObject(Held):
    """Stored; the instance as it is now."""

    instance: KnownInstanceObject
    durable: Annotated[bool, doc("Whether it outlives the controller's process.", True)]


class Pruned(Versioned):
    """What is forgotten, or would be."""

    dry_run: Annotated[bool, doc("Whether nothing was forgotten.", True)]
    instances: Annotated[list[Identity], doc("In order of model_name, host and port.")]


class Health(Sent):
    """The controller can answer lists."""

    status: Annotated[Literal["ok"], doc("Lists can be answered.", "ok")]
    reason: Annotated[
        str | UnsetType,
        doc(
            "What is not as it should be: the database is away, or states are held.",
            "database db1:3306/dbgpt: Connection refused; lists are as of 2026-01-02T03:04:05+00:00",
        ),
    ] = UNSET


class Problem(Sent):
    """Problem details (RFC 9457)."""

    type: Annotated[Literal["about:blank"], doc("Always this; `code` names the kind.", "about:blank")]
    title: Annotated[str, doc("The kind, for people.", "Invalid instance")]
    status: Annotated[int, doc("The HTTP status.", 422)]
    detail: Annotated[str, doc("One line: what is wrong, with what value, and what to do.", "port is missing")]
    code: Annotated[str, doc("The kind, for programs; stable.", "invalid_instance")]
    field: Annotated[str | UnsetType, doc("The field or parameter that is wrong.", "port")] = UNSET
    instance_key: Annotated[Identity | UnsetType, doc("The identity that is not known.")] = UNSET
    reason: Annotated[Reason | UnsetType, doc("Why the token of the request is not enough.", "role")] = UNSET
