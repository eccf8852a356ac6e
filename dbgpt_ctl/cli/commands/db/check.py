"""`ctl db check`: looks at the database of a registry and reports what is wrong with it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.commands.db import (
    DatabaseSettings,
    open_databases,
    print_facts,
    takes_database_settings,
)
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import UNDERSCORES_TOO, ReportOutput
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines
from dbgpt_ctl.diagnosis import instances, registries
from dbgpt_ctl.diagnosis.facts import Finding, Rule, Severity, diagnose, rule
from dbgpt_ctl.domain.controllers import setting_differences
from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.text.escaping import defused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.domain.controllers import ControllerRecord
    from dbgpt_ctl.domain.instance import ModelInstance
    from dbgpt_ctl.registry.database.check import DatabaseFacts, HostClock

CONTEXT_SETTINGS = UNDERSCORES_TOO
_MAX_ROWS_SHOWN = 100


@explained(
    "ctl db check --registry-db-host db1 --registry-db-user ctl",
    "ctl db check --env-file prod.env -o json",
    exit_codes={
        0: "All is well.",
        1: "Something is wrong.",
        3: "No host of the database can be reached.",
    },
)
@takes_database_settings
def check(settings: DatabaseSettings, *, output: ReportOutput = OutputFormat.TEXT) -> int:
    """Look for problems in the database.

    Checks the schema, clocks, rows that cannot be read, and instances that are long dead. Writes nothing.
    """
    from dbgpt_ctl.clock import SystemClock
    from dbgpt_ctl.registry.database.check import inspect_database

    with open_databases(settings, one_by_one=True) as databases:
        if not databases[0].exists():
            raise RegistryUnavailable(
                f"database {databases[0].place}: no such file; name another or start a controller"
            )
        facts = inspect_database(
            databases,
            host_clock=SystemClock(),
            clock=databases[0].clock,
            timeout=timedelta(seconds=settings.heartbeat_timeout_secs),
        )
    findings = diagnose(RULES, facts)
    if output is OutputFormat.JSON:
        print_json(_facts_object(facts) | {"findings": [_finding_object(finding) for finding in findings]})
    else:
        print_facts(_facts_lines(facts))
        problems = [defused(f"problem: {finding.summary}: {finding.fix}") for finding in findings]
        print_lines(problems or ["all is well"])
    return 1 if findings else 0


@rule("host-unreachable", fix="start it or take it off the list of hosts")
def host_unreachable(facts: DatabaseFacts) -> Iterator[Finding]:
    """A host of the database does not answer."""
    for host in facts.hosts:
        if host.ahead is None:
            yield Finding(Severity.ERROR, str(host.error))


@rule("clock-skew", fix="synchronise both with NTP")
def clock_skew(facts: DatabaseFacts) -> Iterator[Finding]:
    """The clock of a database host and this host's differ by more than a heartbeat may be ahead."""
    for host in facts.hosts:
        if host.ahead is not None and abs(host.ahead) > FUTURE_TOLERANCE + host.within:
            summary = f"the clock of database {host.place} is {_ahead(host.ahead)} this host's"
            yield Finding(Severity.ERROR, summary)


@rule("clock-skew-between-hosts", fix="synchronise them with NTP: they decide which instances are healthy")
def clock_skew_between_hosts(facts: DatabaseFacts) -> Iterator[Finding]:
    """The clocks of two database hosts differ."""
    known = sorted((host.ahead, host.place) for host in facts.hosts if host.ahead is not None)
    uncertainty = sum((host.within for host in facts.hosts), timedelta())
    if known and known[-1][0] - known[0][0] > FUTURE_TOLERANCE + uncertainty:
        (least, slow), (most, fast) = known[0], known[-1]
        yield Finding(Severity.ERROR, f"the clock of database {fast} is {_ahead(most - least)} that of {slow}")


@rule("schema-absent", fix="`ctl db upgrade` or the first start of a controller makes them")
def schema_absent(facts: DatabaseFacts) -> Iterator[Finding]:
    """The tables of the registry do not exist."""
    if facts.schema.version == 0:
        yield Finding(Severity.ERROR, f"{facts.place} does not hold the tables of ctl")


@rule("schema-older", fix="run `ctl db upgrade`")
def schema_older(facts: DatabaseFacts) -> Iterator[Finding]:
    """The tables are of an older release."""
    if facts.schema.is_readable and 0 != facts.schema.version < (newest := _newest_schema()):
        summary = f"{facts.place} holds schema version {facts.schema.version}, this release has {newest}"
        yield Finding(Severity.ERROR, summary)


@rule("schema-newer", fix="use the newer release")
def schema_newer(facts: DatabaseFacts) -> Iterator[Finding]:
    """The tables are of a newer release, and this one cannot use them."""
    if facts.schema.is_readable and not facts.schema.is_usable:
        held = f"{facts.place} holds schema version {facts.schema.version}"
        needed = f"only releases with schema version {facts.schema.readable_by} or newer can use it"
        yield Finding(Severity.ERROR, f"{held}, {needed}, this release has {_newest_schema()}")


@rule("schema-unreadable", fix="set version and readable_by to the numbers of the release that made the tables")
def schema_unreadable(facts: DatabaseFacts) -> Iterator[Finding]:
    """The row of `ctl_schema` holds no numbers."""
    if not facts.schema.is_readable:
        held = f"version {facts.schema.version!a}, readable_by {facts.schema.readable_by!a}"
        yield Finding(Severity.ERROR, f"the row of ctl_schema in {facts.place} cannot be read ({held})")


