"""The parameters of /api/v1: each field of a query or of a body, checked.

Every function raises InvalidInstance, which names the field, for a value that it does not accept. An empty field of a
query counts as not given.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.domain.events import EventFilter
from dbgpt_ctl.domain.fields import (
    parse_host,
    parse_port,
    parse_reason,
    parse_text_filter,
    quoted,
)
from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
from dbgpt_ctl.domain.instance import STATES, DrainRequest
from dbgpt_ctl.errors import InvalidInstance
from dbgpt_ctl.spelling import did_you_mean, nearest
from dbgpt_ctl.wire.fields import MAX_AGE_SECS, MAX_DRAIN_SECS, MAX_EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

DRAIN_FIELDS = ("reason", "for_secs")
REGISTERED_FIELDS = ("weight", "check_healthy", "prompt_template")
MAX_STREAM_CHARS = 64


class Cursor(NamedTuple):
    """A position in the events: a watch goes on after the event `number` of `stream`."""

    stream: str
    number: int

    def __str__(self) -> str:
        return f"{self.stream}.{self.number}"

    @classmethod
    def parse(cls, text: str | None) -> Cursor | None:
        """Parses `STREAM.N`. Raises InvalidInstance."""
        if not text:
            return None
        stream, dot, number = text.rpartition(".")
        if not dot or not stream or len(stream) > MAX_STREAM_CHARS or not stream.isprintable():
            raise InvalidInstance("cursor", f"cursor {quoted(text)} is not STREAM.N, as the id of a change")
        return cls(stream, parse_whole_number("cursor", number, 0, MAX_EVENT_ID))


def parse_whole_number(field: str, value: str, least: int, most: int) -> int:
    """A number in digits, from `least` to `most`."""
    digits = value.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(most)) and least <= int(digits) <= most):
        raise InvalidInstance(field, f"{field} {quoted(value)} is not a whole number from {least} to {most}")
    return int(digits)


def reject_unknown_fields(fields: Mapping[str, Any], *known: str) -> Mapping[str, Any]:
    """Returns the fields if all are known: a misspelt field must not count as left out."""
    for name in fields:
        if name not in known:
            offered = f"is not one of {', '.join(known)}" if known else "is not known here: no parameter is"
            hint = did_you_mean(nearest(name, known))
            raise InvalidInstance(ascii(name)[1:-1], f"{quoted(name)} {offered}{hint}")
    return fields


def parse_switch(field: str, value: Any) -> bool:
    """A JSON boolean and nothing that might mean one."""
    if not isinstance(value, bool):
        raise InvalidInstance(field, f"{field} {quoted(value)} is not true or false")
    return value


def parse_drain(value: Any) -> DrainRequest:
    """The field `drain` of a register."""
    if not isinstance(value, dict):
        problem = "is missing" if value is None else f"{quoted(value)} is not an object"
        raise InvalidInstance("drain", f"drain {problem}: give {{}}, or an object with {' and '.join(DRAIN_FIELDS)}")
    return parse_drain_request(reject_unknown_fields(value, *DRAIN_FIELDS))


def parse_drain_request(fields: Mapping[str, Any]) -> DrainRequest:
    """The fields `reason` and `for_secs`, each of which may be missing or null."""
    return DrainRequest(parse_reason(fields.get("reason")), _parse_drain_secs(fields.get("for_secs")))


def _parse_drain_secs(value: Any) -> timedelta | None:
    """The length of a drain in seconds, as a JSON number; None for one without an end."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 1 <= value <= MAX_DRAIN_SECS:
        raise InvalidInstance(
            "for_secs", f"for_secs {quoted(value)} is not a number of seconds from 1 to {MAX_DRAIN_SECS} (366 days)"
        )
    return timedelta(seconds=value)


def parse_older_than(value: Any) -> timedelta:
    """Seconds, as a JSON number."""
    if value is None:
        raise InvalidInstance("older_than_secs", "older_than_secs is missing")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_AGE_SECS:
        raise InvalidInstance(
            "older_than_secs",
            f"older_than_secs {quoted(value)} is not a number of seconds from 0 to {MAX_AGE_SECS:.0f}",
        )
    return timedelta(seconds=value)


def _parse_iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat("+".join(text.rsplit(" ", 1)))


def parse_instance_filter(query: Mapping[str, str]) -> InstanceFilter:
    """The instances, or those whose events, match every field. Raises InvalidInstance."""
    host, port = query.get("host"), query.get("port")
    return InstanceFilter(
        ModelFilter(parse_text_filter("model_name", query.get("model_name"))),
        _parse_state(query.get("state", "").strip().lower()),
        parse_host(host) if host else None,
        parse_port(port) if port else None,
    )


def parse_event_filter(query: Mapping[str, str]) -> EventFilter:
    """Raises InvalidInstance."""
    host, port = query.get("host"), query.get("port")
    texts = {name: parse_text_filter(name, query.get(name)) for name in ("model_name", "name", "type", "verb", "by")}
    return EventFilter(
        **texts,
        host=parse_host(host) if host else None,
        port=parse_port(port) if port else None,
        since=_parse_time("since", query.get("since")),
        until=_parse_time("until", query.get("until")),
    )


def _parse_time(field: str, value: str | None) -> datetime | None:
    """A time in ISO 8601 with an offset. A `+` that arrives as a space, as curl sends it, is accepted too."""
    if not value:
        return None
    try:
        time = _parse_iso(value.strip())
    except ValueError:
        raise InvalidInstance(field, f"{field} {quoted(value)} is not a time in ISO 8601") from None
    if time.tzinfo is None:
        raise InvalidInstance(field, f"{field} {quoted(value)} has no offset: end it with Z or +00:00")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidInstance(field, f"{field} {quoted(value)} is out of range") from None


def _parse_state(text: str) -> frozenset[str]:
    if text and text not in STATES:
        raise InvalidInstance("state", f"state {quoted(text)} is none of {', '.join(STATES)}")
    return frozenset({text} if text else ())
