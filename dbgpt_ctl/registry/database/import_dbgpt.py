"""The import of DB-GPT's own registry table into `ctl_instance`, in the same database.

DB-GPT's table is only read. Its times have no offset, each is in the time zone of its writer: they order duplicates and
nothing else. A healthy instance gets a heartbeat of now: it stays healthy for one timeout, in which a living worker
sends the next heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import column, inspect, select, table

from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, ModelInstance, Registration
from dbgpt_ctl.errors import InvalidInstance, RegistryFull, RegistryUnusable
from dbgpt_ctl.registry.database.schema import INSTANCES, SCHEMA_VERSION, schema_version
from dbgpt_ctl.registry.database.tables.instances import IDENTITY, count_rows, insert_rows, is_one_of
from dbgpt_ctl.registry.database.tables.pulse import read_pulse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.database.session import Database

DBGPT_TABLE = "dbgpt_cluster_registry_instance"
PAGE = 2000
"""Rows of DB-GPT's table in one read."""
BATCH = 500
"""Instances that share a transaction."""

_FIELDS = ("model_name", "host", "port", "weight", "check_healthy", "enabled", "prompt_template")
# Columns without types: this module checks the values, and a value that is no date must not fail the whole page.
_SOURCE = table(DBGPT_TABLE, *map(column, ("id", *_FIELDS, "healthy", "last_heartbeat", "gmt_modified")))


class RefusedRow(NamedTuple):
    """A row that this package's controller would refuse: its id in DB-GPT's table and the reason, in one line."""

    id: int
    field: str
    reason: str


class Candidate(NamedTuple):
    """An instance as DB-GPT's table knows it."""

    sent: Registration
    healthy: bool
    """As DB-GPT's controller wrote it last."""

    @property
    def state(self) -> InstanceState:
        """The state right after the import. Without health checks only a deregister makes it unhealthy in DB-GPT."""
        if self.healthy:
            return InstanceState.HEALTHY if self.sent.enabled else InstanceState.DRAINED
        return InstanceState.UNHEALTHY if self.sent.check_healthy else InstanceState.DEREGISTERED

    def facts(self, now: datetime, timeout: timedelta, hold: Hold | None = None) -> ModelInstance:
        """The facts to store at `now`. With a hold, the heartbeat of an unhealthy instance is too old even for the time
        when the registry went away.
        """
        first = ModelInstance.first(self.sent, now)
        if self.healthy:
            return first
        deregistered_at = now if self.state is InstanceState.DEREGISTERED else None
        evaluated_at = min(now, hold.gone_at) if hold else now
        return first._replace(
            last_heartbeat=evaluated_at - 2 * timeout,
            deregistered_at=deregistered_at,
            announced_state=self.state,
        )


