"""What a person should know before a plan is carried out. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.manifest.plan import REGISTERED_FIELDS, Action
from dbgpt_ctl.domain.instance import SERVICE, InstanceState
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dbgpt_ctl.cli.manifest.plan import Step
    from dbgpt_ctl.client.results import KnownInstance


def notes(
    steps: Sequence[Step],
    registered: Iterable[KnownInstance],
    *,
    complete: bool,
    heartbeat_timeout_secs: float | None = None,
) -> Iterator[str]:
    """A line for each kind of thing to know.

    `registered` are the instances before. `complete`: the controller reports all facts; DB-GPT's own shows deregistered
    instances as unhealthy. `heartbeat_timeout_secs` is None where it is not known.
    """
    created = [step for step in steps if will_expire(step)]
    if created:
        timeout = "the heartbeat timeout" if heartbeat_timeout_secs is None else f"{heartbeat_timeout_secs:g}s"
        yield f"warning: {_expiry(created, timeout)}"
    undone = [step for step in steps if step.is_beating and step.registers]
    if undone:
        changed = {diff.field for step in undone for diff in step.differences}
        fields = " and ".join(name for name in REGISTERED_FIELDS if name in changed)
        yield f"warning: {_names(undone)}: alive; its worker resets {fields} when it registers again"
    kept = [step for step in steps if step.state is InstanceState.UNHEALTHY and step.action is not Action.PRUNE]
    if kept:
        state = "unhealthy" if complete else "unhealthy or deregistered, which this controller does not tell apart"
        yield f"{_names(kept)}: {state}; apply leaves it so until its worker beats"
    over = [step for step in steps if step.is_drain_over]
    if over:
        yield f"{_names(over)}: the end of its drain in the file has passed; its drain is not compared"
    alive = [step for step in steps if step.action is Action.PRUNE and step.is_beating]
    if alive:
        yield f"warning: {_names(alive)}: not in the file and alive; its worker registers it again at its next start"
    if models := _unserved(steps, registered):
        one = escaped(models[0])
        get = f"{one} gets" if len(models) == 1 else f"{one} and {len(models) - 1} more get"
        yield f"warning: {get} no requests after this: the last instances that API servers find are drained or removed"


def will_expire(step: Step) -> bool:
    """Whether the instance is new and becomes unhealthy if no worker sends heartbeats."""
    return step.action is Action.CREATE and bool(step.facts["check_healthy"])


def _expiry(created: Sequence[Step], timeout: str) -> str:
    first, beat = reference_of(created[0].key), "a register counts as one heartbeat"
    if len(created) == 1:
        return (
            f"{first} is new: {beat}, so it is healthy for {timeout}, and unhealthy after that unless its worker sends "
            "heartbeats; ctl models list --state unhealthy shows it then"
        )
    return (
        f"{len(created)} instances are new, {first} is the first: {beat}, so they are healthy for {timeout}, and "
        "unhealthy after that unless their workers send heartbeats; ctl models list --state unhealthy shows them then"
    )


def _unserved(steps: Sequence[Step], registered: Iterable[KnownInstance]) -> list[str]:
    """The models that lose their last routable instance by a drain or a prune, in order of their names. Type service is
    routed by nobody.
    """
    routable = {instance.key for instance in registered if instance.routable and instance.key.type != SERVICE}
    before = Counter(key.model_name for key in routable)
    after = before.copy()
    for step in steps:
        leaves = step.drain is not None or step.action is Action.PRUNE
        comes = step.is_beating and step.undrains
        comes = comes or (step.action is Action.CREATE and bool(step.facts["enabled"]))
        after[step.key.model_name] += comes - (leaves and step.key in routable)
    return sorted(model for model in before if not after[model])


def _names(steps: Sequence[Step]) -> str:
    first = reference_of(steps[0].key)
    return first if len(steps) == 1 else f"{first} and {len(steps) - 1} more"
