"""What the settings classes share: how texts from all sources become checked values, and how these are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.knob import Knob, knobs_of
from dbgpt_ctl.settings.sources import Found, find_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING: Mapping[str, Found] = MappingProxyType({})


class Effective(NamedTuple):
    """A knob with the value in force, without secrets, and where that came from: `flag --port`, `default` ..."""

    knob: Knob
    shown: Any
    origin: str


@dataclass(frozen=True, repr=False)
class Settings:
    """What the settings classes share: loading, and showing without secrets."""

    origins: Mapping[str, str] = field(default_factory=dict, kw_only=True, compare=False)
    """Where each knob came from that is not at its default."""
    remarks: tuple[str, ...] = field(default=(), kw_only=True, compare=False)
    """One line for each variable that is likely a mistake; never a secret."""

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object],
        environ: Mapping[str, str],
        env_file: str | None = None,
        *,
        before: Mapping[str, Found] = NOTHING,
        after: Mapping[str, Found] = NOTHING,
    ) -> Self:
        """The checked settings. `flags` maps names of knobs to what was given, None for what was not.

        `env_file`: None reads ./.env if it is there, an empty one reads none, a named one must exist. `before` and
        `after` hold more texts by name of knob: they go before, and after, variables. Raises UsageError that names
        every wrong knob, its value and where that came from.
        """
        variables = find_variables(environ, env_file, [name for each in knobs_of(cls) for name in each.shared])
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        wrong: list[str] = []
        for each in knobs_of(cls):
            given = flags.get(each.name)
            found = before.get(each.name) or _found(each, variables, values) or after.get(each.name)
            if given is not None:
                found = Found(str(given), f"flag {each.flag}")
            if found is None:
                continue
            origins[each.name] = found.origin
            try:
                values[each.name] = each.parse(found.text)
            except UsageError as error:
                wrong.append(f"{each.name}: {error} ({found.origin})")
            except ValueError as error:
                what = f"{each.name} {each.quoted(found.text)}" if found.text.strip() else each.name
                wrong.append(f"{what} {error} ({found.origin})")
        if wrong:
            raise UsageError("; ".join(wrong))
        return cls(**values, origins=origins, remarks=cls._remarks(variables)).checked()

    def checked(self) -> Self:
        """The same settings, if the rules over several knobs hold. Raises UsageError."""
        return self

    def effective(self) -> list[Effective]:
        """Every knob with its value in force, secrets hidden, and where it came from."""
        pairs = ((each, getattr(self, each.name)) for each in knobs_of(self))
        return [
            Effective(each, each.kind.shown(value), self.origins.get(each.name, "default")) for each, value in pairs
        ]

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.knob.name}={each.shown!r}" for each in self.effective())
        return f"{type(self).__name__}({shown})"

    @classmethod
    def _remarks(cls, variables: Mapping[str, Found]) -> tuple[str, ...]:  # noqa: ARG003 - the client is quiet
        return ()


def _found(knob: Knob, variables: Mapping[str, Found], values: Mapping[str, Any]) -> Found | None:
    """Its own variable, else the first of those that it shares with other programs, if those count."""
    names = [knob.variable]
    if not knob.shared_with or values.get(knob.shared_with):
        names += knob.shared
    return next((variables[name] for name in names if name in variables), None)
