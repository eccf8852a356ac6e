"""Statements on `ctl_instance`, and how its rows become facts."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from itertools import chain
from sys import intern
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, bindparam, delete, func, select, text, tuple_, update

from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE, InstanceKey, InstanceState, ModelInstance
from dbgpt_ctl.registry.database.schema import INSTANCES, UtcTime

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection

    from dbgpt_ctl.clock import Clock

__all__ = [
    "DATABASE_TIME",
    "FACTS",
    "IDENTITY",
    "Said",
    "among",
    "beat_plainly",
    "count_rows",
    "delete_rows",
    "found_rows",
    "key_of",
    "listed_rows",
    "locked_rows",
    "move_beats_back",
    "time_of",
    "tombstones",
]

IDENTITY = tuple(INSTANCES.primary_key)
FACTS = tuple(each.name for each in fields(ModelInstance) if each.name != "key")
"""The names of all facts; the columns of `INSTANCES` are the identity and these, in this order."""
DATABASE_TIME = func.utc_timestamp(6, type_=UtcTime())
Said = tuple[float, str | None]
"""What a register says that may be news: the weight and the prompt template."""
_IN_COLUMNS = select(INSTANCES).where(~INSTANCES.c.removed).order_by(*IDENTITY)
_IN_ARRAYS = _IN_COLUMNS.with_only_columns(func.json_array(*INSTANCES.columns))
"""Each row as one text. PyMySQL, which is all Python, takes three times as long for columns of their own."""
_STATES = {str(state): state for state in InstanceState}
_OF_MODELS = INSTANCES.c.model_name.in_(bindparam("model_names", expanding=True))


def among(keys: Collection[InstanceKey]) -> ColumnElement[bool]:
    """Whether a row's identity is one of `keys`, so that MariaDB reads just those rows of the primary key."""
    if len(keys) == 1:
        # (a, b, c) IN ((x, y, z)) makes an UPDATE scan, and lock, the whole table.
        return and_(*(column == value for column, value in zip(IDENTITY, *keys, strict=True)))
    return tuple_(*IDENTITY).in_(bindparam("keys", list(keys), expanding=True))


def time_of(connection: Connection, clock: Clock | None) -> datetime:
    """The clock's time, or without one the database's (rule 7)."""
    if clock is not None:
        return clock.now()
    now: datetime = connection.execute(select(DATABASE_TIME)).scalar_one()
    return now


def beat_plainly(
    connection: Connection, keys: Collection[InstanceKey], said: Said | None, now: datetime | None, timeout: timedelta
) -> Collection[InstanceKey]:
    """Stores a beat of those of `keys` for which no other fact would change, and gives these.

    They are there, alive and told to be, and their last beat is not ahead; with `said` that is what they have
    registered with. `now` None means the database's time. Runs in or outside of a transaction: what another made plain
    between the two statements has beaten just then.
    """
    condition, values = _plain(connection, keys, said, now, timeout)
    time = _mark(connection) if now else "UTC_TIMESTAMP(6)"
    times = [_for_driver(connection, now)] if now else []
    # Runs for every beat of the cluster, and building and compiling it as an expression would take twice the time of
    # all the rest.
    beaten = connection.exec_driver_sql(
        f"UPDATE ctl_instance SET last_heartbeat = {time} WHERE {condition}",  # noqa: S608 - holds marks only
        (*times, *values),
    ).rowcount
    if beaten in (0, len(keys)):
        return keys if beaten else ()
    found = connection.exec_driver_sql(
        f"SELECT model_name, host, port FROM ctl_instance WHERE {condition}",  # noqa: S608 - holds marks only
        values,
    )
    return {InstanceKey(*row) for row in found}


def _plain(
    connection: Connection, keys: Collection[InstanceKey], said: Said | None, now: datetime | None, timeout: timedelta
) -> tuple[str, tuple[Any, ...]]:
    """The condition of `beat_plainly`, and the values for its marks."""
    sqlite, mark = connection.dialect.name == "sqlite", _mark(connection)
    time, oldest = mark, mark
    values: list[Any] = []
    if now is None:
        time = "UTC_TIMESTAMP(6)"
        oldest = f"{time} - INTERVAL {timeout // timedelta(microseconds=1)} MICROSECOND"
    else:
        values = [_for_driver(connection, each) for each in (now, now - timeout)]
    condition = (
        f"deregistered_at IS NULL AND last_heartbeat <= {time} AND (last_heartbeat >= {oldest} OR check_healthy = 0) "
        "AND announced_state IN ('healthy', 'drained') AND "
    )
    if said is not None:
        condition += f"weight = {mark} AND prompt_template {'IS' if sqlite else '<=>'} {mark} AND "
        values += said
    if len(keys) == 1:
        condition += f"model_name = {mark} AND host = {mark} AND port = {mark}"
    else:
        rows = ", ".join([f"({mark}, {mark}, {mark})"] * len(keys))
        condition += f"(model_name, host, port) IN ({'VALUES ' if sqlite else ''}{rows})"
    return condition, (*values, *chain.from_iterable(keys))


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.name == "sqlite" else "%s"


