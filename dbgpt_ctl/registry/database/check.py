"""What is wrong with the database of a registry: read from outside, without a controller, and without writing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE, InstanceState
from dbgpt_ctl.domain.lifecycle import state_of
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.database.import_dbgpt import known_among, read_dbgpt_table, schema_version
from dbgpt_ctl.registry.database.schema import SCHEMA_VERSION
from dbgpt_ctl.registry.database.tables.instances import listed_rows, time_of, tombstones
from dbgpt_ctl.registry.database.tables.pulse import read_pulse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.instance import ModelInstance
    from dbgpt_ctl.registry.database.import_dbgpt import DbgptTable
    from dbgpt_ctl.registry.database.session import Database

__all__ = ["LONG_DEAD", "Checkup", "Finding", "HostClock", "Instances", "Source", "check_up"]

LONG_DEAD = timedelta(days=7)


class Finding(NamedTuple):
    """Something wrong: a stable word for it, what it is with its evidence, and what to do, each for one line."""

    code: str
    what: str
    advice: str


class HostClock(NamedTuple):
    """One host of the database. `ahead`: its clock against ours, known to `within`; None when it did not answer."""

    place: str
    ahead: timedelta | None
    within: timedelta = timedelta()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Instances:
    """What `ctl_instance` holds at `now`, the database's time, as a controller that served now would list it.

    All but `tombstones` are in order of identity.
    """

    now: datetime
    states: dict[InstanceState, int]
    tombstones: int
    long_dead: tuple[ModelInstance, ...]
    refused: tuple[ModelInstance, ...]
    """Deregistered ones whose workers go on beating."""
    future: tuple[ModelInstance, ...]
    """Their last beat is ahead of the database's clock."""


class Source(NamedTuple):
    """DB-GPT's table, and how many of its instances an import would add."""

    table: DbgptTable
    new: int


@dataclass(frozen=True, slots=True)
class Checkup:
    """`instances` is None unless the schema is of this release; `source` is None without DB-GPT's table."""

    place: str
    schema_version: int
    hosts: tuple[HostClock, ...]
    instances: Instances | None
    source: Source | None

    def findings(self) -> list[Finding]:
        """All that is wrong; none when all is well."""
        return [*self._of_hosts(), *self._of_schema(), *self._of_instances(), *self._of_source()]

    def _of_hosts(self) -> Iterator[Finding]:
        for host in self.hosts:
            if host.ahead is None:
                yield Finding("host_unreachable", str(host.error), "start it or take it off the list of hosts")
            elif abs(host.ahead) > FUTURE_TOLERANCE + host.within:
                what = f"the clock of database {host.place} is {_ahead(host.ahead)} this host's"
                yield Finding("clock_skew", what, "synchronise both with NTP")
        known = sorted((host.ahead, host.place) for host in self.hosts if host.ahead is not None)
        unsure = sum((host.within for host in self.hosts), timedelta())
        if known and known[-1][0] - known[0][0] > FUTURE_TOLERANCE + unsure:
            (least, slow), (most, fast) = known[0], known[-1]
            what = f"the clock of database {fast} is {_ahead(most - least)} that of {slow}"
            yield Finding("clock_skew_between_hosts", what, "synchronise them with NTP: they tell who is healthy")

    def _of_schema(self) -> Iterator[Finding]:
        found = f"{self.place} holds schema version {self.schema_version}"
        if self.schema_version == 0:
            what = f"{self.place} does not hold the tables of ctl"
            yield Finding(
                "schema_absent", what, "`ctl db upgrade`, `ctl db import` or the first start of a controller makes them"
            )
        elif self.schema_version < SCHEMA_VERSION:
            yield Finding("schema_older", f"{found}, this release has {SCHEMA_VERSION}", "run `ctl db upgrade`")
        elif self.schema_version > SCHEMA_VERSION:
            what = f"{found}, this release knows versions up to {SCHEMA_VERSION}"
            yield Finding("schema_newer", what, "use the newer release")

    def _of_instances(self) -> Iterator[Finding]:
        if self.instances is None:
            return
        if some := self.instances.future:
            most = max(each.last_heartbeat for each in some) - self.instances.now
            what = f"{_count(some, 'last heartbeat')} up to {_secs(most)} ahead of the database's clock"
            yield Finding("future_beats", what, "a database host had a clock that was ahead: synchronise them with NTP")
        if some := self.instances.refused:
            advice = "register it again (`ctl models register`) or stop its worker"
            yield Finding(
                "deregistered_still_beating", f"{_count(some, 'instance')} deregistered, still beating", advice
            )
        if some := self.instances.long_dead:
            what = f"{_count(some, 'instance')} unhealthy or deregistered for more than {LONG_DEAD.days} days"
            yield Finding("long_dead", what, "start its worker, or remove it with `ctl models deregister --remove`")

    def _of_source(self) -> Iterator[Finding]:
        refused = self.source.table.refused if self.source else ()
        if refused:
            what = f"{len(refused)} of {self.source.table.rows if self.source else 0} rows of DB-GPT's table"
            first = f"row {refused[0].id}: {refused[0].reason}"
            yield Finding(
                "rows_refused",
                f"{what} cannot be imported, first {first}",
                "`ctl db import --dry-run` lists them; mend or delete them, or drop that table after the move",
            )


