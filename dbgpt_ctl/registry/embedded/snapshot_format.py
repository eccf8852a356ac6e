"""The content of a snapshot: the state of an embedded registry as JSON, and how it is checked when it is read.

A person may have edited the file, or another program may have written it. So a value is read by the parser that reads
it in a request: a wrong one would fail the lists of a controller that reports itself healthy. Instances and events are
tables, which are checked column by column: most values of a column occur often, and are parsed once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from dbgpt_ctl.domain.events import ABSENT, Actor, ActorKind, Cause, Change, Event
from dbgpt_ctl.domain.fields import (
    parse_host,
    parse_model_name,
    parse_port,
    parse_prompt_template,
    parse_weight,
    quoted,
)
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState, ModelInstance
from dbgpt_ctl.domain.registry_outage import Pulse
from dbgpt_ctl.errors import InvalidInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from enum import StrEnum

FORMAT = "dbgpt_ctl snapshot"
VERSION = 1
_BEGIN = orjson.dumps({"format": FORMAT})[:-1]
_YEARS = range(1970, 2500)
"""With these, every sum and difference of times and of a heartbeat timeout is a time too."""
_LARGEST_NUMBER = 2**53
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state of an embedded registry. `stream` is None where there is no file."""

    instances: tuple[ModelInstance, ...] = ()
    pulse: Pulse | None = None
    stream: str | None = None
    last_id: int = 0
    events: tuple[Event, ...] = ()
    complete: bool = False
    """Whether no change followed it: it was written when the registry was closed."""


class TornSnapshot(Exception):
    """A part of the text is missing, as after damage to a disk: nobody writes this on purpose."""


class WrongSnapshot(Exception):
    """A whole text that is no snapshot of this version, or has a wrong value. The message names place and value."""


def encoded(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "pulse": asdict(snapshot.pulse) if snapshot.pulse else None,
            "columns": list(_INSTANCE),
            "instances": [[*key, *facts] for key, *facts in snapshot.instances],
            "stream": snapshot.stream,
            "last_id": snapshot.last_id,
            "complete": snapshot.complete,
            "event_columns": list(_EVENT),
            "events": [_event_row(event.id, event.change) for event in snapshot.events],
        },
        default=tuple,  # the facts of a drain
    )


