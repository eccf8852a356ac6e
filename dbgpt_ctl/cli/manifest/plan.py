"""What there is to do to make a registry hold what a file declares. Pure.

    make_plan       declared x registered -> a Step for each instance
    Step            create, change, leave or prune one instance; what cannot be done, and what a worker would undo

Apply never makes an instance healthy that is there and is not: a register counts as a heartbeat and revives, and its
worker may be dead. An instance that is absent is registered as the file says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.domain.instance import BEATING, InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbgpt_ctl.cli.manifest.declarations import Declared
    from dbgpt_ctl.client import ReportedInstance
    from dbgpt_ctl.domain.instance import InstanceKey

REGISTERED_FIELDS = ("weight", "prompt_template")
"""What a register of a known instance updates (rule 5)."""
DEFAULTS: dict[str, Any] = {"weight": 1.0, "enabled": True, "prompt_template": None, "check_healthy": True}


class Kind(StrEnum):
    """What becomes of an instance."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"
    PRUNE = "prune"


class Difference(NamedTuple):
    """`old` is registered, `new` declared."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Step:
    """One instance. `facts`: all that a register would send, what the file leaves out as it is registered."""

    key: InstanceKey
    kind: Kind
    differences: tuple[Difference, ...] = ()
    """That can be made to vanish."""
    stuck: tuple[Difference, ...] = ()
    """That cannot: `why_stuck`."""
    why_stuck: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    state: InstanceState | None = None
    """None for what is absent."""
    beats: bool = False
    """It is alive; when its worker registers again, it sends weight and prompt template of its own."""

    @property
    def registers(self) -> bool:
        """Whether a register is sent."""
        return self.kind is Kind.CREATE or any(each.field in REGISTERED_FIELDS for each in self.differences)

    @property
    def switches(self) -> bool | None:
        """True: undrain; False: drain; None: neither."""
        if self.kind is Kind.CREATE:
            return None if self.facts["enabled"] else False
        return next((each.new for each in self.differences if each.field == "enabled"), None)

    @property
    def differs(self) -> bool:
        """Whether the registry does not hold what the file declares."""
        return self.kind is not Kind.KEEP or bool(self.stuck)


def make_plan(declared: Iterable[Declared], registered: Iterable[ReportedInstance], *, prune: bool) -> list[Step]:
    """A step for each declared instance, in the order of the file; then with `prune` one for each that is registered
    under a model of the file and not declared, in order of identity.
    """
    there = {each.key: each for each in registered}
    wanted = list(declared)
    steps = [_step(each, there.get(each.key)) for each in wanted]
    if prune:
        models, keys = {each.key.model_name for each in wanted}, {each.key for each in wanted}
        extra = sorted(key for key in there if key.model_name in models and key not in keys)
        steps += [Step(key, Kind.PRUNE, state=there[key].state, beats=_beats(there[key])) for key in extra]
    return steps


def _step(wanted: Declared, there: ReportedInstance | None) -> Step:
    if there is None:
        return Step(wanted.key, Kind.CREATE, facts=DEFAULTS | wanted.stated)
    current = {name: getattr(there, name) for name in DEFAULTS}
    found = [
        Difference(name, current[name], value)
        for name, value in wanted.stated.items()
        if not _same(current[name], value)
    ]
    stuck = [each for each in found if each.field == "check_healthy"]
    why = ["check_healthy cannot be changed once an instance is there: remove it and apply again"] if stuck else []
    if there.state not in BEATING and any(each.field in REGISTERED_FIELDS for each in found):
        registered = [each for each in found if each.field in REGISTERED_FIELDS]
        stuck += registered
        why.append(
            f"{' and '.join(each.field for each in registered)} not changed while it is {there.state}: "
            "a register would count as a heartbeat and send it requests; apply again when its worker beats"
        )
    doable = tuple(each for each in found if each not in stuck)
    return Step(
        wanted.key,
        Kind.CHANGE if doable else Kind.KEEP,
        doable,
        tuple(stuck),
        "; ".join(why) or None,
        current | wanted.stated,
        there.state,
        _beats(there),
    )


def _beats(there: ReportedInstance) -> bool:
    return there.state in BEATING


def _same(old: Any, new: Any) -> bool:
    """Weights are kept with seven digits in DB-GPT's table; no template is null or empty."""
    if isinstance(new, int | float) and not isinstance(new, bool):
        return isinstance(old, int | float) and math.isclose(old, new, rel_tol=1e-6)
    return (old or None) == (new or None)
