"""The fields of an instance in a request: how they are sent, and a parser for each field, the key and the registration.

Bodies, queries and references are read by the same parsers, as leniently as by DB-GPT. A wrong value raises
InvalidInstance, which names the field and quotes the value on one line.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import InvalidInstance
from dbgpt_ctl.text.escaping import invisible_characters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv6Address

MAX_TEXT_CHARS = 128
"""Limit of model_name, host and prompt_template: DB-GPT's table has varchar(128)."""
MAX_REASON_CHARS = 255
MAX_DRAIN_DAYS = 366
"""The longest drain that has an end. One of unknown length has none."""
MAX_PORT = 65535


def sent_fields(sent: Registration, *, remove: bool = False) -> dict[str, Any]:
    """The ten keys that DB-GPT's clients send. `healthy` and `last_heartbeat` are the controller's, not the worker's:
    they are constants here (docs/protocol.md).
    """
    return {
        **sent.key._asdict(),
        "weight": sent.weight,
        "check_healthy": sent.check_healthy,
        "healthy": False,
        "enabled": sent.enabled,
        "prompt_template": sent.prompt_template,
        "last_heartbeat": None,
        "remove_from_registry": remove,
    }


def parse_registration(fields: Mapping[str, Any]) -> Registration:
    """Reads a decoded body or query as leniently as DB-GPT does (docs/protocol.md); ignores unknown keys.

    Raises InvalidInstance, which names the field.
    """
    return Registration(
        key=parse_key(fields),
        weight=parse_weight(fields.get("weight")),
        check_healthy=parse_bool("check_healthy", fields.get("check_healthy"), default=True),
        enabled=parse_bool("enabled", fields.get("enabled"), default=True),
        prompt_template=parse_prompt_template(fields.get("prompt_template")),
    )


def parse_key(fields: Mapping[str, Any]) -> InstanceKey:
    """Reads the key in a decoded body or query. Raises InvalidInstance, which names the field."""
    return InstanceKey(
        parse_model_name(fields.get("model_name")), parse_host(fields.get("host")), parse_port(fields.get("port"))
    )


def parse_model_name(value: Any) -> str:
    """`NAME@TYPE`, stripped. It has exactly one `@` and no empty side: another name breaks the list of every DB-GPT API
    server.
    """
    text = _parse_text("model_name", value)
    name, at, kind = text.partition("@")
    if not at or "@" in kind or not name.strip() or not kind.strip():
        raise InvalidInstance(
            "model_name", f"model_name {quoted(text)} is not NAME@TYPE with exactly one '@', as in qwen@llm"
        )
    return text


def parse_text_filter(field: str, value: str | None) -> str | None:
    """A text to compare with; None for all. As with DB-GPT, a model_name without a type is no error: it matches
    nothing.
    """
    return _parse_text(field, value) if value and value.strip() else None


def parse_host(value: Any) -> str:
    """A host name or an address, stripped; an IPv6 address in its canonical form, everything else verbatim."""
    text = _parse_text("host", value)
    if any(mark in text for mark in "/@?#\\ "):
        raise InvalidInstance(
            "host", f"host {quoted(text)} is not a host name or address: give it without scheme, path or spaces"
        )
    return _parse_text("host", canonical_host(text)) if ":" in text else text


def canonical_host(host: str) -> str:
    """The host; if it is an IPv6 address, the one form of all its spellings (rule 1).

    That is the shortest spelling, in lower case and in brackets, because DB-GPT calls a worker at `http://HOST:PORT`. A
    zone, as in `[fe80::1%eth0]`, stays as it is: two zones are two networks, and names of interfaces have a case.
    """
    if ":" not in host:
        return host
    if (short := short_ipv6(_without_brackets(host))) is not None:
        return f"[{short}]"
    address = ipv6_of(host)
    if address is None:
        return host
    mapped = address.ipv4_mapped  # `str` writes these in one way until Python 3.12, and in another way after it
    return f"[{address}]" if mapped is None else f"[::ffff:{mapped}]"


