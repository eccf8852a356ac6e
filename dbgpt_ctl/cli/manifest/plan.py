"""The steps that make a registry match a file, and their texts. Pure.

    make_plan       declarations x registered instances -> one Step per instance
    Step            create, change, keep or prune one instance; differences that can be removed, and those that cannot
    notes           what a person should know before the steps are carried out

Apply never makes a registered instance healthy: a register counts as a heartbeat and would send requests to a worker
that may be dead. An absent instance is registered as the file declares it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.parsing.references import reference_of
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dbgpt_ctl.cli.manifest.declarations import Declaration
    from dbgpt_ctl.client.responses import KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey

REGISTERED_FIELDS = ("weight", "prompt_template")
"""The fields that a register of a known instance updates (rule 5)."""
DEFAULTS: dict[str, Any] = {"weight": 1.0, "enabled": True, "prompt_template": None, "check_healthy": True}


class Action(StrEnum):
    """What apply does to an instance."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"
    PRUNE = "prune"


_SIGNS = {Action.CREATE: "+", Action.CHANGE: "~", Action.KEEP: "~", Action.PRUNE: "-"}


class Difference(NamedTuple):
    """`old` is the registered value, None for an absent instance; `new` is the declared one."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Step:
    """The action for one instance."""

    key: InstanceKey
    action: Action
    differences: tuple[Difference, ...] = ()
    """Those that apply can remove; of an instance to create, the values that are not the default."""
    blocked: tuple[Difference, ...] = ()
    """Those that apply cannot remove, because of `blocked_reason`."""
    blocked_reason: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """All values that a register sends; a field that the file leaves out keeps its registered value."""
    state: InstanceState | None = None
    """None for an absent instance."""

    @property
    def is_beating(self) -> bool:
        """Its worker is alive. When the worker registers again, it sends its own weight and prompt template."""
        return self.state is InstanceState.HEALTHY

    @property
    def registers(self) -> bool:
        """Whether apply sends a register."""
        return self.action is Action.CREATE or any(diff.field in REGISTERED_FIELDS for diff in self.differences)

    @property
    def enables(self) -> bool | None:
        """True for an undrain, False for a drain, None for neither."""
        return next((diff.new for diff in self.differences if diff.field == "enabled"), None)

    @property
    def differs(self) -> bool:
        """Whether the registry does not match the file."""
        return self.action is not Action.KEEP or bool(self.blocked)

    def as_line(self) -> str:
        """A line of `ctl diff`."""
        changes = self.text((*self.differences, *self.blocked))
        return f"{_SIGNS[self.action]} {reference_of(self.key)} {changes}".rstrip()

    def as_object(self) -> dict[str, Any]:
        """An object of `ctl diff -o json`. `possible` says whether apply can make the change.

        `changes` is empty for an instance to prune, and contains what is not the default for one to create.
        """
        changes = [{**diff._asdict(), "possible": True} for diff in self.differences]
        changes += [{**diff._asdict(), "possible": False} for diff in self.blocked]
        action = Action.CHANGE if self.differs and self.action is Action.KEEP else self.action
        return {**self.key._asdict(), "action": action.value, "changes": changes}

    def text(self, differences: Iterable[Difference]) -> str:
        """`weight 1 -> 2, enabled true -> false`, without the old values for an instance to create; empty for none."""
        created = self.action is Action.CREATE
        return ", ".join(
            f"{diff.field} {'' if created else f'{_value_text(diff.old)} -> '}{_value_text(diff.new)}"
            for diff in differences
        )


def make_plan(declarations: Iterable[Declaration], registered: Iterable[KnownInstance], *, prune: bool) -> list[Step]:
    """A step for each declaration, in the order of the file.

    With `prune`, then a step for each instance that is registered under a model of the file and not declared, in order
    of identity.
    """
    instances = {instance.key: instance for instance in registered}
    wanted = list(declarations)
    steps = [_step(declaration, instances.get(declaration.key)) for declaration in wanted]
    if prune:
        keys = {declaration.key for declaration in wanted}
        models = {key.model_name for key in keys}
        extra = sorted(key for key in instances if key.model_name in models and key not in keys)
        steps += [Step(key, Action.PRUNE, state=instances[key].state) for key in extra]
    return steps


def _step(wanted: Declaration, instance: KnownInstance | None) -> Step:
    if instance is None:
        facts = DEFAULTS | wanted.fields
        given = tuple(Difference(name, None, value) for name, value in facts.items() if value != DEFAULTS[name])
        return Step(wanted.key, Action.CREATE, given, facts=facts)
    current = {name: getattr(instance, name) for name in DEFAULTS}
    differences = [
        Difference(name, current[name], value)
        for name, value in wanted.fields.items()
        if not _is_same(current[name], value)
    ]
    blocked = [diff for diff in differences if diff.field == "check_healthy"]
    reasons = ["check_healthy of a registered instance cannot be changed: remove it and apply again"] if blocked else []
    registered = [diff for diff in differences if diff.field in REGISTERED_FIELDS]
    if instance.state is not InstanceState.HEALTHY and registered:
        blocked += registered
        reasons.append(
            f"{' and '.join(diff.field for diff in registered)} not changed while it is {instance.state}: "
            "a register would count as a heartbeat and send it requests; apply again when its worker beats"
        )
    possible = tuple(diff for diff in differences if diff not in blocked)
    return Step(
        key=wanted.key,
        action=Action.CHANGE if possible else Action.KEEP,
        differences=possible,
        blocked=tuple(blocked),
        blocked_reason="; ".join(reasons) or None,
        facts=current | wanted.fields,
        state=instance.state,
    )


def _is_same(old: Any, new: Any) -> bool:
    """DB-GPT's table keeps seven digits of a weight; a missing prompt template is null or empty."""
    if isinstance(new, int | float) and not isinstance(new, bool):
        return isinstance(old, int | float) and math.isclose(old, new, rel_tol=1e-6)
    return (old or None) == (new or None)


def notes(steps: Sequence[Step]) -> Iterator[str]:
    """What a person should know before the steps are carried out: a line for each kind of it."""
    created = [step for step in steps if step.action is Action.CREATE and step.facts["check_healthy"]]
    if created:
        yield (
            f"{_names(created)}: a register counts as one heartbeat; "
            "unhealthy after the heartbeat timeout if no worker beats"
        )
    undone = [step for step in steps if step.is_beating and step.registers]
    if undone:
        changed = {diff.field for step in undone for diff in step.differences}
        fields = " and ".join(name for name in REGISTERED_FIELDS if name in changed)
        yield f"warning: {_names(undone)}: alive; its worker resets {fields} when it registers again"
    for state, advice in (
        (InstanceState.DEREGISTERED, "its worker or ctl models register brings it back"),
        (InstanceState.UNHEALTHY, "apply leaves it so until its worker beats"),
    ):
        kept = [step for step in steps if step.state is state and step.action is not Action.PRUNE]
        if kept:
            yield f"{_names(kept)}: {state}; {advice}"
    alive = [step for step in steps if step.action is Action.PRUNE and step.is_beating]
    if alive:
        yield f"warning: {_names(alive)}: not in the file and alive; its worker registers it again at its next start"


def _names(steps: Sequence[Step]) -> str:
    first = reference_of(steps[0].key)
    return first if len(steps) == 1 else f"{first} and {len(steps) - 1} more"


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    short = f"{value:g}"
    return short if float(short) == value else str(value)