def check_up(databases: Sequence[Database], *, host_clock: Clock, clock: Clock | None, timeout: timedelta) -> Checkup:
    """Looks at the hosts of one database; at its tables on the first that answers. Nothing is written.

    `clock` None means the database's. Raises what the first raised when none answers, and RegistryUnusable at once.
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
    return answering.read(partial(_look, answering.place, tuple(hosts), clock, timeout))


def _clock_of(database: Database, host_clock: Clock, clock: Clock | None) -> HostClock:
    def ask(connection: Connection) -> tuple[timedelta, timedelta]:
        time_of(connection, clock)  # so that the answer counted comes over a connection that is there
        before = host_clock.now()
        theirs = time_of(connection, clock)
        trip = host_clock.now() - before
        return theirs - (before + trip / 2), trip / 2

    return HostClock(database.place, *database.read(ask))


def _look(
    place: str, hosts: tuple[HostClock, ...], clock: Clock | None, timeout: timedelta, connection: Connection
) -> Checkup:
    version = schema_version(connection)
    table = read_dbgpt_table(connection)
    source = None
    if table is not None:
        known = known_among(connection, [each.sent.key for each in table.instances])
        source = Source(table, len(table.instances) - len(known))
    instances = _instances(connection, clock, timeout) if version == SCHEMA_VERSION else None
    return Checkup(place, version, hosts, instances, source)


def _instances(connection: Connection, clock: Clock | None, timeout: timedelta) -> Instances:
    now, pulse = read_pulse(connection, clock)
    hold = pulse.hold(now, timeout) if pulse else None
    found = listed_rows(connection, None)
    with_states = [(each, state_of(each, now, timeout, hold)) for each in found]
    counted = Counter(state for _, state in with_states)
    return Instances(
        now=now,
        states={state: counted[state] for state in InstanceState},
        tombstones=len(tombstones(connection)),
        long_dead=tuple(each for each, state in with_states if _dead_since(each, state, now) < now - LONG_DEAD),
        refused=tuple(each for each in found if each.refused_at is not None and now - each.refused_at <= timeout),
        future=tuple(each for each in found if each.last_heartbeat > now + FUTURE_TOLERANCE),
    )


def _dead_since(instance: ModelInstance, state: InstanceState, now: datetime) -> datetime:
    if state is InstanceState.DEREGISTERED:
        return instance.deregistered_at or now
    return instance.last_heartbeat if state is InstanceState.UNHEALTHY else now


def _count(some: Sequence[ModelInstance], noun: str) -> str:
    """`3 instances, such as qwen@llm/10.0.0.4:8001,`."""
    return f"{len(some)} {noun}{'s' if len(some) > 1 else ''} (such as {some[0].key})"


def _ahead(offset: timedelta) -> str:
    return f"{_secs(abs(offset))} {'ahead of' if offset > timedelta() else 'behind'}"


def _secs(span: timedelta) -> str:
    return f"{span.total_seconds():.1f} s"
