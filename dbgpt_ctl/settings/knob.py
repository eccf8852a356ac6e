"""What a knob is: one field of a settings class that gives a variable, a flag, and a row in every table.

A kind turns the text that a person wrote into a value, or raises ValueError with the end of a sentence that begins with the knob's
name and that text: "is not a whole number from 1 to 65535".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "CONTROLLER_"
HIDDEN = "********"
YEAR_SECS = 365 * 24 * 3600
MAX_PORT = 65535


class Kind(Protocol):
    """Text to value. `allowed` says in the tables what may be given; `words` are all that may be, when they can be listed."""

    @property
    def allowed(self) -> str: ...

    @property
    def words(self) -> Sequence[str]: ...

    def parse(self, text: str) -> Any:
        """The value, or ValueError with the end of the sentence."""
        ...


@dataclass(frozen=True, slots=True)
class Knob:
    """All there is to know of one knob. `aliases` are further flags; a `secret` value is, or may hold, a password."""

    name: str
    default: Any
    kind: Kind
    help: str
    aliases: tuple[str, ...]
    secret: bool

    @property
    def variable(self) -> str:
        """Its variable in the environment and in a .env file."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Its flag as the help shows it."""
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The value that `text` means; an empty text means None where None is the default. ValueError: the end of a sentence."""
        if self.default is None and not text.strip():
            return None
        return self.kind.parse(text)

    def shown(self, value: Any) -> Any:
        """The value for eyes, files and JSON: without secrets, whole seconds without a fraction, None as None."""
        if self.secret and isinstance(value, str):
            return self.kind.hide(value) if isinstance(self.kind, Urls) else HIDDEN
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    def quoted(self, text: str) -> str:
        """The text in an error line: short, on one line, without secrets, without anything a terminal obeys."""
        if self.secret and not isinstance(self.kind, Urls):
            return HIDDEN
        hidden = re.sub(r"(//)?.*@", rf"\1{HIDDEN}@", text, flags=re.DOTALL)
        plain = re.fullmatch(r"[\w.:/*@+-]+", hidden, re.ASCII) is not None
        quoted = hidden if plain else ascii(hidden)
        return quoted if len(quoted) <= 60 else f"{quoted[:57]}..."  # noqa: PLR2004 - the width of a quote, nothing else


def knob(default: Any, kind: Kind, text: str, *, aliases: tuple[str, ...] = (), secret: bool = False) -> Any:
    """The field of a settings class. Its name is the knob's; everything else follows (see `Knob`)."""
    return field(default=default, metadata={"kind": kind, "help": text, "aliases": aliases, "secret": secret})


def knobs_of(settings: Any) -> tuple[Knob, ...]:
    """The knobs of a settings class, or of an object of it, in the order of its fields."""
    return tuple(Knob(each.name, each.default, **each.metadata) for each in fields(settings) if each.metadata)


@dataclass(frozen=True, slots=True)
class Text:
    """Any text, stripped unless it is `verbatim`."""

    allowed: str = "text"
    verbatim: bool = False
    words: Sequence[str] = ()

    def parse(self, text: str) -> str:
        value = text if self.verbatim else text.strip()
        if not value:
            raise ValueError("is empty")
        return value


@dataclass(frozen=True, slots=True)
class Host:
    """A host name or an address; brackets around an IPv6 address are taken off."""

    allowed: str = "host"
    words: Sequence[str] = ()

    def parse(self, text: str) -> str:
        value = text.strip()
        if not value:
            raise ValueError("is empty")
        if not value.isprintable() or re.search(r"[\s/@?#\\,]", value):
            raise ValueError("is not a host name or address: give it without scheme, path or spaces")
        if value.startswith("[") and value.endswith("]"):
            value = value[1:-1]
        if value.count(":") == 1:
            raise ValueError("is not a host name or address: the port has a knob of its own")
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    words: Sequence[str] = ()

    @property
    def allowed(self) -> str:
        return f"{self.low} to {self.high}"

    def parse(self, text: str) -> int:
        digits = text.strip()
        if re.fullmatch(r"-?[0-9]{1,18}", digits) and self.low <= int(digits) <= self.high:
            return int(digits)
        hint = ""
        if digits.startswith("tcp://"):
            hint = ": Kubernetes sets this variable for a Service named controller; say enableServiceLinks: false or give the flag"
        raise ValueError(f"is not a whole number from {self.low} to {self.high}{hint}")


@dataclass(frozen=True, slots=True)
class Seconds:
    """A number of seconds above 0 and at most `high`."""

    high: int = YEAR_SECS
    words: Sequence[str] = ()

    @property
    def allowed(self) -> str:
        return f"seconds, above 0, to {self.high}"

    def parse(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= self.high:
            raise ValueError(f"is not a number of seconds above 0 and at most {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Word:
    """One of a few words, in any case; the value is in lower case."""

    words: Sequence[str]

    @property
    def allowed(self) -> str:
        return ", ".join(self.words)

    def parse(self, text: str) -> str:
        word = text.strip().lower()
        if word not in self.words:
            raise ValueError(f"is not one of {', '.join(self.words)}")
        return word


@dataclass(frozen=True, slots=True)
class Urls:
    """One or more http:// or https:// URLs of controllers, separated by commas."""

    allowed: str = "URL, or several with commas"
    words: Sequence[str] = ()

    def parse(self, text: str) -> str:
        urls = [url for each in text.split(",") if (url := each.strip())]
        if not urls:
            raise ValueError("is empty")
        for url in urls:
            self._check(url)
        return ",".join(urls)

    def hide(self, text: str) -> str:
        """The URLs without the part that may be a user's name, password or token."""
        return ",".join(
            re.sub(r"//.*@", f"//{HIDDEN}@", each, flags=re.DOTALL) for each in re.split(r",(?=https?://)", text)
        )

    def _check(self, url: str) -> None:
        from urllib.parse import urlsplit  # noqa: PLC0415 - only what needs it pays for it

        if "://" not in url and "@" not in url:
            raise ValueError(
                f"is not an http:// or https:// URL: try http://{url}" if url.isprintable() else "is not a URL"
            )
        try:
            parts = urlsplit(url)
            wrong = parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0
        except ValueError:
            wrong = True
        if wrong or not url.isprintable() or " " in url:
            raise ValueError("is not a URL as in http://controller:8000")
