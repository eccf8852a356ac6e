"""Conditions on the instances of a model, as in `healthy>=2`, and whether what is known of them meets one. Pure.

While a hold keeps an instance healthy, it is unknown whether its worker still runs: it may be healthy or unhealthy. An
instance is unknown too if controllers with different heartbeat timeouts give different states. A condition is met only
if it holds in every case (rule 14), so an instance counts as healthy only where every controller routes to it.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.texts import drained_text
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from dbgpt_ctl.client.results import KnownInstance

ABSENT = "absent"
STATES = ("healthy", "unhealthy", "drained", "deregistered")
"""`healthy` means routable here. `drained` overlaps the others."""
UNKNOWN = "unknown"
_CONDITION = re.compile(r"\s*([a-z]+)\s*(?:(>=|<=|==|=|>|<)\s*([0-9]{1,9}))?\s*")
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "==": operator.eq,
}


class StateTally(NamedTuple):
    """How many instances are in each state, as far as that is known."""

    healthy: int = 0
    """Routable, with a heartbeat of their own that is fresh."""
    unhealthy: int = 0
    drained: int = 0
    """In any state, unknown ones too."""
    deregistered: int = 0
    unknown: int = 0
    """Held or disputed: either healthy or unhealthy."""
    unknown_undrained: int = 0
    """Those of `unknown` that are routable if they are healthy."""
    unhealthy_drained: int = 0
    total: int = 0

    @classmethod
    def of(cls, instances: Iterable[KnownInstance]) -> Self:
        """The tally of these instances. DB-GPT's own controller reports neither holds nor deregisters."""
        listed = tuple(instances)
        unknown = [instance for instance in listed if instance.is_unknown]
        unhealthy = [
            instance for instance in listed if instance.state is InstanceState.UNHEALTHY and not instance.is_unknown
        ]
        return cls(
            healthy=sum(instance.routable and not instance.is_unknown for instance in listed),
            unhealthy=len(unhealthy),
            drained=sum(instance.drain is not None for instance in listed),
            deregistered=sum(instance.state is InstanceState.DEREGISTERED for instance in listed),
            unknown=len(unknown),
            unknown_undrained=sum(instance.drain is None for instance in unknown),
            unhealthy_drained=sum(instance.drain is not None for instance in unhealthy),
            total=len(listed),
        )

    def range_of(self, state: str) -> tuple[int, int]:
        """The lowest and the highest number of instances that may be in a state; each number between is possible."""
        match state:
            case "healthy":
                return self.healthy, self.healthy + self.unknown_undrained
            case "unhealthy":
                return self.unhealthy, self.unhealthy + self.unknown
            case "drained":
                return self.drained, self.drained
            case "deregistered":
                return self.deregistered, self.deregistered
            case _:
                return self.total, self.total

    @property
    def counts(self) -> dict[str, int]:
        """For scripts."""
        return {name: getattr(self, name) for name in (*STATES, UNKNOWN)}

    def __str__(self) -> str:
        """`2 healthy, 2 unhealthy (1 drained), 2 drained in all`; `none` where there is no instance."""
        unhealthy_drained = drained_text(self.unhealthy_drained)
        planned = {"unhealthy": unhealthy_drained, "drained": " in all" if unhealthy_drained else ""}
        parts = (f"{count} {name}{planned.get(name, '')}" for name, count in self.counts.items() if count)
        return ", ".join(parts) or "none"


@dataclass(frozen=True, slots=True)
class Condition:
    """`healthy>=2`. A state alone means at least one instance; `absent` means no instance in any
    state, not even a deregistered one.
    """

    state: str
    sign: str
    number: int

    @classmethod
    def parse(cls, option: str, text: str) -> Condition:
        """Raises UsageError, which names the option and the value."""
        match = _CONDITION.fullmatch(text.lower())
        if match and match[1] == ABSENT and match[2] is None:
            return cls(ABSENT, "=", 0)
        if match and match[1] in STATES:
            return cls(match[1], match[2] or ">=", int(match[3] or 1))
        states = ", ".join(STATES)
        raise UsageError(f"{option} {quoted(text)} is not a condition such as 'healthy>=2' (of {states}) or absent")

    @property
    def is_about_deregistered(self) -> bool:
        """Whether it needs a controller that reports deregistered instances: DB-GPT's shows them as unhealthy."""
        return self.state == InstanceState.DEREGISTERED

    def is_met_by(self, tally: StateTally) -> bool:
        """Whether it holds, whatever the state of each unknown instance is."""
        # Each operator is monotonous or wants one number, so it holds in between if it holds at both ends.
        return all(_OPERATORS[self.sign](number, self.number) for number in tally.range_of(self.state))

    def may_be_met_by(self, tally: StateTally) -> bool:
        """Whether it holds for some states of the unknown instances."""
        low, high = tally.range_of(self.state)
        nearest = min(max(low, self.number), high)
        return any(_OPERATORS[self.sign](number, self.number) for number in (low, nearest, high))

    def __str__(self) -> str:
        return ABSENT if self.state == ABSENT else f"{self.state}{self.sign}{self.number}"
