"""Statements on `ctl_event` and `ctl_stream`: how changes get their numbers, how they are read and forgotten.

A transaction takes its numbers from the one row of `ctl_stream`, as its last lock. So transactions that write events
follow each other: numbers have no gaps, and become visible in their order.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import delete, func, insert, select, update

from dbgpt_ctl.domain.events import ABSENT, Actor, ActorKind, Cause, Change, Event, EventPage
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.registry.contract import MAX_EVENT_AGE_DAYS, MAX_EVENTS
from dbgpt_ctl.registry.database.dialects import DIALECTS
from dbgpt_ctl.registry.database.schema import EVENTS, STREAM
from dbgpt_ctl.registry.database.tables.insertion import insert_all
from dbgpt_ctl.registry.database.tables.unreadable import BAD_VALUE, BOOLS, read_rows, reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select

    from dbgpt_ctl.domain.events import EventQuery
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
    stream, last_id = _head(connection)
    if query.after is not None and query.after >= last_id:
        return EventPage((), stream, last_id, missed=query.after > last_id)
    column = EVENTS.c
    conditions = [column.id <= last_id]
    if query.after is not None:
        conditions.append(column.id > query.after)
    if query.since is not None:
        conditions.append(column.at >= query.since)
    if query.key is not None:
        conditions += [column[name] == value for name, value in query.key._asdict().items()]
    order = column.id.desc() if query.after is None else column.id
    before = len(unreadable)
    found = _read(connection, _ROWS.where(*conditions).order_by(order).limit(query.limit), unreadable)
    if not found and query.after is not None and len(unreadable) - before == query.limit:
        # A page of such rows only: a reader goes on with the last id that it got, and would stay where it is.
        return read_events(connection, query._replace(after=unreadable[-1].values["id"]), unreadable)
    if query.after is None:
        return EventPage(tuple(reversed(found)), stream, last_id)
    # Read last: events that were forgotten since the first read may be missing in `found`.
    oldest = connection.execute(select(func.min(column.id))).scalar() or last_id + 1
    return EventPage(tuple(found), stream, last_id, missed=query.after < oldest - 1)


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


def forgettable(connection: Connection, now: datetime) -> range:
    """The numbers of the events that are too old or too many."""
    column = EVENTS.c
    oldest = connection.execute(select(func.min(column.id))).scalar()
    if oldest is None:
        return range(0)
    try:
        _, last_id = _head(connection)
    except StreamLost:
        return range(0)  # the next change, or the next who reads events, begins a new stream
    recent = column.at >= now - timedelta(days=MAX_EVENT_AGE_DAYS)
    young = connection.execute(select(func.min(column.id)).where(recent)).scalar()
    return range(oldest, max(last_id + 1 if young is None else young, last_id - MAX_EVENTS + 1))


def forget_events(numbers: Sequence[int], connection: Connection) -> None:
    """Deletes the oldest events. They should be at most FORGOTTEN_AT_ONCE, or other calls have to wait."""
    connection.execute(delete(EVENTS).where(EVENTS.c.id <= numbers[-1]))


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
