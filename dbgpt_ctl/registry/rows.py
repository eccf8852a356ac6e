"""Statements on `ctl_instance`, and how its rows become facts."""

from __future__ import annotations

from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, func, select, tuple_

from dbgpt_ctl.instance import InstanceKey, ModelInstance
from dbgpt_ctl.registry.schema import INSTANCES, UtcTime

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from dbgpt_ctl.clock import Clock

__all__ = [
    "DATABASE_TIME",
    "FACTS",
    "IDENTITY",
    "among",
    "beat_plainly",
    "count_rows",
    "delete_rows",
    "key_of",
    "listed_rows",
    "locked_rows",
    "time_of",
    "tombstones",
]

IDENTITY = tuple(INSTANCES.primary_key)
FACTS = tuple(each.name for each in fields(ModelInstance) if each.name != "key")
"""The names of all facts; the columns of `ctl_instance` are the identity and these, in this order."""
DATABASE_TIME = func.utc_timestamp(6, type_=UtcTime())


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


def beat_plainly(connection: Connection, keys: Collection[InstanceKey], now: datetime | None) -> int:
    """Stores a beat of those of `keys` for which `ModelInstance.beaten` would set the time and nothing else; tells how
    many.

    They are there, not deregistered, and their last beat is not ahead. `now` None means the database's time.
    """
    # Runs for every beat of the cluster, and building and compiling it as an expression would take twice the time of
    # all the rest.
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    if len(keys) == 1:
        among_keys = f"model_name = {mark} AND host = {mark} AND port = {mark}"
    else:
        rows = ", ".join([f"({mark}, {mark}, {mark})"] * len(keys))
        among_keys = f"(model_name, host, port) IN ({'VALUES ' if mark == '?' else ''}{rows})"
    time = "UTC_TIMESTAMP(6)" if now is None else mark
    return connection.exec_driver_sql(
        f"UPDATE ctl_instance SET last_heartbeat = {time} "  # noqa: S608 - holds marks only
        f"WHERE deregistered_at IS NULL AND last_heartbeat <= {time} AND {among_keys}",
        (*([_for_driver(connection, now)] * 2 if now else ()), *chain.from_iterable(keys)),
    ).rowcount


def locked_rows(connection: Connection, keys: Collection[InstanceKey]) -> list[ModelInstance]:
    """Those of `keys` that are there, locked in order of identity, so that two controllers seldom wait for each other
    crosswise.
    """
    return [
        _facts(row)
        for row in connection.execute(select(INSTANCES).where(among(keys)).order_by(*IDENTITY).with_for_update())
    ]


def listed_rows(connection: Connection, model_names: Collection[str] | None) -> list[ModelInstance]:
    """All that are no tombstones, or those of the given models, in order of identity."""
    wanted = select(INSTANCES).where(~INSTANCES.c.removed).order_by(*IDENTITY)
    if model_names is not None:
        wanted = wanted.where(INSTANCES.c.model_name.in_(model_names))
    return [_facts(row) for row in connection.execute(wanted)]


def tombstones(connection: Connection) -> list[ModelInstance]:
    """All removed ones; a scan of the whole table."""
    return [_facts(row) for row in connection.execute(select(INSTANCES).where(INSTANCES.c.removed))]


def delete_rows(connection: Connection, keys: Collection[InstanceKey]) -> None:
    """Deletes what the caller has locked."""
    connection.execute(delete(INSTANCES).where(among(keys)))


def count_rows(connection: Connection) -> int:
    """How many rows there are, tombstones included."""
    count: int = connection.execute(select(func.count()).select_from(INSTANCES)).scalar_one()
    return count


def _for_driver(connection: Connection, time: datetime) -> Any:
    process = UtcTime().bind_processor(connection.dialect)
    return process(time) if process else time


def key_of(row: Any) -> InstanceKey:
    """The identity in a row of `IDENTITY`."""
    return InstanceKey(*row)


def _facts(row: Any) -> ModelInstance:
    model_name, host, port, *facts = row
    return ModelInstance(InstanceKey(model_name, host, port), *facts)
