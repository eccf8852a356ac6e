"""Which instances a list is of, and in which order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from dbgpt_ctl.cli.output.escaping import escaped, quoted, unescaped
from dbgpt_ctl.cli.parsing.references import ModelFilter
from dbgpt_ctl.domain.fields import parse_host
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

STATES = tuple(InstanceState)
_BY_SEVERITY = (
    InstanceState.UNHEALTHY,
    InstanceState.DEREGISTERED,
    InstanceState.DRAINED,
    InstanceState.HEALTHY,
)
_EPOCH = datetime.min.replace(tzinfo=UTC)
_NUMBER = re.compile(r"([0-9]+)")


class Shown(Protocol):
    """What a list shows of an instance: `ReportedInstance` and what extends it."""

    model_name: str
    host: str
    port: int
    weight: float
    last_heartbeat: datetime | None

    @property
    def state(self) -> InstanceState: ...


class SortKey(StrEnum):
    """The values of `--sort-by`."""

    NAME = "name"
    TYPE = "type"
    HOST = "host"
    PORT = "port"
    STATE = "state"
    BEAT = "beat"
    WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class Selection:
    """`states` empty: of any. Each part narrows the others down."""

    models: ModelFilter = field(default_factory=ModelFilter)
    states: frozenset[InstanceState] = frozenset()
    host: str | None = None

    @classmethod
    def parse(
        cls, name: str | None, kind: str | None, states: Sequence[str] | None = None, host: str | None = None
    ) -> Selection:
        """From what stands on the command line. Raises UsageError, which names the value."""
        return cls(ModelFilter.parse(name, kind), parse_states(states or ()), _host(host))

    def only_routable(self) -> Selection:
        """The same, narrowed down to what gets requests (rule 3)."""
        routable = frozenset({InstanceState.HEALTHY})
        return replace(self, states=self.states & routable if self.states else routable)

    @property
    def needs_facts(self) -> bool:
        """Whether DB-GPT's nine keys cannot tell for sure: what is deregistered shows as unhealthy there."""
        return not self.states.isdisjoint((InstanceState.DEREGISTERED, InstanceState.UNHEALTHY))

    def is_about(self, model_name: str, host: str) -> bool:
        """Whether it is about instances of that model there, in whichever state."""
        return self.models.matches(model_name) and self.host in (None, host)

    def matches(self, instance: Shown) -> bool:
        """Whether it is in the list now."""
        return self.is_about(instance.model_name, instance.host) and (not self.states or instance.state in self.states)

    def __str__(self) -> str:
        where = "" if self.host is None else f" on host {escaped(self.host)}"
        which = "" if not self.states else f" that are {' or '.join(sorted(self.states))}"
        return f"{self.models}{where}{which}"


def parse_states(words: Iterable[str]) -> frozenset[InstanceState]:
    """Of `--state`, given several times or with commas. Raises UsageError."""
    found = set()
    for word in (part.strip().lower() for each in words for part in each.split(",")):
        if word not in STATES:
            raise UsageError(f"--state {quoted(word)} is not one of {', '.join(STATES)}")
        found.add(InstanceState(word))
    return frozenset(found)


def sort_key(by: SortKey) -> Callable[[Shown], Any]:
    """For a stable sort. Numbers in texts count as numbers; the longest silent and the worst state come first."""
    keys: dict[SortKey, Callable[[Shown], Any]] = {
        SortKey.NAME: lambda each: _natural(each.model_name),
        SortKey.TYPE: lambda each: each.model_name.partition("@")[2],
        SortKey.HOST: lambda each: _natural(each.host),
        SortKey.PORT: lambda each: each.port,
        SortKey.STATE: lambda each: _BY_SEVERITY.index(each.state),
        SortKey.BEAT: lambda each: each.last_heartbeat or _EPOCH,
        SortKey.WEIGHT: lambda each: each.weight if isinstance(each.weight, int | float) else float("-inf"),
    }
    return keys[by]


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """10.0.0.9 before 10.0.0.10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _NUMBER.split(text)]


def _host(text: str | None) -> str | None:
    return None if text is None else parse_host(unescaped(text))
