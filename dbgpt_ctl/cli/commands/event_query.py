"""Which events a person asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.references import ModelFilter, parse_reference
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.domain.instance import InstanceKey

LONGEST_DAYS = 366


@dataclass(frozen=True, slots=True)
class Query:
    """Whose events: of one instance, of one model, or of all."""

    key: InstanceKey | None = None
    models: ModelFilter = field(default_factory=ModelFilter)
    since: datetime | None = None

    @classmethod
    def parse(cls, word: str | None) -> Query:
        """A reference where it is one, else NAME or NAME@TYPE. Raises UsageError."""
        if word is None:
            return cls()
        try:
            key = parse_reference(word)
        except UsageError:
            if "/" in word and ":" in word.rpartition("/")[2]:
                raise
            return cls(models=ModelFilter.parse(word, None))
        return cls(key, ModelFilter(model_name=key.model_name))

    def matches(self, change: Change) -> bool:
        """A controller can be asked for a model, but not for a name of any type."""
        return self.key in (None, change.key) and self.models.matches(change.key.model_name)

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of `client.events`."""
        host, port = (None, None) if self.key is None else self.key[1:]
        return {"model_name": self.models.model_name, "host": host, "port": port, "since": self.since}


def parse_since(text: str | None) -> tuple[datetime | None, timedelta | None]:
    """A time, or how long ago that is; by the registry's clock."""
    if text is None:
        return None, None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None, timedelta(seconds=parse_duration("--since", text, longest_days=LONGEST_DAYS))
    if moment.tzinfo is None:
        raise UsageError(f"--since {quoted(text)} says no time zone: end it with Z, or with an offset such as +02:00")
    return moment, None
