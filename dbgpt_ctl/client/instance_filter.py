"""Which models and instances a command is about, and the order of a list."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.domain.fields import parse_host
from dbgpt_ctl.domain.instance import DRAINED, STATES, InstanceState
from dbgpt_ctl.domain.references import parse_model, parse_type
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.escaping import escaped, quoted, unescaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dbgpt_ctl.client.results import Inventory, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient

_BY_SEVERITY = (
    (InstanceState.UNHEALTHY, False),
    (InstanceState.UNHEALTHY, True),
    (InstanceState.DEREGISTERED, False),
    (InstanceState.DEREGISTERED, True),
    (InstanceState.HEALTHY, True),
    (InstanceState.HEALTHY, False),
)
"""States, and whether an instance is drained: the worst first. What is drained and unhealthy is planned."""
_EPOCH = datetime.min.replace(tzinfo=UTC)
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """One model, all models of a name, of a type or that a pattern matches, or all.

    At most one field is set, but `pattern` and `type` may be set together. A controller can filter by `model_name`, but
    not by the others.
    """

    model_name: str | None = None
    """NAME@TYPE."""
    name: str | None = None
    type: str | None = None
    pattern: str | None = None
    """A value of `--model` with `*` or `?`: matches NAME@TYPE, or NAME where it has no `@`, with its case."""

    @classmethod
    def parse(cls, name: str | None, model_type: str | None = None, pattern: str | None = None) -> ModelFilter:
        """From NAME, NAME@TYPE, `--type`, `--model`, or none of them. Raises UsageError."""
        if name is None:
            parsed = None if pattern is None else _parse_pattern(pattern)
            return cls(type=None if model_type is None else parse_type(model_type), pattern=parsed)
        if pattern is not None:
            raise UsageError(f"{quoted(name)} and --model {quoted(pattern)} both name models: give one of them")
        model_name = parse_model(name, model_type)
        if model_type is None and "@" not in name:
            return cls(name=model_name.partition("@")[0])
        return cls(model_name=model_name)

    @property
    def label(self) -> str:
        """NAME, NAME@TYPE or the pattern, escaped; empty where none of them was given."""
        return escaped(self.model_name or self.name or self.pattern or "")

    def matches(self, model_name: str) -> bool:
        """Compares exactly, while DB-GPT's controller on MySQL ignores case when it filters by model."""
        name, _, model_type = model_name.partition("@")
        if self.pattern is not None and not fnmatchcase(model_name if "@" in self.pattern else name, self.pattern):
            return False
        return self.model_name in (None, model_name) and self.name in (None, name) and self.type in (None, model_type)

    def __str__(self) -> str:
        of_type = "" if self.type is None else f" of type {escaped(self.type)}"
        return f" of {self.label}{of_type}" if self.label else of_type


@dataclass(frozen=True, slots=True)
class InstanceFilter:
    """Instances that match all fields. An empty `states` means any; `routable` means only those that get requests."""

    models: ModelFilter = field(default_factory=ModelFilter)
    states: frozenset[str] = frozenset()
    """Values of `--state`: an instance matches if any of them applies to it."""
    host: str | None = None
    routable: bool = False

    @classmethod
    def parse(
        cls,
        name: str | None,
        model_type: str | None,
        states: Sequence[str] | None = None,
        host: str | None = None,
        pattern: str | None = None,
    ) -> InstanceFilter:
        """From the command line. Raises UsageError, which names the value."""
        parsed_host = None if host is None else parse_host(unescaped(host))
        return cls(ModelFilter.parse(name, model_type, pattern), parse_states(states or ()), parsed_host)

    def only_routable(self) -> InstanceFilter:
        """The same, but only instances that get requests (rule 3)."""
        return replace(self, routable=True)

    def on_any_host(self) -> InstanceFilter:
        """The same for all hosts."""
        return replace(self, host=None)

    @property
    def needs_facts(self) -> bool:
        """Whether DB-GPT's nine keys do not suffice: they show a deregistered instance as unhealthy."""
        return not self.states.isdisjoint((InstanceState.DEREGISTERED, InstanceState.UNHEALTHY))

    def matches_identity(self, model_name: str, host: str) -> bool:
        """Whether instances of that model on that host match, in whatever state they are."""
        return self.models.matches(model_name) and self.host in (None, host)

    def matches(self, instance: KnownInstance) -> bool:
        """Whether the instance matches now."""
        return self.matches_identity(instance.model_name, instance.host) and self.matches_state(
            instance.state, drained=instance.drain is not None
        )

    def matches_state(self, state: str, drained: bool) -> bool:  # noqa: FBT001 - a state and its drain are a pair
        """Whether instances of the right identity match in that state."""
        if self.routable and (drained or state != InstanceState.HEALTHY):
            return False
        return not self.states or state in self.states or (drained and DRAINED in self.states)

    def inventory(self, client: ControllerClient, *, require_complete: bool = False) -> Inventory:
        """The inventory of a controller, filtered as far as the controller can.

        Raises NotSupported when `states` include deregistered and the controller does not report that, and with
        `require_complete` for each controller without /api/v1.
        """
        complete = require_complete or InstanceState.DEREGISTERED in self.states
        return client.inventory(self.models.model_name, host=self.host, require_complete=complete)

    def __str__(self) -> str:
        on_host = "" if self.host is None else f" on host {escaped(self.host)}"
        conditions = [" or ".join(sorted(self.states))] if self.states else []
        conditions += ["routable"] if self.routable else []
        in_states = f" that are {' and '.join(conditions)}" if conditions else ""
        return f"{self.models}{on_host}{in_states}"


def _parse_pattern(text: str) -> str:
    """The value of `--model`. Raises UsageError."""
    pattern = unescaped(text.strip())
    if not pattern or pattern.count("@") > 1:
        raise UsageError(f"--model {quoted(text)} is no pattern of a model, as in qwen@llm, 'qwen*' or '*@text2vec'")
    return pattern


def parse_states(words: Iterable[str]) -> frozenset[str]:
    """The values of `--state`, given several times or separated by commas. Raises UsageError."""
    states = set()
    for word in (part.strip().lower() for value in words for part in value.split(",")):
        if word not in STATES:
            raise UsageError(f"--state {quoted(word)} is not one of {', '.join(STATES)}")
        states.add(word)
    return frozenset(states)


def _weight(instance: KnownInstance) -> float:
    """A controller may report a weight that is no number."""
    return instance.weight if isinstance(instance.weight, int | float) else float("-inf")


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Sorts 10.0.0.9 before 10.0.0.10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _NUMBER.split(text)]


SORT_KEYS: dict[str, Callable[[KnownInstance], Any]] = {
    "name": lambda instance: _natural(instance.model_name),
    "type": lambda instance: instance.model_name.partition("@")[2],
    "host": lambda instance: _natural(instance.host),
    "port": lambda instance: instance.port,
    "state": lambda instance: _BY_SEVERITY.index((instance.state, instance.drain is not None)),
    "beat": lambda instance: instance.last_heartbeat or _EPOCH,
    "weight": _weight,
}
"""The keys of a stable sort, by the value of `--sort-by`. The oldest heartbeat and the worst state come first."""
