"""What `ctl db` prints: the same facts as lines and as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.escaping import defused
from dbgpt_ctl.cli.output.stdout import print_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.registry.database.check import Checkup, HostClock
    from dbgpt_ctl.registry.database.import_dbgpt import DbgptTable, Imported


def print_report(lines: Mapping[str, str]) -> None:
    """A line for each fact, its name first."""
    width = max(map(len, lines)) + 2
    print_lines([defused(f"{name:<{width}}{text}") for name, text in lines.items()])


def import_lines(place: str, imported: Imported, *, dry_run: bool) -> dict[str, str]:
    """What an import did, by name."""
    return {
        "database": place,
        **_source_lines(imported.source),
        "known": f"{imported.known}, left alone",
        "to import" if dry_run else "imported": f"{imported.taken}: {_counts(imported.states)}",
    }


def import_object(place: str, imported: Imported, *, dry_run: bool) -> dict[str, Any]:
    """The same for JSON: counts, `refused` with the id, field and reason of each row, `states` by state."""
    return {
        "database": place,
        "dry_run": dry_run,
        **_source_object(imported.source),
        "known": imported.known,
        "imported": imported.taken,
        "states": imported.states,
    }


def _source_lines(source: DbgptTable) -> dict[str, str]:
    return {"rows": str(source.rows), "duplicates": str(source.duplicates), "refused": str(len(source.refused))}


def _source_object(source: DbgptTable) -> dict[str, Any]:
    refused = [row._asdict() for row in source.refused]
    return {"rows": source.rows, "duplicates": source.duplicates, "refused": refused}


def check_lines(checkup: Checkup) -> dict[str, str]:
    """What a check saw, by name, without its findings."""
    from dbgpt_ctl.registry.database.schema import SCHEMA_VERSION

    lines = {
        "database": checkup.place,
        "schema": f"version {checkup.schema_version or 'absent'}, this release has {SCHEMA_VERSION}",
    }
    if found := checkup.instances:
        total = sum(found.states.values())
        lines["instances"] = f"{total}: {_counts(found.states)}; and {found.tombstones} removed"
    for number, host in enumerate(checkup.hosts, 1):
        lines["clock" if len(checkup.hosts) == 1 else f"clock {number}"] = _clock_line(host)
    if checkup.source:
        table, new = checkup.source
        lines["DB-GPT's"] = (
            f"{table.rows} rows: {len(table.instances) - new} instances known here, {new} not, "
            f"{table.duplicates} duplicates, {len(table.refused)} refused"
        )
    return lines


def _clock_line(host: HostClock) -> str:
    if host.ahead is None:
        return f"{host.place} does not answer"
    secs = host.ahead.total_seconds()
    return f"{host.place} is {abs(secs):.3f} s {'ahead of' if secs > 0 else 'behind'} this host"


def check_object(checkup: Checkup) -> dict[str, Any]:
    """The same for JSON; null for what was not there to be seen."""
    from dbgpt_ctl.registry.database.schema import SCHEMA_VERSION

    found = checkup.instances
    source = checkup.source
    return {
        "database": checkup.place,
        "schema": {"version": checkup.schema_version, "newest": SCHEMA_VERSION},
        "instances": found and {**found.states, "removed": found.tombstones},
        "clocks": [
            {
                "host": each.place,
                "ahead_secs": None if each.ahead is None else round(each.ahead.total_seconds(), 6),
                "within_secs": round(each.within.total_seconds(), 6),
            }
            for each in checkup.hosts
        ],
        "dbgpt_table": source and {**_source_object(source.table), "not_imported": source.new},
    }


def _counts(states: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())
