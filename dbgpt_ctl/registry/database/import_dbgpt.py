"""The import of DB-GPT's own registry table into `ctl_instance`, in the same database.

DB-GPT's table is only read. Its times have no offset, each is in the time zone of its writer: they order duplicates and
nothing else. A healthy instance gets a heartbeat of now: it stays healthy for one timeout, in which a living worker
sends the next heartbeat.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import column, inspect, select, table

from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, ModelInstance, Registration
from dbgpt_ctl.errors import InvalidInstance, RegistryFull
from dbgpt_ctl.registry.database.schema import INSTANCES, require_usable
from dbgpt_ctl.registry.database.session import batches
from dbgpt_ctl.registry.database.tables.instances import IDENTITY, count_rows, insert_rows, is_one_of
from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.lifecycle import Evaluation
    from dbgpt_ctl.registry.database.session import Database

DBGPT_TABLE = "dbgpt_cluster_registry_instance"
PAGE = 2000
"""Rows of DB-GPT's table that are in memory at a time."""
BATCH = 500
"""Instances that share a transaction."""

_FIELDS = ("model_name", "host", "port", "weight", "check_healthy", "enabled", "prompt_template")
# Columns without types: this module checks the values, and a value that is no date must not fail the whole page.
_SOURCE = table(DBGPT_TABLE, *map(column, ("id", *_FIELDS, "healthy", "last_heartbeat", "gmt_modified")))
_ROWS = select(_SOURCE).order_by(_SOURCE.c.id).execution_options(yield_per=PAGE)


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
            return InstanceState.HEALTHY
        return InstanceState.UNHEALTHY if self.sent.check_healthy else InstanceState.DEREGISTERED

    def facts(self, evaluation: Evaluation, timeout: timedelta) -> ModelInstance:
        """The facts to store. While states are held, the heartbeat of an unhealthy instance is too old even for the
        time when the registry went away.
        """
        first = ModelInstance.first(self.sent, evaluation.now)
        if self.healthy:
            return first
        return first._replace(
            last_heartbeat=evaluation.expires_before - timeout,
            deregistered_at=evaluation.now if self.state is InstanceState.DEREGISTERED else None,
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
    """What an import did or, as a dry run, would do. `states` counts the new instances by their state afterwards, and
    `drained` those of them that are drained.
    """

    source: DbgptTable
    known: int
    """Instances that `ctl_instance` held already; they are not changed."""
    states: dict[InstanceState, int]
    drained: int

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
    count = 0
    refused: list[RefusedRow] = []
    newest: dict[InstanceKey, tuple[tuple[str, str, int], Candidate]] = {}
    for row in connection.execute(_ROWS).mappings():
        count += 1
        try:
            sent = parse_registration({name: row[name] for name in _FIELDS})
        except InvalidInstance as error:
            refused.append(RefusedRow(row["id"], error.field, str(error)))
            continue
        # SQLite has texts for times, and the text of MySQL's times sorts in the same way.
        age = str(row["last_heartbeat"] or ""), str(row["gmt_modified"] or ""), row["id"]
        if sent.key not in newest or newest[sent.key][0] < age:
            newest[sent.key] = age, Candidate(sent, bool(row["healthy"]))
    return DbgptTable(count, tuple(newest[key][1] for key in sorted(newest)), tuple(refused))


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

    Prepares this package's tables first; `dry_run` writes nothing at all. Each batch of instances is atomic;
    controllers and other imports may run at the same time. `clock` None means the database's. Raises RegistryFull, with
    nothing imported, when there would be more than `max_instances`, and RegistryUnusable for tables that this release
    cannot use.
    """
    if dry_run:
        database.read(partial(require_usable, place=database.place))
    else:
        database.prepare()
    new = database.read(partial(_candidates_within_capacity, source, max_instances))
    if not dry_run:
        time = RegistryTime(clock, timeout, watch_absence=True)
        works = (partial(_import, batch, time) for batch in batches(new, BATCH))
        new = [candidate for work in works for candidate in database.write(work)]
    states = Counter(candidate.state for candidate in new)
    return Imported(
        source,
        known=len(source.instances) - len(new),
        states={state: states[state] for state in InstanceState},
        drained=sum(not candidate.sent.enabled for candidate in new),
    )


def new_candidates(candidates: Sequence[Candidate], connection: Connection) -> list[Candidate]:
    """Those that `ctl_instance` does not hold, not even as tombstones."""
    if not inspect(connection).has_table(INSTANCES.name):
        return list(candidates)
    known: set[Any] = set()
    for batch in batches([candidate.sent.key for candidate in candidates], BATCH):
        known.update(map(tuple, connection.execute(select(*IDENTITY).where(is_one_of(batch)))))
    return [candidate for candidate in candidates if candidate.sent.key not in known]


def _import(batch: Sequence[Candidate], time: RegistryTime, connection: Connection) -> list[Candidate]:
    """Fails with a duplicate key, and is tried again, when another program was faster."""
    new = new_candidates(batch, connection)
    if new:
        evaluation = time.evaluation(connection)
        insert_rows(connection, [candidate.facts(evaluation, time.timeout) for candidate in new])
    return new


def _candidates_within_capacity(source: DbgptTable, max_instances: int, connection: Connection) -> list[Candidate]:
    stored = count_rows(connection) if inspect(connection).has_table(INSTANCES.name) else 0
    new = new_candidates(source.instances, connection)
    count = stored + len(new)  # counted first: a controller may store some of them meanwhile
    if count > max(stored, max_instances):
        raise RegistryFull(
            f"nothing imported: {count} instances would be more than the {max_instances} that --max-instances allows; "
            "raise it"
        )
    return new
