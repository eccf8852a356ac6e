"""What a script can wait for or insist on: so many instances of a model in one state."""

from __future__ import annotations

import operator
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbgpt_ctl.client import ReportedInstance

ABSENT = "absent"
STATES = (InstanceState.HEALTHY, InstanceState.UNHEALTHY, InstanceState.DRAINED)
_FORM = re.compile(r"\s*([a-z]+)\s*(?:(>=|<=|==|=|>|<)\s*([0-9]{1,9}))?\s*")
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """`healthy>=2`, and its like; a state alone means at least one, `absent` that there is none in any state."""

    state: str
    sign: str
    number: int

    @classmethod
    def parse(cls, option: str, text: str) -> Condition:
        """Raises UsageError, which names the option and the value."""
        found = _FORM.fullmatch(text.lower())
        if found and found[1] == ABSENT and found[2] is None:
            return cls(ABSENT, "=", 0)
        if found and found[1] in STATES:
            return cls(found[1], found[2] or ">=", int(found[3] or 1))
        states = ", ".join(STATES)
        raise UsageError(f"{option} {quoted(text)} is not a condition such as 'healthy>=2' (of {states}) or absent")

    def holds(self, counts: Counter[str]) -> bool:
        """Whether it is met by so many instances per state."""
        number = counts.total() if self.state == ABSENT else counts[self.state]
        return _OPERATORS[self.sign](number, self.number)

    def __str__(self) -> str:
        return ABSENT if self.state == ABSENT else f"{self.state}{self.sign}{self.number}"


def count(instances: Iterable[ReportedInstance]) -> Counter[str]:
    """How many are in each state."""
    return Counter(each.state.value for each in instances)


def told(counts: Counter[str]) -> str:
    """`2 healthy, 1 unhealthy`; `none` for none."""
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none"