@dataclass(frozen=True, slots=True)
class DbgptTable:
    """The content of DB-GPT's table: `instances` in order of identity, without those in `refused`."""

    rows: int
    instances: tuple[Candidate, ...]
    refused: tuple[RefusedRow, ...]

    @property
    def duplicates(self) -> int:
        """Rows that are left out because another row of the same instance is newer."""
        return self.rows - len(self.instances) - len(self.refused)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did or, as a dry run, would do. `states` counts the new instances by their state afterwards."""

    source: DbgptTable
    known: int
    """Instances that `ctl_instance` held already; they are not changed."""
    states: dict[InstanceState, int]

    @property
    def taken(self) -> int:
        """New instances."""
        return sum(self.states.values())


def read_dbgpt_table(connection: Connection) -> DbgptTable | None:
    """Reads the table, checks each row as a register is checked, and keeps one row of each instance; None when there
    is no such table.

    Rows are of one instance also when spaces around name and host differ. The row with the newest heartbeat is kept,
    then the one with the newest change.
    """
    if not inspect(connection).has_table(DBGPT_TABLE):
        return None
    rows = 0
    refused: list[RefusedRow] = []
    newest: dict[InstanceKey, tuple[tuple[str, str, int], Candidate]] = {}
    for row in _pages(connection):
        rows += 1
        try:
            sent = parse_registration({name: row[name] for name in _FIELDS})
        except InvalidInstance as error:
            refused.append(RefusedRow(row["id"], error.field, str(error)))
            continue
        age = _recency(row)
        if sent.key not in newest or newest[sent.key][0] < age:
            newest[sent.key] = age, Candidate(sent, bool(row["healthy"]))
    return DbgptTable(rows, tuple(newest[key][1] for key in sorted(newest)), tuple(refused))


def import_instances(
    database: Database,
    source: DbgptTable,
    *,
    clock: Clock | None,
    timeout: timedelta,
    max_instances: int,
    dry_run: bool = False,
) -> Imported:
    """Inserts those instances of `source` that `ctl_instance` does not hold, tombstones included; repeatable.

    Creates or upgrades this package's tables first; `dry_run` writes nothing at all. Each batch of instances is atomic;
    controllers and other imports may run at the same time. `clock` None means the database's. Raises RegistryFull, with
    nothing imported, when there would be more than `max_instances`; RegistryUnusable for tables of a newer release.
    """
    if dry_run:
        database.read(partial(_check_version, database.place))
    else:
        database.prepare()
    database.read(partial(_check_capacity, source, max_instances))
    states = dict.fromkeys(InstanceState, 0)
    for start in range(0, len(source.instances), BATCH):
        batch = source.instances[start : start + BATCH]
        if dry_run:
            new = database.read(partial(_new_candidates, batch))
        else:
            new = database.write(partial(_import, batch, clock, timeout))
        for candidate in new:
            states[candidate.state] += 1
    return Imported(source, len(source.instances) - sum(states.values()), states)


def known_among(connection: Connection, keys: Collection[InstanceKey]) -> set[InstanceKey]:
    """The keys that `ctl_instance` holds, tombstones too."""
    if not keys or not inspect(connection).has_table(INSTANCES.name):
        return set()
    all_keys = list(keys)
    return {
        InstanceKey(*row)
        for start in range(0, len(all_keys), BATCH)
        for row in connection.execute(select(*IDENTITY).where(is_one_of(all_keys[start : start + BATCH])))
    }


def _pages(connection: Connection) -> Iterator[Any]:
    last: int | None = None
    while True:
        page = select(_SOURCE).order_by(_SOURCE.c.id).limit(PAGE)
        rows = connection.execute(page if last is None else page.where(_SOURCE.c.id > last)).mappings().all()
        yield from rows
        if len(rows) < PAGE:
            return
        last = rows[-1]["id"]


def _recency(row: Any) -> tuple[str, str, int]:
    """Orders rows of one instance. SQLite has texts for times, and the text of MySQL's times sorts in the same way."""
    return str(row["last_heartbeat"] or ""), str(row["gmt_modified"] or ""), row["id"]


def _new_candidates(batch: Sequence[Candidate], connection: Connection) -> list[Candidate]:
    known = known_among(connection, [candidate.sent.key for candidate in batch])
    return [candidate for candidate in batch if candidate.sent.key not in known]


def _import(
    batch: Sequence[Candidate], clock: Clock | None, timeout: timedelta, connection: Connection
) -> list[Candidate]:
    """Fails with a duplicate key, and is tried again, when another program was faster."""
    new = _new_candidates(batch, connection)
    if new:
        now, pulse = read_pulse(connection, clock)
        hold = pulse.hold(now, timeout) if pulse else None
        insert_rows(connection, [candidate.facts(now, timeout, hold) for candidate in new])
    return new


def _check_version(place: str, connection: Connection) -> None:
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise RegistryUnusable(
            f"{place} holds schema version {version}, this release knows versions up to {SCHEMA_VERSION}: "
            "use the newer release, or another database"
        )


def _check_capacity(source: DbgptTable, max_instances: int, connection: Connection) -> None:
    stored = count_rows(connection) if inspect(connection).has_table(INSTANCES.name) else 0
    if stored + len(source.instances) <= max_instances:
        return
    count = stored + len(_new_candidates(source.instances, connection))
    if count > max(stored, max_instances):
        raise RegistryFull(
            f"nothing imported: {count} instances would be more than the {max_instances} that --max-instances allows; "
            "raise it"
        )