@rule("schema-damaged", fix="as said; no controller can start meanwhile")
def schema_damaged(facts: DatabaseFacts) -> Iterator[Finding]:
    """A table or a column is missing, or has another type."""
    for fault in facts.faults:
        summary, _, fix = fault.partition(": ")
        yield Finding(Severity.ERROR, f"{facts.place}: {summary}", fix=fix)


@rule(
    "rows-unreadable",
    fix="correct or delete the row; the next heartbeat of its worker writes a row of ctl_instance anew",
)
def rows_unreadable(facts: DatabaseFacts) -> Iterator[Finding]:
    """A row holds a value that makes no sense, and controllers leave it out."""
    for row in facts.unreadable[:_MAX_ROWS_SHOWN]:
        yield Finding(Severity.ERROR, f"a row of {row.table} cannot be read: {row}")
    more = len(facts.unreadable) - _MAX_ROWS_SHOWN
    if more > 0:
        yield Finding(Severity.ERROR, f"{more} more rows cannot be read")


@rule(registries.settings_differ.code, fix=registries.settings_differ.fix)
def settings_differ(facts: DatabaseFacts) -> Iterator[Finding]:
    """The living controllers have different heartbeat timeouts or intervals."""
    for difference in setting_differences(facts.controllers or ()):
        yield Finding(Severity.ERROR, str(difference), fix=difference.fix)


@rule("future-beats", fix="a database host had a clock that was ahead: synchronise them with NTP")
def future_beats(facts: DatabaseFacts) -> Iterator[Finding]:
    """The last heartbeat of an instance is ahead of the database's clock."""
    if facts.instances and (future := facts.instances.future):
        most = max(instance.last_heartbeat for instance in future) - facts.instances.now
        summary = f"{_count(future, 'last heartbeat')} up to {_secs(most)} ahead of the database's clock"
        yield Finding(Severity.ERROR, summary)


@rule(instances.deregistered_beating.code, fix="register it again (`ctl models register`) or stop its worker")
def still_beating(facts: DatabaseFacts) -> Iterator[Finding]:
    """An instance was deregistered, and its worker still sends heartbeats."""
    if facts.instances and (refused := facts.instances.refused):
        yield Finding(Severity.ERROR, f"{_count(refused, 'instance')} deregistered, still beating")


@rule("long-dead", fix="start its worker, or remove it with `ctl models deregister --remove`")
def long_dead(facts: DatabaseFacts) -> Iterator[Finding]:
    """An instance is unhealthy or deregistered for days."""
    from dbgpt_ctl.registry.database.check import LONG_DEAD

    if facts.instances and (dead := facts.instances.long_dead):
        summary = f"{_count(dead, 'instance')} unhealthy or deregistered for more than {LONG_DEAD.days} days"
        yield Finding(Severity.ERROR, summary)


RULES: tuple[Rule[DatabaseFacts], ...] = tuple(value for value in vars().values() if isinstance(value, Rule))


def _facts_lines(facts: DatabaseFacts) -> dict[str, str]:
    """The facts of a check by their names, without the findings."""
    schema = f"version {facts.schema.version or 'absent'}, this release has {_newest_schema()}"
    lines = {"database": facts.place, "schema": schema}
    if found := facts.instances:
        total = sum(found.states.values())
        states = ", ".join(f"{count} {state}" for state, count in found.states.items())
        lines["instances"] = f"{total}: {states}; {found.drained} drained; and {found.tombstones} removed"
    if facts.controllers is not None:
        lines["controllers"] = ", ".join(each.address for each in facts.controllers) or "none is running"
    for number, host in enumerate(facts.hosts, 1):
        lines["clock" if len(facts.hosts) == 1 else f"clock {number}"] = _clock_line(host)
    return lines


def _clock_line(host: HostClock) -> str:
    if host.ahead is None:
        return f"{host.place} does not answer"
    secs = host.ahead.total_seconds()
    return f"{host.place} is {abs(secs):.3f} s {'ahead of' if secs > 0 else 'behind'} this host"


def _facts_object(facts: DatabaseFacts) -> dict[str, Any]:
    """The same for JSON; null for what was not there to be read."""
    found = facts.instances
    return {
        "database": facts.place,
        "schema": {**facts.schema._asdict(), "newest": _newest_schema()},
        "instances": found and {**found.states, "drained": found.drained, "removed": found.tombstones},
        "controllers": facts.controllers and [_controller_object(each) for each in facts.controllers],
        "clocks": [
            {
                "host": host.place,
                "ahead_secs": None if host.ahead is None else round(host.ahead.total_seconds(), 6),
                "within_secs": round(host.within.total_seconds(), 6),
            }
            for host in facts.hosts
        ],
    }


def _controller_object(record: ControllerRecord) -> dict[str, Any]:
    return {
        "address": record.address,
        "version": record.version,
        "heartbeat_timeout_secs": record.heartbeat_timeout.total_seconds(),
        "heartbeat_interval_secs": record.heartbeat_interval.total_seconds(),
    }


def _finding_object(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "what": finding.summary, "advice": finding.fix}


def _newest_schema() -> int:
    from dbgpt_ctl.registry.database.tables.schema import SCHEMA_VERSION

    return SCHEMA_VERSION


def _count(instances: Sequence[ModelInstance], noun: str) -> str:
    """`3 instances (such as qwen@llm/10.0.0.4:8001)`."""
    return f"{len(instances)} {noun}{'s' if len(instances) > 1 else ''} (such as {instances[0].key})"


def _ahead(offset: timedelta) -> str:
    return f"{_secs(abs(offset))} {'ahead of' if offset > timedelta() else 'behind'}"


def _secs(span: timedelta) -> str:
    return f"{span.total_seconds():.1f} s"