def short_ipv6(text: str) -> str | None:
    """The shortest spelling of an IPv6 address; None for one with a zone or in dotted form, and for what is none.

    It is the system's, and takes a tenth of the time of `ipaddress`, whose spelling is the same.
    """
    from socket import AF_INET6, inet_ntop, inet_pton  # `ctl` starts faster without it

    try:
        short = inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None
    return None if "." in short else short


def ipv6_of(host: str) -> IPv6Address | None:
    """The IPv6 address that the host is, with or without brackets; None for any other host."""
    if ":" not in host:
        return None
    from ipaddress import AddressValueError, IPv6Address  # few hosts need it, and `ctl` starts faster without it

    try:
        return IPv6Address(_without_brackets(host))
    except AddressValueError:
        return None


def _without_brackets(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def parse_port(value: Any) -> int:
    """1 to 65535, as a number or as digits."""
    if isinstance(value, str):
        digits = value.strip()
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MAX_TEXT_CHARS else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        raise InvalidInstance("port", "port is missing")
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PORT:
        raise InvalidInstance("port", f"port {quoted(value)} is not a whole number from 1 to {MAX_PORT}")
    return value


def parse_weight(value: Any) -> float:
    """A finite number; null and empty mean 1.0. NaN and infinity would break every list (docs/protocol.md)."""
    if value is None or value == "":
        return 1.0
    try:
        weight = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not math.isfinite(weight):
        raise InvalidInstance("weight", f"weight {quoted(value)} is not a finite number")
    return weight


def parse_operator_weight(value: Any) -> float:
    """A weight that an operator gives: not negative. One that a worker sends may be, as with DB-GPT: the worker would
    end if its register were refused, and DB-GPT ignores the weight.
    """
    weight = parse_weight(value)
    if weight < 0:
        raise InvalidInstance("weight", f"weight {quoted(value)} is negative: give 0 or more")
    return weight


_TRUE = ("true", "1", "yes", "on", "t", "y")
_FALSE = ("false", "0", "no", "off", "f", "n")
_BOOLS = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)


def parse_bool(field: str, value: Any, *, default: bool) -> bool:
    """True or false in any of DB-GPT's spellings and any case; null and empty mean `default`."""
    if isinstance(value, bool):
        return value
    if value is None or value == "":
        return default
    word = str(int(value)) if isinstance(value, int | float) and value in (0, 1) else value
    known = _BOOLS.get(word.strip().lower()) if isinstance(word, str) else None
    if known is None:
        raise InvalidInstance(field, f"{field} {quoted(value)} is neither true nor false")
    return known


def parse_prompt_template(value: Any) -> str | None:
    """The name of a prompt template; null and empty mean none."""
    if value is None or value == "":
        return None
    return _parse_text("prompt_template", value)


def parse_reason(value: Any) -> str | None:
    """The reason of an operator: one line of visible characters; None and empty mean none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInstance("reason", f"reason {quoted(value)} is not a string")
    text = value.strip()
    if len(text) > MAX_REASON_CHARS:
        raise InvalidInstance("reason", f"reason has {len(text)} characters, the most is {MAX_REASON_CHARS}")
    if not is_visible(text):
        raise InvalidInstance("reason", f"reason {quoted(text)} is not one line of printable characters")
    return text or None


def is_visible(text: str) -> bool:
    """Whether a person sees every character of the text, on one line."""
    return text.isprintable() and invisible_characters(text) is None


def _parse_text(field: str, value: Any) -> str:
    if value is None:
        raise InvalidInstance(field, f"{field} is missing")
    if not isinstance(value, str):
        raise InvalidInstance(field, f"{field} {quoted(value)} is not a string")
    text = value.strip()
    if not text:
        raise InvalidInstance(field, f"{field} is empty")
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidInstance(field, f"{field} {quoted(text)} has {len(text)} characters, the most is {MAX_TEXT_CHARS}")
    if not text.isprintable():
        raise InvalidInstance(field, f"{field} {quoted(text)} holds control or invisible characters")
    return text


def printable(text: str) -> str:
    """The text on one line, without control characters for a terminal; the rest stays as it is."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def quoted(value: Any) -> str:
    """A value for an error message: short, quoted, on one line, without control characters."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - the width of a quote, nothing else
