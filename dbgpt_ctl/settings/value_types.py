"""The types of settings: each turns a text into a value, or raises ValueError with the end of a sentence.

The sentence begins with the setting's name and the text: "port 70000" + " is not a whole number from 1 to 65535".
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.settings.masking import HIDDEN, mask_urls

if TYPE_CHECKING:
    from collections.abc import Callable

YEAR_SECS = 365 * 24 * 3600
_SWITCH = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def _parse_text(text: str) -> str:
    value = text.strip()
    if not value:
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError("holds control or invisible characters")
    return value


class ValueType(NamedTuple):
    """A type; by default a text, without the spaces around it. `metavar` stands for the value in help texts."""

    metavar: str
    parse: Callable[[str], Any] = _parse_text
    """Returns the value. Raises ValueError with the end of the sentence."""
    allowed: str = ""
    """The allowed values, for people, where the metavar is not enough."""
    words: tuple[str, ...] = ()
    """All allowed values, where they can be listed."""
    shown: Callable[[Any], Any] = lambda value: value
    """Returns the value without secrets, for people and JSON."""
    holds_secret: Callable[[str], bool] = lambda _: False
    """Whether this text holds a password or a token."""


def whole(low: int, high: int) -> ValueType:
    """A whole number from `low` to `high`, both included."""
    allowed = f"{low} to {high}"

    def parse(text: str) -> int:
        digits = text.strip()
        if re.fullmatch(r"-?[0-9]{1,18}", digits) and low <= int(digits) <= high:
            return int(digits)
        hint = ": Kubernetes sets this for a Service named controller (enableServiceLinks: false stops it)"
        raise ValueError(f"is not a whole number from {allowed}{hint if digits.startswith('tcp://') else ''}")

    return ValueType("NUMBER", parse, allowed)


def seconds(high: int = YEAR_SECS, *, zero: bool = False) -> ValueType:
    """A number of seconds above 0, or with `zero` from 0, and at most `high`."""

    def parse(text: str) -> float:
        value = _parse_number(text)
        if not 0 <= value <= high or (value == 0 and not zero):
            raise ValueError(f"is not a number of seconds {'from 0' if zero else 'above 0'} and at most {high}")
        return value

    return ValueType("SECONDS", parse, f"0 to {high}" if zero else f"above 0, to {high}", shown=_without_fraction)


def word(*words: str) -> ValueType:
    """One of a few words, in any case; the value is in lower case."""
    allowed = ", ".join(words)

    def parse(text: str) -> str:
        value = _parse_text(text).lower()
        if value not in words:
            raise ValueError(f"is not one of {allowed}")
        return value

    return ValueType("|".join(words), parse, allowed, words)


def _parse_number(text: str) -> float:
    """The number in the text; NaN, which is within no limits, if there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _without_fraction(value: Any) -> Any:
    """A whole number without a fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _parse_ratio(text: str) -> float:
    value = _parse_number(text)
    if not 0 <= value <= 1:
        raise ValueError("is not a number from 0 to 1")
    return value


def _parse_switch(text: str) -> bool:
    value = _SWITCH.get(text.strip().lower())
    if value is None:
        raise ValueError("is neither true nor false")
    return value


def _parse_host(text: str) -> str:
    value = _parse_text(text)
    if re.search(r"[\s/@?#\\,]", value):
        raise ValueError("is not a host name or address: give it without scheme, path or spaces")
    if value.startswith("[") and value.endswith("]"):
        value = _parse_text(value[1:-1])
    if value.count(":") == 1:
        raise ValueError("is not a host name or address: the port is a setting of its own")
    return value


def _parse_allowed_hosts(text: str) -> str:
    """The patterns, in lower case and without brackets and blanks, joined by commas."""
    return ",".join(_parse_allowed_host(piece) for piece in text.split(","))


def _parse_allowed_host(text: str) -> str:
    value = text.strip().lower()
    if value == "*":
        return value
    if "/" in value:
        from ipaddress import ip_network  # slow to import, and needed for a range only

        try:
            return str(ip_network(value, strict=False))
        except ValueError:
            raise ValueError("holds a range of addresses that is wrong: write one as in 10.0.0.0/8") from None
    below = "*." if value.startswith("*.") else ""
    try:
        host = _parse_host(value[len(below) :])
    except ValueError as error:
        raise ValueError(f"holds a value that {error}") from None
    if "*" in host or host.startswith("."):
        raise ValueError("holds a pattern that is wrong: write *.example.com for all names below example.com")
    return below + host


def _parse_networks(text: str) -> str:
    """The addresses and ranges, each in its usual spelling, joined by commas."""
    return ",".join(_parse_network(piece.strip()) for piece in text.split(","))


def _parse_network(text: str) -> str:
    from ipaddress import ip_network  # slow to import

    address = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        network = ip_network("" if "%" in address else address, strict=False)  # a zone may be any text
    except ValueError:
        raise ValueError("holds a value that is no address or range of addresses, as in 10.0.0.5,10.1.0.0/16") from None
    if not network.prefixlen:
        raise ValueError(f"holds {network}, which is every address: name those of the proxies")
    if network.overlaps(ip_network("::ffff:0:0/96")):
        raise ValueError(f"holds {address}, which is IPv4 within IPv6: write it as IPv4, as in 10.0.0.5")
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _parse_hosts(text: str) -> str:
    from dbgpt_ctl.databases import parse_hosts  # needed for a database only

    value = _parse_text(text)
    try:
        parse_hosts(value, 1)
    except ValueError:  # its message quotes the text, which may hold a password by mistake
        raise ValueError("is not a host, or a list of hosts as in db1,db2:3307,[::1]:3308") from None
    return value


def _parse_headers(text: str) -> str:
    """The text, if each pair has a name and an `=`. The error does not show the text."""
    pairs = [pair.strip() for pair in text.split(",") if pair.strip()]
    if not pairs or not all(re.fullmatch(r"[^=\s]+\s*=.*", pair) for pair in pairs):
        raise ValueError("is not a list of name=value with commas")
    return text.strip()


def _parse_urls(text: str) -> str:
    """The URLs as written. Raises UsageError, which hides user and password."""
    from dbgpt_ctl.settings.addresses import parse_addresses  # needed for a URL only

    value = text.strip()
    parse_addresses(value)
    return value


def _masked(value: Any) -> Any:
    """A mask where there is a secret, else None or an empty text."""
    return value and HIDDEN


RATIO = ValueType("NUMBER", _parse_ratio, "0 to 1", shown=_without_fraction)
"""A number from 0 to 1, both included."""
SWITCH = ValueType("true|false", _parse_switch, "true, false", ("true", "false"))
"""True or false, in the usual spellings (`true` is that of DB-GPT and OpenTelemetry) and any case."""
FLAG = SWITCH._replace(metavar="[=true|false]")
"""A SWITCH whose flag stands alone most often; its name stands in `cli.parsing.optional_values`."""
HOST = ValueType("HOST", _parse_host)
"""A host name or an address, without scheme, path, port or list; brackets around an IPv6 address are removed."""
ALLOWED_HOSTS = ValueType("HOST,...", _parse_allowed_hosts)
"""Names, addresses, ranges of addresses, `*.example.com`, or `*`, separated by commas, without ports."""
NETWORKS = ValueType("CIDR,...", _parse_networks)
"""Addresses and ranges of addresses, separated by commas; no names, because they would have to be resolved."""
HOSTS = ValueType("HOST[:PORT],...", _parse_hosts)
"""One or more hosts of a database, separated by commas, each with an optional port."""
PASSWORD = ValueType("PASSWORD", str, shown=_masked, holds_secret=bool)
"""A text that is taken with its spaces, and never shown."""
HEADERS = ValueType("NAME=VALUE,...", _parse_headers, shown=_masked, holds_secret=bool)
"""`name=value` pairs with commas, never shown: most often they hold a token."""
URLS = ValueType(
    "URL", _parse_urls, shown=lambda value: value and mask_urls(value), holds_secret=lambda text: "@" in text
)
"""One or more http:// or https:// URLs of controllers, separated by commas; each may hold a user and a password."""
