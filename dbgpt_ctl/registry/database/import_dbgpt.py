"""The move from DB-GPT's own registry table to `ctl_instance`, in the same database.

DB-GPT's table is only read. Its times are naive, each written in the time zone of its writer: they order duplicates and
nothing else. Who is healthy there gets a beat of now, so it is held for one timeout, in which a living worker beats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import column, insert, inspect, select, table

from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, ModelInstance, Registration
from dbgpt_ctl.errors import InvalidInstance, RegistryFull, RegistryUnusable
from dbgpt_ctl.registry.database.schema import INSTANCES, SCHEMA_VERSION, VERSIONS
from dbgpt_ctl.registry.database.tables.instances import FACTS, IDENTITY, among, count_rows
from dbgpt_ctl.registry.database.tables.pulse import read_pulse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.database.session import Database

__all__ = [
    "DBGPT_TABLE",
    "Candidate",
    "DbgptTable",
    "Imported",
    "RefusedRow",
    "import_instances",
    "known_among",
    "read_dbgpt_table",
    "schema_version",
]

DBGPT_TABLE = "dbgpt_cluster_registry_instance"
PAGE = 2000
"""Rows of DB-GPT's table that are read at once."""
BATCH = 500
"""Instances that share a transaction."""

_FIELDS = ("model_name", "host", "port", "weight", "check_healthy", "enabled", "prompt_template")
# Columns without types: what is read is judged here, and a value that is no date must not fail the whole page.
_SOURCE = table(DBGPT_TABLE, *map(column, ("id", *_FIELDS, "healthy", "last_heartbeat", "gmt_modified")))


class RefusedRow(NamedTuple):
    """A row that no controller of ours would take: its id in DB-GPT's table and why, in one line with the value."""

    id: int
    field: str
    reason: str


class Candidate(NamedTuple):
    """An instance as DB-GPT's table knows it."""

    sent: Registration
    healthy: bool
    """What DB-GPT held when it last wrote."""

    @property
    def state(self) -> InstanceState:
        """What it is right after its import. Only a deregister makes DB-GPT hold an unchecked one unhealthy."""
        if self.healthy:
            return InstanceState.HEALTHY if self.sent.enabled else InstanceState.DRAINED
        return InstanceState.UNHEALTHY if self.sent.check_healthy else InstanceState.DEREGISTERED

    def facts(self, now: datetime, timeout: timedelta, hold: Hold | None = None) -> ModelInstance:
        """What is stored of it when it is imported at `now`. Of one that is held as it was when the registry went away,
        the beat was too old even then.
        """
        first = ModelInstance.first(self.sent, now)
        if self.healthy:
            return first
        deregistered_at = now if self.state is InstanceState.DEREGISTERED else None
        judged_at = min(now, hold.gone_at) if hold else now
        return replace(
            first,
            last_heartbeat=judged_at - 2 * timeout,
            deregistered_at=deregistered_at,
            announced_state=self.state,
        )


