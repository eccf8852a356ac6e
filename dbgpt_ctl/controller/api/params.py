"""What a request to /api/v1 asks for: each field checked, or InvalidInstance that names it. Empty means not given."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.fields import parse_host, parse_model_name_filter, parse_port
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.errors import InvalidInstance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import ListedInstance

MAX_AGE_SECS = 100 * 365.25 * 86_400
"""Older than any instance; a longer time would be before the year 1."""
MAX_EVENT_ID = 2**63 - 1
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1000
MAX_STREAM_CHARS = 64
OPERATOR_HEADER = (b"x-ctl-actor", b"operator")


def caller(request: Request) -> Actor:
    """Who calls one of DB-GPT's endpoints: an operator says so in a header, all others are workers."""
    return _from(request, ActorKind.OPERATOR if OPERATOR_HEADER in request.scope["headers"] else ActorKind.WORKER)


def operator(request: Request) -> Actor:
    """Who calls for what only operators do."""
    return _from(request, ActorKind.OPERATOR)


def _from(request: Request, kind: ActorKind) -> Actor:
    client = request.scope.get("client")
    return Actor(kind, client[0] if client else None)


class Which(NamedTuple):
    """Instances, or events of them, that match all that is given."""

    model_name: str | None = None
    host: str | None = None
    port: int | None = None
    state: InstanceState | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Which:
        """Raises InvalidInstance."""
        host, port = query.get("host"), query.get("port")
        return cls(
            parse_model_name_filter(query.get("model_name")),
            parse_host(host) if host else None,
            parse_port(port) if port else None,
            _state(query.get("state")),
        )

    @property
    def key(self) -> InstanceKey | None:
        """The one instance that is meant; None where it may be several."""
        if self.model_name is None or self.host is None or self.port is None:
            return None
        return InstanceKey(self.model_name, self.host, self.port)

    @property
    def is_all(self) -> bool:
        """Nothing is given."""
        return self == Which()

    def admits(self, key: InstanceKey) -> bool:
        """Whether it is one of them, whatever its state."""
        return (
            (self.model_name is None or key.model_name == self.model_name)
            and (self.host is None or key.host == self.host)
            and (self.port is None or key.port == self.port)
        )

    def admits_entry(self, entry: ListedInstance) -> bool:
        """Whether it is one of them."""
        return self.admits(entry.instance.key) and (self.state is None or entry.state is self.state)

    def admits_event(self, event: Event) -> bool:
        """Whether it is of one of them."""
        return self.admits(event.change.key)


class Cursor(NamedTuple):
    """Where a watch goes on: after the event `number` of `stream`."""

    stream: str
    number: int

    def __str__(self) -> str:
        return f"{self.stream}.{self.number}"

    @classmethod
    def parse(cls, text: str | None) -> Cursor | None:
        """`STREAM.N`. Raises InvalidInstance."""
        if not text:
            return None
        stream, dot, number = text.rpartition(".")
        if not dot or not stream or len(stream) > MAX_STREAM_CHARS or not stream.isprintable():
            raise InvalidInstance("cursor", f"cursor {_shown(text)} is not STREAM.N, as the id of a change")
        return cls(stream, whole_number("cursor", number, 0, MAX_EVENT_ID))


def whole_number(field: str, value: str, least: int, most: int) -> int:
    """In digits. Raises InvalidInstance."""
    digits = value.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(most)) and least <= int(digits) <= most):
        raise InvalidInstance(field, f"{field} {_shown(value)} is not a whole number from {least} to {most}")
    return int(digits)


def only(fields: Mapping[str, Any], *known: str) -> Mapping[str, Any]:
    """The fields, if there are no others: what is misspelt here must not count as left out. Raises InvalidInstance."""
    for name in fields:
        if name not in known:
            raise InvalidInstance(ascii(name)[1:-1], f"{_shown(name)} is not one of {', '.join(known)}")
    return fields


def parse_switch(field: str, value: Any) -> bool:
    """true or false, and nothing that might mean either. Raises InvalidInstance."""
    if not isinstance(value, bool):
        raise InvalidInstance(field, f"{field} {_shown(value)} is not true or false")
    return value


def parse_older_than(value: Any) -> timedelta:
    """Seconds, as a number. Raises InvalidInstance."""
    if value is None:
        raise InvalidInstance("older_than_secs", "older_than_secs is missing")
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or not 0 <= value <= MAX_AGE_SECS:
        raise InvalidInstance(
            "older_than_secs",
            f"older_than_secs {_shown(value)} is not a number of seconds from 0 to {MAX_AGE_SECS:.0f}",
        )
    return timedelta(seconds=value)


def parse_since(value: str | None) -> datetime | None:
    """ISO 8601 with an offset; a `+` that came as a space, as curl sends it, is taken too. Raises InvalidInstance."""
    if not value:
        return None
    text = value.strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        try:
            time = datetime.fromisoformat("+".join(text.rsplit(" ", 1)))
        except ValueError:
            raise InvalidInstance("since", f"since {_shown(value)} is not a time in ISO 8601") from None
    if time.tzinfo is None:
        raise InvalidInstance("since", f"since {_shown(value)} has no offset: end it with Z or +00:00")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidInstance("since", f"since {_shown(value)} is out of range") from None


def _state(value: str | None) -> InstanceState | None:
    try:
        return InstanceState(value.strip().lower()) if value and value.strip() else None
    except ValueError:
        raise InvalidInstance("state", f"state {_shown(value)} is none of {', '.join(InstanceState)}") from None


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - the width of a quote, nothing else