def locked_rows(connection: Connection, keys: Collection[InstanceKey]) -> list[ModelInstance]:
    """Those of `keys` that are there, locked in order of identity, so that two controllers seldom wait for each other
    crosswise.
    """
    return [
        _facts(row)
        for row in connection.execute(select(INSTANCES).where(among(keys)).order_by(*IDENTITY).with_for_update())
    ]


def found_rows(connection: Connection, keys: Collection[InstanceKey]) -> list[ModelInstance]:
    """Those of `keys` that are there, tombstones too, not locked."""
    return [_facts(row) for row in connection.execute(select(INSTANCES).where(among(keys)))]


def listed_rows(connection: Connection, model_names: Collection[str] | None) -> list[ModelInstance]:
    """All that are no tombstones, or those of the given models, in order of identity."""
    in_arrays = connection.dialect.name != "sqlite"
    wanted = _IN_ARRAYS if in_arrays else _IN_COLUMNS
    if model_names is None:
        found = connection.execute(wanted)
    else:
        found = connection.execute(wanted.where(_OF_MODELS), {"model_names": list(model_names)})
    return [_facts_in(array) for array in found.scalars()] if in_arrays else [_facts(row) for row in found]


def tombstones(connection: Connection) -> list[ModelInstance]:
    """All removed ones; a scan of the whole table."""
    return [_facts(row) for row in connection.execute(select(INSTANCES).where(INSTANCES.c.removed))]


def delete_rows(connection: Connection, keys: Collection[InstanceKey]) -> None:
    """Deletes what the caller has locked."""
    connection.execute(delete(INSTANCES).where(among(keys)))


def move_beats_back(connection: Connection, now: datetime, step: timedelta) -> None:
    """Beats ahead of `now` were written before the clock was set back by `step`: they get as old as they were."""
    beat = INSTANCES.c.last_heartbeat
    if connection.dialect.name == "sqlite":
        moved = func.strftime("%Y-%m-%d %H:%M:%f", beat, f"-{step.total_seconds():.3f} seconds").concat("000")
    else:
        moved = func.timestampadd(text("MICROSECOND"), -(step // timedelta(microseconds=1)), beat)
    connection.execute(update(INSTANCES).where(beat > now + FUTURE_TOLERANCE).values(last_heartbeat=moved))


def count_rows(connection: Connection) -> int:
    """How many rows there are, tombstones included."""
    count: int = connection.execute(select(func.count()).select_from(INSTANCES)).scalar_one()
    return count


def _for_driver(connection: Connection, time: datetime) -> Any:
    """The time as the column type stores it. On SQLite that is a text: its driver's own conversion is deprecated."""
    dialect = connection.dialect
    process = UtcTime().dialect_impl(dialect).bind_processor(dialect)
    return process(time) if process else time


def key_of(row: Any) -> InstanceKey:
    """The identity in a row of `IDENTITY`."""
    return InstanceKey(*row)


def _facts(row: Any) -> ModelInstance:
    model_name, host, port, *facts = row
    return ModelInstance(InstanceKey(model_name, host, port), *facts)


def _facts_in(array: str) -> ModelInstance:
    (
        model_name,
        host,
        port,
        weight,
        check_healthy,
        enabled,
        prompt_template,
        *times,
        by,
        reason,
        told,
        flaps,
        removed,
    ) = orjson.loads(array)
    registered_at, last_heartbeat, deregistered_at, refused_at, drained_at = times
    return ModelInstance(
        # Many instances share a model's name: one object for all.
        InstanceKey(intern(model_name), host, port),
        float(weight),
        bool(check_healthy),
        bool(enabled),
        prompt_template,
        _time_in(registered_at),
        _time_in(last_heartbeat),
        deregistered_at and _time_in(deregistered_at),
        refused_at and _time_in(refused_at),
        drained_at and _time_in(drained_at),
        by,
        reason,
        _STATES[told],
        flaps,
        bool(removed),
    )


def _time_in(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")