def decoded(text: bytes) -> Snapshot:
    """The snapshot in the text. Raises TornSnapshot or WrongSnapshot."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if _is_torn(text):
            raise TornSnapshot("its end is missing") from None
        raise WrongSnapshot(f"it is not JSON: {error}") from None
    if type(document) is not dict or document.get("format") != FORMAT:
        raise WrongSnapshot("it is no snapshot of this program")
    if document.get("version") != VERSION:
        raise WrongSnapshot(f"its version is {quoted(document.get('version'))}, and this release reads {VERSION}")
    instances = _rows(document, "instances", "columns", _INSTANCE, _instance)
    _require_consistent(instances)
    events = _rows(document, "events", "event_columns", _EVENT, _event, optional=_LATER_EVENT_COLUMNS)
    last_id = _value(document, "last_id", _NUMBER)
    ids = [event.id for event in events]
    if any(later <= earlier for earlier, later in pairwise([0, *ids, last_id + 1])):
        raise WrongSnapshot(f"the ids of its events do not rise up to last_id, which is {last_id}")
    stream, complete = _value(document, "stream", _STREAM), _value(document, "complete", _BOOL)
    return Snapshot(tuple(instances), _pulse(document), stream, last_id, tuple(events), complete)


def _is_torn(text: bytes) -> bool:
    """Whether the text is nothing, or begins as ours and then breaks off. File systems fill gaps with NULs."""
    if not text.strip(b"\0"):
        return True
    return text.startswith(_BEGIN) and (b"\0" in text or not text.rstrip().endswith(b"}"))


def _pulse(document: dict[str, Any]) -> Pulse | None:
    fields = document.get("pulse")
    if fields is None:
        return None
    if type(fields) is not dict or fields.keys() != _PULSE.keys():
        raise WrongSnapshot(f"its pulse is not an object with {', '.join(_PULSE)}")
    return Pulse(**{name: _value(fields, name, column) for name, column in _PULSE.items()})


def _require_consistent(instances: Sequence[ModelInstance]) -> None:
    keys = set()
    for index, instance in enumerate(instances):
        if instance.key in keys:
            raise WrongSnapshot(f"instances[{index}]: {quoted(str(instance.key))} is there twice")
        if instance.removed and instance.deregistered_at is None:
            raise WrongSnapshot(f"instances[{index}]: {quoted(str(instance.key))} is removed and not deregistered")
        keys.add(instance.key)


# --- the values of each column ---


class _Column(NamedTuple):
    """`types`: what JSON may make of its values, and the words for that. `parse` raises ValueError, whose text ends a
    sentence that begins with the name and the value, or InvalidInstance.
    """

    words: str
    types: frozenset[type]
    parse: Callable[[Any], Any] | None = None


def _time(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is not a time") from None
    if time.tzinfo is None:
        raise ValueError("has no time zone")
    if time.year not in _YEARS:
        raise ValueError(f"is not within the years {_YEARS[0]} to {_YEARS[-1]}")
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _stream(value: str | None) -> str | None:
    if value is not None and not (value and value.isprintable()):  # it is a part of a line of each watch
        raise ValueError("is not one line of printable characters")
    return value


def _number(value: int) -> int:
    if not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError(f"is not within 0 and {_LARGEST_NUMBER}")
    return value


def _word(words: type[StrEnum], value: str) -> str:
    try:
        return words(value)
    except ValueError:
        raise ValueError(f"is none of {', '.join(words)}") from None


def _state_or_absent(value: str) -> str:
    return value if value == ABSENT else _word(InstanceState, value)


def _drain(values: list[Any] | None) -> DrainFacts | None:
    if values is None:
        return None
    if len(values) != len(_DRAIN):
        raise ValueError(f"is not a list of {', '.join(_DRAIN)}")
    pairs = zip(_DRAIN.items(), values, strict=True)
    return DrainFacts(*(_parsed(name, value, column) for (name, column), value in pairs))


_BOOL = _Column("true or false", frozenset({bool}))
_NUMBER = _Column("a whole number", frozenset({int}), _number)
_TIME = _Column("a text", frozenset({str}), _time)
_TEXT = _Column("a text", frozenset({str}))
_TEXT_OR_NULL = _Column("a text or null", frozenset({str, type(None)}))
"""Any text: the address of a caller may come from a header, and a reason from an application."""
_TIME_OR_NULL = _TEXT_OR_NULL._replace(parse=_time)
_STREAM = _TEXT_OR_NULL._replace(parse=_stream)
_PULSE = {"ticked_at": _TIME, "gone_at": _TIME_OR_NULL, "back_at": _TIME_OR_NULL}
_DRAIN = {"since": _TIME_OR_NULL, "by": _TEXT_OR_NULL, "reason": _TEXT_OR_NULL, "until": _TIME_OR_NULL}
_KEY = {
    "model_name": _TEXT._replace(parse=parse_model_name),
    "host": _TEXT._replace(parse=parse_host),
    "port": _NUMBER._replace(parse=parse_port),
}
_INSTANCE = {
    **_KEY,
    "weight": _Column("a number", frozenset({float, int}), parse_weight),
    "check_healthy": _BOOL,
    "prompt_template": _TEXT_OR_NULL._replace(parse=parse_prompt_template),
    "registered_at": _TIME,
    "last_heartbeat": _TIME,
    "deregistered_at": _TIME_OR_NULL,
    "refused_at": _TIME_OR_NULL,
    "drain": _Column("a list or null", frozenset({list, type(None)}), _drain),
    "announced_state": _TEXT._replace(parse=partial(_word, InstanceState)),
    "flaps": _NUMBER,
    "removed": _BOOL,
}
"""The key, and the other fields of a ModelInstance in their order."""
_EVENT = {
    "id": _NUMBER,
    "time": _TIME,
    **_KEY,
    "old": _TEXT._replace(parse=_state_or_absent),
    "new": _TEXT._replace(parse=_state_or_absent),
    "verb": _TEXT,
    "actor": _TEXT._replace(parse=partial(_word, ActorKind)),
    "address": _TEXT_OR_NULL,
    "reason": _TEXT_OR_NULL,
    "drained": _BOOL,
    "actor_name": _TEXT_OR_NULL,
}
_LATER_EVENT_COLUMNS = 1
"""So many columns at the end of _EVENT may be missing: an older release wrote the file."""


def _instance(model_name: str, host: str, port: int, *facts: Any) -> ModelInstance:
    return ModelInstance(InstanceKey(model_name, host, port), *facts)


def _event(number: int, time: datetime, model_name: str, host: str, port: int, *rest: Any) -> Event:
    old, new, verb, kind, address, reason, drained, *later = rest
    cause = Cause(verb, Actor(kind, address, *later), reason)
    return Event(number, Change(time, InstanceKey(model_name, host, port), old, new, cause, drained))


def _event_row(number: int, change: Change) -> tuple[object, ...]:
    """The values of _EVENT."""
    verb, actor, reason = change.cause
    states, drained = (change.old, change.new), change.drained
    return (number, change.time, *change.key, *states, verb, actor.kind, actor.address, reason, drained, actor.name)


# --- tables ---


def _rows(
    document: dict[str, Any],
    name: str,
    header: str,
    columns: Mapping[str, _Column],
    build: Callable[..., _Row],
    *,
    optional: int = 0,
) -> list[_Row]:
    """What `build` makes of the checked values of each row of a table. All of its last `optional` columns may be
    missing.
    """
    names = list(columns)
    if optional and document.get(header) == names[:-optional]:
        columns = dict(list(columns.items())[:-optional])
    elif document.get(header) != names:
        raise WrongSnapshot(f"{header} is not the list {', '.join(names)}")
    rows = document.get(name)
    if type(rows) is not list:
        raise WrongSnapshot(f"{name} is not a list")
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != len(columns):
            raise WrongSnapshot(f"{name}[{index}] is not a list of {len(columns)} values")
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    checked = []
    for (field, column), values in zip(columns.items(), by_column, strict=True):
        try:
            checked.append(_parsed_all(values, column))
        except (InvalidInstance, ValueError):
            index, error = next(_errors(field, values, column))
            raise WrongSnapshot(f"{name}[{index}], {quoted(rows[index][:3])}: {error}") from None
    return list(map(build, *checked))


def _parsed_all(values: Sequence[Any], column: _Column) -> Sequence[Any]:
    """The parsed values of one column. Raises ValueError or InvalidInstance, which do not say where."""
    if not column.types.issuperset(map(type, values)):
        raise ValueError
    if column.parse is None:
        return values
    # A list is no key of a cache.
    return list(map(column.parse if list in column.types else lru_cache(maxsize=None)(column.parse), values))


def _errors(field: str, values: Sequence[Any], column: _Column) -> Iterator[tuple[int, InvalidInstance]]:
    """The wrong values of one column, each with its index."""
    for index, value in enumerate(values):
        try:
            _parsed(field, value, column)
        except InvalidInstance as error:
            yield index, error


def _value(fields: Mapping[str, Any], name: str, column: _Column) -> Any:
    """One value that stands in no table. Raises WrongSnapshot."""
    try:
        return _parsed(name, fields.get(name), column)
    except InvalidInstance as error:
        raise WrongSnapshot(str(error)) from None


def _parsed(name: str, value: Any, column: _Column) -> Any:
    """The parsed value. Raises InvalidInstance, whose message is a sentence."""
    if type(value) not in column.types:
        raise InvalidInstance(name, f"{name} {quoted(value)} is not {column.words}")
    try:
        return value if column.parse is None else column.parse(value)
    except ValueError as error:
        raise InvalidInstance(name, f"{name} {quoted(value)} {error}") from None
