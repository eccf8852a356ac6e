"""The steps that make a registry match a file, and their texts. Pure.

    make_plan       declarations x registered instances -> one Step per instance
    Step            create, change, keep or prune one instance; differences that can be removed, and those that cannot

Apply never makes a registered instance healthy: a register counts as a heartbeat and would send requests to a worker
that may be dead. So a declared instance that is deregistered differs, and apply cannot remove that difference. An
absent instance is registered as the file declares it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.domain.fields import MAX_DRAIN_DAYS
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.escaping import quoted, shell_argument
from dbgpt_ctl.text.times import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbgpt_ctl.cli.documents.instances import FieldChange, PlannedStep
    from dbgpt_ctl.cli.manifest.declarations import Declaration
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey

REGISTERED_FIELDS = ("weight", "prompt_template")
"""The fields that a register of a known instance updates (rule 5)."""
DEFAULTS: dict[str, Any] = {"weight": 1.0, "enabled": True, "prompt_template": None, "check_healthy": True}
DRAIN_FIELDS = ("enabled", "drain_reason", "drain_until")
"""The fields that a drain or an undrain changes."""
FIELDS = ("weight", *DRAIN_FIELDS, "prompt_template", "check_healthy")
"""In the order in which differences are printed."""
STATE, REGISTERED = "state", "registered"
"""The declared state of an instance: that it is registered is all that a file says of it."""
SAME_UNTIL = timedelta(minutes=1)
"""A drain is asked for by its length, which the registry counts from when it hears of it: so its end is a bit later."""


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

    def as_object(self, *, possible: bool) -> FieldChange:
        """A change of `ctl diff -o json`. `possible` says whether apply can make it."""
        old, new = (value.isoformat() if isinstance(value, datetime) else value for value in self[1:])
        return {"field": self.field, "old": old, "new": new, "possible": possible}

    def text(self, value: Any) -> str:
        """One of the two values, for people."""
        return str(value) if self.field == STATE else _value_text(value)


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
    drain: DrainFacts | None = None
    """The drain that apply sets, with its reason and end; None where apply sets none."""
    is_drain_over: bool = False
    """Whether the file declares a drain whose end has passed. It says nothing more about drains then."""

    @property
    def is_beating(self) -> bool:
        """Its worker is alive. When the worker registers again, it sends its own weight and prompt template."""
        return self.state is InstanceState.HEALTHY

    @property
    def registers(self) -> bool:
        """Whether apply sends a register."""
        return self.action is Action.CREATE or any(diff.field in REGISTERED_FIELDS for diff in self.differences)

    @property
    def undrains(self) -> bool:
        """Whether apply ends a drain."""
        return any(diff.field == "enabled" and diff.new for diff in self.differences)

    @property
    def differs(self) -> bool:
        """Whether the registry does not match the file."""
        return self.action is not Action.KEEP or bool(self.blocked)

    def as_line(self) -> str:
        """A line of `ctl diff`."""
        changes = self.text((*self.differences, *self.blocked))
        return f"{_SIGNS[self.action]} {reference_of(self.key)} {changes}".rstrip()

    def as_object(self) -> PlannedStep:
        """An object of `ctl diff -o json`.

        `changes` is empty for an instance to prune, and contains what is not the default for one to create.
        """
        changes = [diff.as_object(possible=True) for diff in self.differences]
        changes += [diff.as_object(possible=False) for diff in self.blocked]
        action = Action.CHANGE if self.differs and self.action is Action.KEEP else self.action
        name, host, port = self.key
        step: PlannedStep = {
            "model_name": name,
            "host": host,
            "port": port,
            "action": action.value,
            "changes": changes,
        }
        if self.blocked_reason:
            step["reason"] = self.blocked_reason
        return step

    def text(self, differences: Iterable[Difference]) -> str:
        """`weight 1 -> 2, enabled true -> false`, without the old values for an instance to create; empty for none."""
        created = self.action is Action.CREATE
        return ", ".join(
            f"{diff.field} {'' if created else f'{diff.text(diff.old)} -> '}{diff.text(diff.new)}"
            for diff in differences
        )


def make_plan(
    declarations: Iterable[Declaration], registered: Iterable[KnownInstance], *, prune: bool, now: datetime
) -> list[Step]:
    """A step for each declaration, in the order of the file. `now` is the registry's time.

    With `prune`, then a step for each instance that is registered under a model of the file and not declared, in order
    of identity. Raises UsageError for a drain that is too long.
    """
    instances = {instance.key: instance for instance in registered}
    wanted = list(declarations)
    steps = [_step(declaration, instances.get(declaration.key), now) for declaration in wanted]
    if prune:
        keys = {declaration.key for declaration in wanted}
        models = {key.model_name for key in keys}
        extra = sorted(key for key in instances if key.model_name in models and key not in keys)
        steps += [Step(key, Action.PRUNE, state=instances[key].state) for key in extra]
    return steps


def _step(declared: Declaration, instance: KnownInstance | None, now: datetime) -> Step:
    wanted, until = declared.fields, declared.fields.get("drain_until")
    is_over = until is not None and until <= now
    if until is not None and until - now > timedelta(days=MAX_DRAIN_DAYS):
        raise UsageError(
            f"{reference_of(declared.key)}: a drain until {utc_text(until)} is longer than {MAX_DRAIN_DAYS} days; "
            "without until it has no end"
        )
    if is_over:
        wanted = {name: value for name, value in wanted.items() if name not in DRAIN_FIELDS}
    current = _current(instance)
    facts = {name: wanted.get(name, current[name]) for name in DEFAULTS}
    differences = tuple(
        Difference(name, None if instance is None else current[name], wanted[name])
        for name in FIELDS
        if name in wanted and not _is_same(current[name], wanted[name])
    )
    blocked, reason = ((), None) if instance is None else _blocked(instance, differences, facts)
    possible = tuple(diff for diff in differences if diff not in blocked)
    changed = Action.CHANGE if possible else Action.KEEP
    return Step(
        key=declared.key,
        action=Action.CREATE if instance is None else changed,
        differences=possible,
        blocked=blocked,
        blocked_reason=reason,
        facts=facts,
        state=None if instance is None else instance.state,
        drain=_drain(wanted, current, possible),
        is_drain_over=is_over,
    )


def _current(instance: KnownInstance | None) -> dict[str, Any]:
    """The registered values of FIELDS; of an absent instance those of a register without them."""
    if instance is None:
        return {**DEFAULTS, "drain_reason": None, "drain_until": None}
    drain = instance.drain or DrainFacts()
    facts = {name: getattr(instance, name) for name in DEFAULTS}
    return {**facts, "drain_reason": drain.reason, "drain_until": drain.until}


def _blocked(
    instance: KnownInstance, differences: Iterable[Difference], facts: Mapping[str, Any]
) -> tuple[tuple[Difference, ...], str | None]:
    """The differences that apply cannot remove, and why, with what to do instead."""
    blocked = [diff for diff in differences if diff.field == "check_healthy"]
    reasons = ["check_healthy of a registered instance cannot be changed: remove it and apply again"] if blocked else []
    registered = [diff for diff in differences if diff.field in REGISTERED_FIELDS]
    if instance.state is InstanceState.DEREGISTERED:
        blocked = [Difference(STATE, instance.state.value, REGISTERED), *blocked, *registered]
        reasons.append(
            "apply does not revive a deregistered instance, because a register counts as a heartbeat and would send it "
            f"requests; when its worker runs: {_register_command(instance.key, facts)}"
        )
    elif instance.state is not InstanceState.HEALTHY and registered:
        blocked += registered
        reasons.append(
            f"{' and '.join(diff.field for diff in registered)} not changed while it is {instance.state}: "
            "a register would count as a heartbeat and send it requests; apply again when its worker beats"
        )
    return tuple(blocked), "; ".join(reasons) or None


def _register_command(key: InstanceKey, facts: Mapping[str, Any]) -> str:
    """The command line that registers the instance with these facts: without them it would reset them."""
    words = ["ctl", "models", "register", reference_of(key)]
    if not _is_same(facts["weight"], DEFAULTS["weight"]):
        words += ["--weight", str(facts["weight"])]
    if facts["prompt_template"]:
        words += ["--prompt-template", str(facts["prompt_template"])]
    return " ".join(map(shell_argument, words))


def _drain(
    wanted: Mapping[str, Any], current: Mapping[str, Any], differences: Iterable[Difference]
) -> DrainFacts | None:
    """The drain that apply sets. A drain replaces the end and not the reason, so the end is always sent."""
    if not any(diff.field in DRAIN_FIELDS and diff.new is not True for diff in differences):
        return None
    return DrainFacts(reason=wanted.get("drain_reason"), until=wanted.get("drain_until", current["drain_until"]))


def _is_same(old: Any, new: Any) -> bool:
    """DB-GPT's table keeps seven digits of a weight; a missing prompt template is null or empty."""
    if isinstance(old, datetime) and isinstance(new, datetime):
        return abs(old - new) <= SAME_UNTIL
    if isinstance(new, int | float) and not isinstance(new, bool):
        return isinstance(old, int | float) and math.isclose(old, new, rel_tol=1e-6)
    return (old or None) == (new or None)


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, str):
        return quoted(value)
    short = f"{value:g}"
    return short if float(short) == value else str(value)
