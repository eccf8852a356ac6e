"""Statements on `ctl_event` and `ctl_stream`: how changes get their numbers, how they are read and forgotten.

A transaction takes its numbers from the one row of `ctl_stream`, as its last lock. So transactions that write events
follow each other: numbers are taken without gaps, and become visible in their order. What is forgotten leaves gaps. The
row also tells up to which number, and since when all events are there; a release that does not know this forgets the
oldest events only.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from sqlalchemy import case, delete, func, insert, literal, select, update

from dbgpt_ctl.domain.events import ABSENT, Actor, ActorKind, Cause, Change, Event, EventPage
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.registry.contract import (
    MAX_EVENT_AGE,
    MAX_EVENTS,
    MAX_OPERATOR_EVENT_AGE,
    MAX_OPERATOR_EVENTS,
    RECENT_EVENTS,
)
from dbgpt_ctl.registry.database.dialects import DIALECTS
from dbgpt_ctl.registry.database.tables.insertion import insert_all
from dbgpt_ctl.registry.database.tables.schema import EVENTS, STREAM
from dbgpt_ctl.registry.database.tables.unreadable import BAD_VALUE, BOOLS, read_rows, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Column, ColumnElement, Connection, Select

    from dbgpt_ctl.domain.events import EventFilter, EventQuery
    from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow

FORGOTTEN_AT_ONCE = 1000
_STATES = frozenset((ABSENT, *map(str, InstanceState)))
_COLUMNS = tuple(
    EVENTS.c[name]
    for name in (
        "id",
        "at",
        *InstanceKey._fields,
        "old_state",
        "new_state",
        "verb",
        "actor",
        "address",
        "actor_name",
        "reason",
        "drained",
    )
)
_ROWS = select(*_COLUMNS)
_ARRAY = func.json_array(*_COLUMNS)
_LOST = f"the row of {STREAM.name} is lost or cannot be read"
_HEAD = select(STREAM.c.stream, STREAM.c.last_event).where(STREAM.c.id == 1)
_LOST_ROW = select(STREAM.c.lost_to, STREAM.c.complete_since, STREAM.c.operator_complete_since).where(STREAM.c.id == 1)
_OF_OPERATORS = EVENTS.c.actor == str(ActorKind.OPERATOR)
_OF_OTHERS = EVENTS.c.actor != str(ActorKind.OPERATOR)


class StreamLost(Exception):
    """The one row of `ctl_stream` is gone or spoilt."""


def write_events(connection: Connection, changes: Sequence[Change]) -> None:
    """Numbers and stores the changes, in this order. The transaction may take no lock after this."""
    if not changes:
        return
    try:
        last_id = _take_numbers(connection, len(changes))
    except StreamLost:
        last_id = begin_stream(connection) + len(changes)
        connection.execute(update(STREAM).where(STREAM.c.id == 1).values(last_event=last_id))
    first = last_id - len(changes) + 1
    insert_all(connection, _COLUMNS, [_values(number, change) for number, change in enumerate(changes, first)])


def _take_numbers(connection: Connection, count: int) -> int:
    """Takes the next `count` numbers, and returns the last of them. Raises StreamLost."""
    dialect = DIALECTS[connection.dialect.name]
    if dialect.carried_value is None:
        connection.execute(update(STREAM).where(STREAM.c.id == 1).values(last_event=STREAM.c.last_event + count))
        return _head(connection)[1]
    number = dialect.carried_value.format("last_event + %s")
    taken = connection.exec_driver_sql(
        f"UPDATE ctl_stream SET last_event = {number} WHERE id = 1 AND stream <> ''",  # noqa: S608 - of the dialect
        (count,),
    )
    if not taken.rowcount:
        raise StreamLost(_LOST)
    return int(taken.lastrowid)


def begin_stream(connection: Connection) -> int:
    """Begins a new numbering after that row was lost or spoilt, and returns the last number that is in use. Readers see
    another stream, and start anew.
    """
    last_id = connection.execute(select(func.max(EVENTS.c.id))).scalar() or 0
    connection.execute(delete(STREAM).where(STREAM.c.id == 1))
    connection.execute(insert(STREAM).values(id=1, stream=secrets.token_hex(8), last_event=last_id))
    return last_id


def _head(connection: Connection) -> tuple[str, int]:
    """The stream, and the number of its newest event. Raises StreamLost."""
    row = connection.execute(_HEAD).one_or_none()
    if row is None or not isinstance(row.last_event, int) or not row.stream:
        raise StreamLost(_LOST)
    return row.stream, row.last_event


def read_events(connection: Connection, query: EventQuery, unreadable: list[UnreadableRow] | None = None) -> EventPage:
    """The events up to the newest number, which is read first: later events come with the next page.

    Rows that cannot be read are left out, and appended to `unreadable`. Raises StreamLost.
    """
    unreadable = [] if unreadable is None else unreadable
    after, where, limit = query
    stream, last_id = _head(connection)
    found: list[Event] = []
    next_after = last_id
    if after is None or after < last_id:
        column = EVENTS.c
        conditions = [column.id <= last_id, *_selected(where)]
        if after is not None:
            conditions.append(column.id > after)
        order = column.id.desc() if after is None else column.id
        before = len(unreadable)
        found = _read(connection, _ROWS.where(*conditions).order_by(order).limit(limit), unreadable)
        left_out = [row.values["id"] for row in unreadable[before:]]
        if after is None:
            found.reverse()
        elif len(found) + len(left_out) >= limit:
            next_after = max([event.id for event in found[-1:]] + left_out, default=last_id)
    # Read last: events that were forgotten since the first read may be missing in `found`.
    lost = _lost(connection, last_id)
    missed = after is not None and not lost.to <= after <= last_id
    return EventPage(
        tuple(found), stream, last_id, missed, next_after, lost.complete_since, lost.operator_complete_since
    )


def _selected(where: EventFilter) -> Iterator[ColumnElement[bool]]:
    column = EVENTS.c
    for name in ("model_name", "host", "port", "verb"):
        if (value := getattr(where, name)) is not None:
            yield column[name] == value
    if where.name is not None:  # a range, which an index finds; "A" follows "@"
        yield column.model_name > f"{where.name}@"
        yield column.model_name < f"{where.name}A"
    if where.type is not None:
        ended, end = column.model_name + "@", f"@{where.type}@"  # there is one "@" in a model_name
        yield func.replace(ended, end, "") != ended  # LIKE ignores case in SQLite
    if where.by is not None:
        yield (column.actor if where.by_kind else column.actor_name) == where.by
    if where.since is not None:
        yield column.at >= where.since
    if where.until is not None:
        yield column.at < where.until


class _Lost(NamedTuple):
    """What is forgotten: the highest number, and as in an EventPage."""

    to: int
    complete_since: datetime | None
    operator_complete_since: datetime | None


def _lost(connection: Connection, last_id: int) -> _Lost:
    """What the row of the stream tells; and a release that does not write it there forgets the oldest events."""
    row = connection.execute(_LOST_ROW).one_or_none()
    stored = _Lost(0, None, None) if row is None else _Lost(row[0] or 0, *row[1:])
    oldest = connection.execute(select(EVENTS.c.id, EVENTS.c.at).order_by(EVENTS.c.id).limit(1)).one_or_none()
    to = last_id if oldest is None else oldest.id - 1
    if to <= stored.to:
        return stored
    return _Lost(to, *(_latest(time, oldest and oldest.at) for time in stored[1:]))


def _latest(*times: datetime | None) -> datetime | None:
    return max(filter(None, times), default=None)


def unreadable_events(connection: Connection) -> list[UnreadableRow]:
    """The rows of events that cannot be read."""
    unreadable: list[UnreadableRow] = []
    _read(connection, _ROWS.order_by(EVENTS.c.id), unreadable)
    return unreadable


def _read(connection: Connection, query: Select[Any], unreadable: list[UnreadableRow]) -> list[Event]:
    """The events of a query on `_COLUMNS`. Rows that cannot be read are left out, and appended to `unreadable`."""
    if DIALECTS[connection.dialect.name].reads_arrays:
        arrays = connection.execute(query.with_only_columns(_ARRAY)).scalars()
        try:
            return [_event_in(array) for array in arrays]
        except BAD_VALUE:
            pass  # they are read again, value by value
    return read_rows(connection, query, _event, unreadable)


def too_old(now: datetime, connection: Connection) -> list[int]:
    """The numbers of the events that are too old, and of what operators did also of those that are too many."""
    return [
        number
        for query in (
            select(EVENTS.c.id).where(_OF_OTHERS, EVENTS.c.at < now - MAX_EVENT_AGE),
            select(EVENTS.c.id).where(_OF_OPERATORS, EVENTS.c.at < now - MAX_OPERATOR_EVENT_AGE),
            _beyond(MAX_OPERATOR_EVENTS, _OF_OPERATORS),
        )
        for number in connection.execute(query).scalars()
    ]


def too_many(connection: Connection) -> list[int]:
    """The numbers of the other events beyond MAX_EVENTS: again and again the oldest of the model that has most of them,
    but none of the newest RECENT_EVENTS.
    """
    kept = select(func.count()).select_from(EVENTS).where(_OF_OTHERS)
    excess = connection.execute(kept).scalar_one() - MAX_EVENTS
    if excess <= 0:
        return []
    recent = connection.execute(_beyond(RECENT_EVENTS, _OF_OTHERS).limit(1)).scalar_one()
    # Of each event, how many newer ones its model has, and itself.
    place = func.row_number().over(partition_by=EVENTS.c.model_name, order_by=EVENTS.c.id.desc()).label("place")
    placed = select(EVENTS.c.id, place).where(_OF_OTHERS, EVENTS.c.id <= recent).subquery()
    surplus = select(placed.c.id).order_by(placed.c.place.desc(), placed.c.id).limit(excess)
    return list(connection.execute(surplus).scalars())


def _beyond(most: int, condition: ColumnElement[bool]) -> Select[tuple[int]]:
    """The numbers of the events before the newest `most`, the newest first."""
    return select(EVENTS.c.id).where(condition).order_by(EVENTS.c.id.desc()).limit(2**31).offset(most)


def forget_events(numbers: Sequence[int], now: datetime, connection: Connection) -> None:
    """Deletes these events, and notes what is lost. They should be at most FORGOTTEN_AT_ONCE, or other calls have to
    wait.
    """
    gone = EVENTS.c.id.in_(numbers)
    lost: dict[Column[Any], Any] = {STREAM.c.lost_to: max(numbers)}
    newest = select(EVENTS.c.actor, func.max(EVENTS.c.at)).where(gone).group_by(EVENTS.c.actor)
    try:
        for actor, time in connection.execute(newest):
            of_operator = actor == ActorKind.OPERATOR
            column = STREAM.c.operator_complete_since if of_operator else STREAM.c.complete_since
            lost[column] = _latest(time, lost.get(column))
    except BAD_VALUE:  # a row that cannot be read
        lost[STREAM.c.complete_since] = now
    connection.execute(delete(EVENTS).where(gone))
    values = {
        column.name: case((column > value, column), else_=literal(value, column.type)) for column, value in lost.items()
    }
    connection.execute(update(STREAM).where(STREAM.c.id == 1).values(values))


def _values(number: int, change: Change) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    cause = change.cause
    actor = cause.actor
    return (
        number,
        change.time,
        *change.key,
        str(change.old),
        str(change.new),
        cause.verb,
        str(actor.kind),
        actor.address,
        actor.name,
        cause.reason,
        change.drained,
    )


def _event(row: Any) -> Event:
    number, time, model_name, host, port, old, new, verb, kind, address, actor_name, reason, drained = row
    for name, state in (("old_state", old), ("new_state", new)):
        if state not in _STATES:
            raise ValueError(reason_of(name, state))
    if None in (time, model_name, host, port, verb, drained):
        raise ValueError("a column that must hold a value is NULL")
    cause = Cause(verb, Actor(ActorKind(kind), address, actor_name), reason)
    return Event(number, Change(time, InstanceKey(model_name, host, port), old, new, cause, drained))


def _event_in(array: str) -> Event:
    number, time, *others, drained = orjson.loads(array)
    return _event((number, datetime.fromisoformat(f"{time}+00:00"), *others, BOOLS[drained]))
