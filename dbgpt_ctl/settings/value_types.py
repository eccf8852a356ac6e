"""Kinds of knobs: a text that a person wrote becomes a value, or a ValueError with the end of a sentence.

The sentence begins with the knob's name and the text: "port 70000" + " is not a whole number from 1 to 65535".
"""

from __future__ import annotations

import math
import re
from typing import Any

HIDDEN = "********"
YEAR_SECS = 365 * 24 * 3600
_URL_USER = re.compile(r"([A-Za-z]+://)?.*@", re.DOTALL)


class Kind:
    """Text, taken without the spaces around it. `metavar` stands for the value in helps."""

    allowed: str = ""
    """What may be given, for people, if the metavar does not say it all."""
    words: tuple[str, ...] = ()
    """All that may be given, if it can be listed."""
    secret: bool = False
    """Whether a value is, or may hold, a password."""

    def __init__(self, metavar: str) -> None:
        self.metavar = metavar

    def parse(self, text: str) -> Any:
        """The value, or ValueError with the end of the sentence."""
        return _filled(text)

    def shown(self, value: Any) -> Any:
        """The value without secrets, for people and JSON."""
        return value


class Host(Kind):
    """A host name or an address; brackets around an IPv6 address are taken off."""

    def __init__(self) -> None:
        super().__init__("HOST")

    def parse(self, text: str) -> str:
        """No scheme, path, port or list."""
        value = _filled(text)
        if not value.isprintable() or re.search(r"[\s/@?#\\,]", value):
            raise ValueError("is not a host name or address: give it without scheme, path or spaces")
        if value.startswith("[") and value.endswith("]"):
            value = _filled(value[1:-1])
        if value.count(":") == 1:
            raise ValueError("is not a host name or address: the port is a setting of its own")
        return value


class Hosts(Kind):
    """One or more hosts of a database, separated by commas, each with a port of its own if need be."""

    def __init__(self) -> None:
        super().__init__("HOST[:PORT],...")

    def parse(self, text: str) -> str:
        """The list as given."""
        from dbgpt_ctl.database_hosts import parse_hosts  # a command without a database does not pay for it

        value = _filled(text)
        try:
            parse_hosts(value, 1)
        except ValueError:  # it quotes the text, which may hold a password by mistake
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
        """Decimal digits only."""
        digits = text.strip()
        if re.fullmatch(r"-?[0-9]{1,18}", digits) and self.low <= int(digits) <= self.high:
            return int(digits)
        hint = ": Kubernetes sets this for a Service named controller (enableServiceLinks: false stops it)"
        raise ValueError(f"is not a whole number from {self.allowed}{hint if digits.startswith('tcp://') else ''}")


class Seconds(Kind):
    """A number of seconds above 0, or with `zero` from 0, and at most `high`."""

    def __init__(self, high: int = YEAR_SECS, *, zero: bool = False) -> None:
        super().__init__("SECONDS")
        self.high = high
        self.zero = zero
        self.allowed = f"0 to {high}" if zero else f"above 0, to {high}"

    def parse(self, text: str) -> float:
        """Fractions too."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= self.high or (value == 0 and not self.zero):
            least = "from 0" if self.zero else "above 0"
            raise ValueError(f"is not a number of seconds {least} and at most {self.high}")
        return value

    def shown(self, value: Any) -> Any:
        """Whole seconds without a fraction."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Ratio(Kind):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__("NUMBER")
        self.allowed = "0 to 1"

    def parse(self, text: str) -> float:
        """Both ends included."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ValueError("is not a number from 0 to 1")
        return value

    def shown(self, value: Any) -> Any:
        """0 and 1 without a fraction."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Switch(Kind):
    """True or false, in the usual spellings and any case."""

    words = ("true", "false")
    _MEANINGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)

    def __init__(self) -> None:
        super().__init__("true|false")
        self.allowed = "true, false"

    def parse(self, text: str) -> bool:
        """As DB-GPT and OpenTelemetry write it, `true`, and as people do."""
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
        """The choice, in lower case."""
        word = _filled(text).lower()
        if word not in self.words:
            raise ValueError(f"is not one of {', '.join(self.words)}")
        return word


class Password(Kind):
    """Taken as it is, spaces too, and never shown."""

    secret = True

    def __init__(self) -> None:
        super().__init__("PASSWORD")

    def parse(self, text: str) -> str:
        """The text."""
        return text

    def shown(self, value: Any) -> Any:
        """Only whether there is one."""
        return value and HIDDEN


class Headers(Password):
    """`name=value` pairs with commas: a token mostly, and never shown."""

    def __init__(self) -> None:
        super().__init__()
        self.metavar = "NAME=VALUE,..."

    def parse(self, text: str) -> str:
        """Each pair has a name and an `=`; what is wrong is not shown."""
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
        """The URLs as given. Raises UsageError, which says what is wrong without showing a secret."""
        from dbgpt_ctl.addresses import parse_addresses  # a command without a URL does not pay for it

        value = text.strip()
        parse_addresses(value)
        return value

    def shown(self, value: Any) -> Any:
        """The URLs without user and password."""
        return value and ",".join(_URL_USER.sub(rf"\1{HIDDEN}@", url) for url in re.split(r",(?=\s*https?://)", value))


def _filled(text: str) -> str:
    value = text.strip()
    if not value:
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError("holds control or invisible characters")
    return value
