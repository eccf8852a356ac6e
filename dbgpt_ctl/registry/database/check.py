"""Facts of a registry's database for `ctl db check`: read without a controller, and without writing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE, InstanceState
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.database.tables.controllers import read_controllers
from dbgpt_ctl.registry.database.tables.events import unreadable_events
from dbgpt_ctl.registry.database.tables.instances import found_rows, listed_rows, time_of
from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime, read_outages
from dbgpt_ctl.registry.database.tables.schema import (
    INSTANCES,
    SCHEMA_VERSION,
    VERSIONS,
    SchemaVersion,
    column_faults,
    require_columns,
    require_usable,
    schema_version,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.controllers import ControllerRecord
    from dbgpt_ctl.domain.instance import ModelInstance
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow

LONG_DEAD = timedelta(days=7)


class HostClock(NamedTuple):
    """One host of the database. `ahead`: its clock minus ours, with an error of `within`; None without an answer."""

    place: str
    ahead: timedelta | None
    within: timedelta = timedelta()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Instances:
    """The rows of `ctl_instance` at `now`, the database's time, in the states that a controller would list.

    All but `tombstones` are in order of identity.
    """

    now: datetime
    states: dict[InstanceState, int]
    drained: int
    """How many of these are drained, in any state."""
    tombstones: int
    long_dead: tuple[ModelInstance, ...]
    refused: tuple[ModelInstance, ...]
    """Deregistered, and their workers sent a heartbeat within the last heartbeat timeout."""
    future: tuple[ModelInstance, ...]
    """Their last heartbeat is ahead of the database's clock."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """`instances` and `controllers` are None unless this release can use the tables as they are. `controllers` are the
    living ones, in the order of their starts. `faults` are those of tables and columns, each with what to do;
    `unreadable` are the rows that a controller leaves out.
    """

    place: str
    schema: SchemaVersion
    hosts: tuple[HostClock, ...]
    instances: Instances | None
    controllers: tuple[ControllerRecord, ...] | None = None
    faults: tuple[str, ...] = ()
    unreadable: tuple[UnreadableRow, ...] = ()


def inspect_database(
    databases: Sequence[Database], *, host_clock: Clock, clock: Clock | None, timeout: timedelta
) -> DatabaseFacts:
    """Reads the clocks of all hosts of one database, and the tables on the first host that answers. Writes nothing.

    `clock` None means the database's. Raises the first host's error when none answers, and RegistryUnusable at once.
    """
    hosts: list[HostClock] = []
    answering: Database | None = None
    first_error: RegistryUnavailable | None = None
    for database in databases:
        try:
            hosts.append(_clock_of(database, host_clock, clock))
        except RegistryUnavailable as error:
            first_error = first_error or error
            hosts.append(HostClock(database.place, None, error=str(error)))
        else:
            answering = answering or database
    if answering is None:
        raise first_error or RegistryUnavailable("no database host is named")
    return answering.read(partial(_inspect_tables, answering.place, tuple(hosts), clock, timeout))


def require_usable_tables(place: str, connection: Connection) -> int:
    """The version of the tables, 0 where there are none. `place` names the database in errors.

    Raises RegistryUnusable for tables that this release cannot use. A right that a controller lacks is an error of the
    database: it explains each statement, for which it asks for the same rights, and runs none.
    """
    version = require_usable(connection, place).version
    if version >= SCHEMA_VERSION:  # else the start adds what is missing
        require_columns(connection, place)
        for table in INSTANCES.metadata.sorted_tables:
            if table is not VERSIONS:  # written by a change of the tables only
                nothing = f"{table.name} WHERE 1 = 0"
                column = table.columns.keys()[0]
                connection.exec_driver_sql(f"EXPLAIN INSERT INTO {table.name} SELECT * FROM {nothing}")  # noqa: S608 - our own names
                connection.exec_driver_sql(f"EXPLAIN UPDATE {table.name} SET {column} = {column} WHERE 1 = 0")  # noqa: S608
                connection.exec_driver_sql(f"EXPLAIN DELETE FROM {nothing}")  # noqa: S608
    return version


def _clock_of(database: Database, host_clock: Clock, clock: Clock | None) -> HostClock:
    def ask(connection: Connection) -> tuple[timedelta, timedelta]:
        time_of(connection, clock)  # connects, so that the second call measures only its answer
        before = host_clock.now()
        theirs = time_of(connection, clock)
        trip = host_clock.now() - before
        return theirs - (before + trip / 2), trip / 2

    return HostClock(database.place, *database.read(ask))


def _inspect_tables(
    place: str, hosts: tuple[HostClock, ...], clock: Clock | None, timeout: timedelta, connection: Connection
) -> DatabaseFacts:
    schema = schema_version(connection)
    if not schema.is_usable or schema.version < SCHEMA_VERSION:
        return DatabaseFacts(place, schema, hosts, None)
    if faults := column_faults(connection):
        return DatabaseFacts(place, schema, hosts, None, faults=tuple(faults))
    now, found, _ = read_controllers(connection, clock)
    living = sorted((each for each in found if each.is_living(now)), key=lambda each: each.started_at)
    unreadable: list[UnreadableRow] = []
    instances = _instances(connection, clock, timeout, unreadable)
    unreadable += unreadable_events(connection)
    read_outages(connection, unreadable)
    return DatabaseFacts(place, schema, hosts, instances, tuple(living), unreadable=tuple(unreadable))


def _instances(
    connection: Connection, clock: Clock | None, timeout: timedelta, unreadable: list[UnreadableRow]
) -> Instances:
    evaluation = RegistryTime(clock, timeout, watch_absence=True).evaluation(connection)
    now = evaluation.now
    found = listed_rows(connection, None, unreadable)
    with_states = [(instance, evaluation.state_of(instance)) for instance in found]
    counted = Counter(state for _, state in with_states)
    return Instances(
        now=now,
        states={state: counted[state] for state in InstanceState},
        drained=sum(instance.drain_at(now) is not None for instance in found),
        tombstones=len(found_rows(connection, INSTANCES.c.removed, unreadable)),
        long_dead=tuple(
            instance for instance, state in with_states if _dead_since(instance, state, now) < now - LONG_DEAD
        ),
        refused=tuple(instance for instance in found if instance.refused_at and now - instance.refused_at <= timeout),
        future=tuple(instance for instance in found if instance.last_heartbeat > now + FUTURE_TOLERANCE),
    )


def _dead_since(instance: ModelInstance, state: InstanceState, now: datetime) -> datetime:
    if state is InstanceState.DEREGISTERED:
        return instance.deregistered_at or now
    return instance.last_heartbeat if state is InstanceState.UNHEALTHY else now