@dataclass(frozen=True, slots=True)
class DbgptTable:
    """All of DB-GPT's table: `instances` in order of identity, without those that `refused` names."""

    rows: int
    instances: tuple[Candidate, ...]
    refused: tuple[RefusedRow, ...]

    @property
    def duplicates(self) -> int:
        """Rows that lost against another one of the same instance."""
        return self.rows - len(self.instances) - len(self.refused)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did or, as a dry run, would do. `states` counts what was taken, by its state afterwards."""

    source: DbgptTable
    known: int
    """Instances that were there already and were left alone."""
    states: dict[InstanceState, int]

    @property
    def taken(self) -> int:
        """New instances."""
        return sum(self.states.values())


def schema_version(connection: Connection) -> int:
    """The version of our tables that the database holds; 0 when there are none."""
    if not inspect(connection).has_table(VERSIONS.name):
        return 0
    return connection.scalar(select(VERSIONS.c.version)) or 0


def read_dbgpt_table(connection: Connection) -> DbgptTable | None:
    """Reads, judges by the rules of `instance` and folds; None when there is no such table.

    Of the rows of one instance, spaces around its name and host apart, the newest beat wins, then the newest change.
    """
    if not inspect(connection).has_table(DBGPT_TABLE):
        return None
    rows = 0
    refused: list[RefusedRow] = []
    newest: dict[InstanceKey, tuple[tuple[str, str, int], Candidate]] = {}
    for row in _pages(connection):
        rows += 1
        try:
            sent = Registration.parse({name: row[name] for name in _FIELDS})
        except InvalidInstance as error:
            refused.append(RefusedRow(row["id"], error.field, str(error)))
            continue
        age = _recency(row)
        if sent.key not in newest or newest[sent.key][0] < age:
            newest[sent.key] = age, Candidate(sent, bool(row["healthy"]))
    return DbgptTable(rows, tuple(newest[key][1] for key in sorted(newest)), tuple(refused))


def import_instances(
    database: Database, source: DbgptTable, *, clock: Clock | None, timeout: timedelta, most: int, dry_run: bool = False
) -> Imported:
    """Takes those of `source` into `ctl_instance` that are not in it, tombstones included; repeatable.

    Creates or upgrades our tables first; `dry_run` writes nothing at all. Each batch of instances is atomic, and may
    run beside controllers and other imports. `clock` None means the database's. Raises RegistryFull, with nothing
    imported, when there would be more than `most`; RegistryUnusable when a newer release was there before.
    """
    if dry_run:
        database.read(partial(_check_version, database.place))
    else:
        database.prepare()
    database.read(partial(_check_room, source, most))
    states = dict.fromkeys(InstanceState, 0)
    for start in range(0, len(source.instances), BATCH):
        batch = source.instances[start : start + BATCH]
        if dry_run:
            taken = database.read(partial(_new_ones, batch))
        else:
            taken = database.write(partial(_take, batch, clock, timeout))
        for each in taken:
            states[each.state] += 1
    return Imported(source, len(source.instances) - sum(states.values()), states)


def known_among(connection: Connection, keys: Collection[InstanceKey]) -> set[InstanceKey]:
    """Those of `keys` that `ctl_instance` holds, tombstones too."""
    if not keys or not inspect(connection).has_table(INSTANCES.name):
        return set()
    wanted = list(keys)
    return {
        InstanceKey(*row)
        for start in range(0, len(wanted), BATCH)
        for row in connection.execute(select(*IDENTITY).where(among(wanted[start : start + BATCH])))
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
    """Orders rows of one instance. SQLite has texts for times, and MySQL's own text of one sorts alike."""
    return str(row["last_heartbeat"] or ""), str(row["gmt_modified"] or ""), row["id"]


def _new_ones(batch: Sequence[Candidate], connection: Connection) -> list[Candidate]:
    known = known_among(connection, [each.sent.key for each in batch])
    return [each for each in batch if each.sent.key not in known]


def _take(
    batch: Sequence[Candidate], clock: Clock | None, timeout: timedelta, connection: Connection
) -> list[Candidate]:
    """Fails with a duplicate key, and is tried again, when somebody else was faster."""
    taken = _new_ones(batch, connection)
    if taken:
        now, pulse = read_pulse(connection, clock)
        hold = pulse.hold(now, timeout) if pulse else None
        instances = (each.facts(now, timeout, hold) for each in taken)
        connection.execute(
            insert(INSTANCES),
            [each.key._asdict() | {name: getattr(each, name) for name in FACTS} for each in instances],
        )
    return taken


def _check_version(place: str, connection: Connection) -> None:
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise RegistryUnusable(
            f"{place} holds schema version {version}, this release knows versions up to {SCHEMA_VERSION}: "
            "use the newer release, or another database"
        )


def _check_room(source: DbgptTable, most: int, connection: Connection) -> None:
    stored = count_rows(connection) if inspect(connection).has_table(INSTANCES.name) else 0
    if stored + len(source.instances) <= most:
        return
    count = stored + len(_new_ones(source.instances, connection))
    if count > max(stored, most):
        raise RegistryFull(
            f"nothing imported: {count} instances would be more than the {most} that --max-instances allows; raise it"
        )
