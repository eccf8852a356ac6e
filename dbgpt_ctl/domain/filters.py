"""Selects models and instances: the one filter of the commands, of /api/v1 and of a watch."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from dbgpt_ctl.domain.fields import parse_host
from dbgpt_ctl.domain.instance import DRAINED, STATES, InstanceState
from dbgpt_ctl.domain.references import parse_model, parse_type
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.escaping import escaped, quoted, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey


class Selectable(Protocol):
    """What a filter reads of an instance, on either side of the wire."""

    @property
    def key(self) -> InstanceKey:
        """Its model, host and port."""

    @property
    def state(self) -> InstanceState:
        """Its state now."""

    @property
    def drain(self) -> DrainFacts | None:
        """None where it is not drained."""


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
    """Instances that match all fields. `routable` means only those that get requests (rule 3)."""

    models: ModelFilter = field(default_factory=ModelFilter)
    states: frozenset[str] = frozenset()
    """Values of `--state` or `state`: an instance matches if any of them applies to it, or if there are none. A drained
    instance is `drained` in any state.
    """
    host: str | None = None
    port: int | None = None
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

    @property
    def needs_facts(self) -> bool:
        """Whether DB-GPT's nine keys do not suffice: they show a deregistered instance as unhealthy."""
        return not self.states.isdisjoint((InstanceState.DEREGISTERED, InstanceState.UNHEALTHY))

    def matches_key(self, key: InstanceKey) -> bool:
        """Whether the instance matches in some state."""
        return self.models.matches(key.model_name) and self.host in (None, key.host) and self.port in (None, key.port)

    def matches_state(self, state: str, drained: bool) -> bool:  # noqa: FBT001 - a state and its drain are a pair
        """Whether instances with a matching key match in that state."""
        if self.routable and (drained or state != InstanceState.HEALTHY):
            return False
        return not self.states or state in self.states or (drained and DRAINED in self.states)

    def matches(self, instance: Selectable) -> bool:
        """Whether the instance matches now."""
        return self.matches_key(instance.key) and self.matches_state(instance.state, instance.drain is not None)

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
