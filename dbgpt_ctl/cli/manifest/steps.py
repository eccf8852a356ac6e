"""How the steps of a plan look: to people, and to scripts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.manifest.plan import DEFAULTS, REGISTERED_FIELDS, Kind
from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.output.results import reference
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dbgpt_ctl.cli.manifest.plan import Difference, Step

_SIGNS = {Kind.CREATE: "+", Kind.CHANGE: "~", Kind.KEEP: "~", Kind.PRUNE: "-"}


def told(differences: Iterable[Difference]) -> str:
    """`weight 1 -> 2, enabled true -> false`; empty for none."""
    return ", ".join(f"{each.field} {_value(each.old)} -> {_value(each.new)}" for each in differences)


def told_facts(step: Step) -> str:
    """`weight 2, enabled false`: what is not as it is by default."""
    return ", ".join(f"{name} {_value(value)}" for name, value in step.facts.items() if value != DEFAULTS[name])


def line_of_difference(step: Step) -> str:
    """A line of `ctl diff`."""
    differences = told_facts(step) if step.kind is Kind.CREATE else told((*step.differences, *step.stuck))
    return f"{_SIGNS[step.kind]} {reference(step.key)}{' ' if differences else ''}{differences}"


def as_difference(step: Step) -> dict[str, Any]:
    """An object of `ctl diff -o json`. `changes` is empty for what is pruned; of what is created it holds what is not
    as by default. `possible` tells whether apply can make them.
    """
    if step.kind is Kind.CREATE:
        stated = [(name, value) for name, value in step.facts.items() if value != DEFAULTS[name]]
        changes = [{"field": name, "old": None, "new": value, "possible": True} for name, value in stated]
        return {**step.key._asdict(), "action": step.kind.value, "changes": changes}
    changes = [
        {**each._asdict(), "possible": possible}
        for possible, differences in ((True, step.differences), (False, step.stuck))
        for each in differences
    ]
    action = Kind.CHANGE if step.differs and step.kind is Kind.KEEP else step.kind
    return {**step.key._asdict(), "action": action.value, "changes": changes}


def remarks(steps: Sequence[Step]) -> Iterator[str]:
    """What a person should know before, a line for each kind of it."""
    created = [each for each in steps if each.kind is Kind.CREATE and each.facts["check_healthy"]]
    if created:
        yield f"{_names(created)}: to register counts as one heartbeat; unhealthy after the timeout if no worker beats"
    undone = [each for each in steps if each.beats and each.registers]
    if undone:
        fields = " and ".join(
            name
            for name in REGISTERED_FIELDS
            if any(name == diff.field for each in undone for diff in each.differences)
        )
        yield f"warning: {_names(undone)}: alive; when its worker registers again, {fields} will be as the worker says"
    for state, command in (
        (InstanceState.DEREGISTERED, "its worker or ctl models register brings it back"),
        (InstanceState.UNHEALTHY, "it is left so until its worker beats"),
    ):
        left = [each for each in steps if each.state is state and each.kind is not Kind.PRUNE]
        if left:
            yield f"{_names(left)}: {state}; {command}"
    living = [each for each in steps if each.kind is Kind.PRUNE and each.beats]
    if living:
        yield f"warning: {_names(living)}: not in the file and alive; its worker registers again when it starts again"


def _names(steps: Sequence[Step]) -> str:
    first = reference(steps[0].key)
    return first if len(steps) == 1 else f"{first} and {len(steps) - 1} more"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    short = f"{value:g}"
    return short if float(short) == value else str(value)
