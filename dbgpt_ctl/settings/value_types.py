"""The types of settings: each turns a text into a value, or raises ValueError with the end of a sentence.

The sentence begins with the setting's name and the text: "port 70000" + " is not a whole number from 1 to 65535".
"""

from __future__ import annotations

import math
import re
from typing import Any

from dbgpt_ctl.settings.masking import HIDDEN, mask_urls

YEAR_SECS = 365 * 24 * 3600


class Kind:
    """A text, without the spaces around it. `metavar` stands for the value in help texts."""

    allowed: str = ""
    """The allowed values, for people, where the metavar is not enough."""
    words: tuple[str, ...] = ()
    """All allowed values, where they can be listed."""
    secret: bool = False
    """Whether a value is, or may hold, a password."""

    def __init__(self, metavar: str) -> None:
        self.metavar = metavar

    def parse(self, text: str) -> Any:
        """The value. Raises ValueError with the end of the sentence."""
        return _filled(text)

    def shown(self, value: Any) -> Any:
        """The value without secrets, for people and JSON."""
        return value

    def holds_secret(self, text: str) -> bool:
        """Whether this text holds a password or a token."""
        return self.secret and bool(text)


class Host(Kind):
    """A host name or an address, without scheme, path, port or list; brackets around an IPv6 address are removed."""

    def __init__(self) -> None:
        super().__init__("HOST")

    def parse(self, text: str) -> str:
        value = _filled(text)
        if not value.isprintable() or re.search(r"[\s/@?#\\,]", value):
            raise ValueError("is not a host name or address: give it without scheme, path or spaces")
        if value.startswith("[") and value.endswith("]"):
            value = _filled(value[1:-1])
        if value.count(":") == 1:
            raise ValueError("is not a host name or address: the port is a setting of its own")
        return value


class Hosts(Kind):
    """One or more hosts of a database, separated by commas, each with an optional port."""

    def __init__(self) -> None:
        super().__init__("HOST[:PORT],...")

    def parse(self, text: str) -> str:
        from dbgpt_ctl.database_hosts import parse_hosts  # needed for a database only

        value = _filled(text)
        try:
            parse_hosts(value, 1)
        except ValueError:  # its message quotes the text, which may hold a password by mistake
            raise ValueError("is not a host, or a list of hosts as in db1,db2:3307,[::1]:3308") from None
        return value


class Whole(Kind):
    """A whole number from `low` to `high`, both included."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__("NUMBER")
        self.low = low
        self.high = high
        self.allowed = f"{low} to {high}"

    def parse(self, text: str) -> int:
        digits = text.strip()
        if re.fullmatch(r"-?[0-9]{1,18}", digits) and self.low <= int(digits) <= self.high:
            return int(digits)
        hint = ": Kubernetes sets this for a Service named controller (enableServiceLinks: false stops it)"
        raise ValueError(f"is not a whole number from {self.allowed}{hint if digits.startswith('tcp://') else ''}")


class Decimal(Kind):
    """A number, which may have a fraction."""

    def shown(self, value: Any) -> Any:
        """A whole number without a fraction."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Seconds(Decimal):
    """A number of seconds above 0, or with `zero` from 0, and at most `high`."""

    def __init__(self, high: int = YEAR_SECS, *, zero: bool = False) -> None:
        super().__init__("SECONDS")
        self.high = high
        self.zero = zero
        self.allowed = f"0 to {high}" if zero else f"above 0, to {high}"

    def parse(self, text: str) -> float:
        value = _number(text)
        if not 0 <= value <= self.high or (value == 0 and not self.zero):
            least = "from 0" if self.zero else "above 0"
            raise ValueError(f"is not a number of seconds {least} and at most {self.high}")
        return value


class Ratio(Decimal):
    """A number from 0 to 1, both included."""

    def __init__(self) -> None:
        super().__init__("NUMBER")
        self.allowed = "0 to 1"

    def parse(self, text: str) -> float:
        value = _number(text)
        if not 0 <= value <= 1:
            raise ValueError("is not a number from 0 to 1")
        return value


class Switch(Kind):
    """True or false, in the usual spellings and any case."""

    words = ("true", "false")
    _MEANINGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)

    def __init__(self) -> None:
        super().__init__("true|false")
        self.allowed = "true, false"

    def parse(self, text: str) -> bool:
        """`true` as DB-GPT and OpenTelemetry write it, and the other usual spellings."""
        value = self._MEANINGS.get(text.strip().lower())
        if value is None:
            raise ValueError("is neither true nor false")
        return value


class Word(Kind):
    """One of a few words, in any case; the value is in lower case."""

    def __init__(self, *words: str) -> None:
        super().__init__("|".join(words))
        self.words = words
        self.allowed = ", ".join(words)

    def parse(self, text: str) -> str:
        word = _filled(text).lower()
        if word not in self.words:
            raise ValueError(f"is not one of {', '.join(self.words)}")
        return word


class Password(Kind):
    """A text that is taken with its spaces, and never shown."""

    secret = True

    def __init__(self) -> None:
        super().__init__("PASSWORD")

    def parse(self, text: str) -> str:
        return text

    def shown(self, value: Any) -> Any:
        """A mask where there is a password, else None or an empty text."""
        return value and HIDDEN


class Headers(Password):
    """`name=value` pairs with commas, never shown: most often they hold a token."""

    def __init__(self) -> None:
        super().__init__()
        self.metavar = "NAME=VALUE,..."

    def parse(self, text: str) -> str:
        """The text, if each pair has a name and an `=`. The error does not show the text."""
        pairs = [pair.strip() for pair in text.split(",") if pair.strip()]
        if not pairs or not all(re.fullmatch(r"[^=\s]+\s*=.*", pair) for pair in pairs):
            raise ValueError("is not a list of name=value with commas")
        return text.strip()


class Urls(Kind):
    """One or more http:// or https:// URLs of controllers, separated by commas; each may hold a user and a password."""

    secret = True

    def __init__(self) -> None:
        super().__init__("URL")

    def parse(self, text: str) -> str:
        """The URLs as written. Raises UsageError, which hides user and password."""
        from dbgpt_ctl.addresses import parse_addresses  # needed for a URL only

        value = text.strip()
        parse_addresses(value)
        return value

    def shown(self, value: Any) -> Any:
        """The URLs without user and password."""
        return value and mask_urls(value)

    def holds_secret(self, text: str) -> bool:
        """Only a URL with a user does."""
        return "@" in text


def _filled(text: str) -> str:
    value = text.strip()
    if not value:
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError("holds control or invisible characters")
    return value


def _number(text: str) -> float:
    """The number in the text; NaN, which is within no limits, if there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
