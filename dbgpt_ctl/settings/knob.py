"""What a knob is: one field of a settings class; its variable, its flag and its row in every table follow from it."""

from __future__ import annotations

import re
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.settings.value_types import HIDDEN, Kind, Password

if TYPE_CHECKING:
    from dbgpt_ctl.settings.load import Settings

PREFIX = "CONTROLLER_"
_LONGEST_QUOTE = 60
_PLAIN = re.compile(r"[\w.:/*@+,\[\]-]+", re.ASCII)
_BEFORE_AT = re.compile(r"([A-Za-z]+://)?.*@", re.DOTALL)


class Knob(NamedTuple):
    """All there is to know of one knob. `aliases` are further flags.

    `shared` are variables of other programs that set it too, if the knob `shared_with` is on.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    aliases: tuple[str, ...]
    shared: tuple[str, ...] = ()
    shared_with: str = ""

    @property
    def variable(self) -> str:
        """Its variable in the environment and in a .env file."""
        return PREFIX + self.name.upper()

    @property
    def shown_variable(self) -> str:
        """The variable that a help shows: 80 columns have no room for CONTROLLER_OTEL_EXPORTER_OTLP_TRACES_..."""
        return self.shared[0] if self.shared_with else self.variable

    @property
    def flag(self) -> str:
        """Its flag as helps show it."""
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The value; None for an empty text where the default is None. ValueError: the end of a sentence."""
        return None if self.default is None and not text else self.kind.parse(text)

    def text(self, value: Any) -> str:
        """The value as text, without secrets; empty for None."""
        shown = self.kind.shown(value)
        return "" if value is None else str(shown).lower() if isinstance(shown, bool) else str(shown)

    def quoted(self, text: str) -> str:
        """A text that may be wrong, for an error line: short, without secrets, without anything a terminal obeys."""
        if isinstance(self.kind, Password):
            return HIDDEN
        hidden = _BEFORE_AT.sub(rf"\1{HIDDEN}@", text)
        quoted = hidden if _PLAIN.fullmatch(hidden) else ascii(hidden)
        return quoted if len(quoted) <= _LONGEST_QUOTE else f"{quoted[: _LONGEST_QUOTE - 3]}..."


def knob(
    default: Any,
    kind: Kind,
    text: str,
    *,
    aliases: tuple[str, ...] = (),
    shared: tuple[str, ...] = (),
    shared_with: str = "",
) -> Any:
    """A field of a settings class whose name is the knob's. `text` is its help: a phrase, without a full stop."""
    metadata = {"kind": kind, "help": text, "aliases": aliases, "shared": shared, "shared_with": shared_with}
    return field(default=default, metadata=metadata)


def knobs_of(settings: Settings | type[Settings]) -> tuple[Knob, ...]:
    """The knobs of a settings class, or of an object of it, in the order of its fields."""
    return tuple(Knob(each.name, each.default, **each.metadata) for each in fields(settings) if each.metadata)
