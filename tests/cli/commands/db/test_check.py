"""The rules of `ctl db check`: facts in which each finds its cause, and facts in which it must not.

The facts of real databases are tested with the registry (tests/registry/database/test_check.py), the command with its
neighbours (test_db.py).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dbgpt_ctl.cli.commands.db.check import RULES
from dbgpt_ctl.diagnosis.examine import RULES as CLUSTER_RULES
from dbgpt_ctl.diagnosis.facts import diagnose
from dbgpt_ctl.domain.instance import InstanceState, ModelInstance
from dbgpt_ctl.registry.database.check import DatabaseFacts, HostClock, Instances
from dbgpt_ctl.registry.database.tables.schema import SCHEMA_VERSION, SchemaVersion
from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow
from tests.diagnosis.observed import record
from tests.registry.backends import sent

if TYPE_CHECKING:
    from dbgpt_ctl.diagnosis.facts import Rule

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def facts(*hosts: HostClock, version: int = SCHEMA_VERSION, readable_by: int = 1, **rows: Any) -> DatabaseFacts:
    facts: dict[str, Any] = {"long_dead": (), "refused": (), "future": ()}
    states = dict.fromkeys(InstanceState, 0)
    schema = SchemaVersion(version, readable_by)
    return DatabaseFacts("db/dbgpt", schema, hosts, Instances(NOW, states, 0, 0, **(facts | rows)))


def host(place: str, secs: float | None, within: float = 0.0) -> HostClock:
    if secs is None:
        return HostClock(place, None, error=f"database {place}: connection refused")
    return HostClock(place, timedelta(seconds=secs), timedelta(seconds=within))


def instance(model: str = "qwen@llm", **facts: Any) -> ModelInstance:
    return ModelInstance.first(sent(model), NOW)._replace(**facts)


class Case(NamedTuple):
    """A rule has to find `summary` in the first facts, and nothing in the second."""

    there: DatabaseFacts
    summary: str
    not_there: DatabaseFacts


WELL = facts(host("db1", 0))
CASES = {
    "host-unreachable": Case(facts(host("db1", None)), "database db1: connection refused", WELL),
    "clock-skew": Case(
        facts(host("db1", -6.1, within=1)),
        "the clock of database db1 is 6.1 s behind this host's",
        facts(host("db1", 6, within=1)),
    ),
    "clock-skew-between-hosts": Case(
        facts(host("db0", 0), host("db1", 4), host("db2", -4)),
        "the clock of database db1 is 8.0 s ahead of that of db2",
        facts(host("db0", 0), host("db1", 4), host("db2", None)),
    ),
    "schema-absent": Case(facts(version=0), "db/dbgpt does not hold the tables of ctl", WELL),
    "schema-older": Case(
        facts(version=-1),
        f"db/dbgpt holds schema version -1, this release has {SCHEMA_VERSION}",
        facts(version=0),
    ),
    "schema-newer": Case(
        facts(version=99, readable_by=98),
        "db/dbgpt holds schema version 99, only releases with schema version 98 or newer can use it, "
        f"this release has {SCHEMA_VERSION}",
        facts(version=99, readable_by=SCHEMA_VERSION),
    ),
    "schema-unreadable": Case(
        replace(WELL, schema=SchemaVersion._make(("one", 1))),
        "the row of ctl_schema in db/dbgpt cannot be read (version 'one', readable_by 1)",
        WELL,
    ),
    "schema-damaged": Case(
        replace(WELL, faults=("table ctl_event has no column at: add it",)),
        "db/dbgpt: table ctl_event has no column at",
        WELL,
    ),
    "rows-unreadable": Case(
        replace(WELL, unreadable=(UnreadableRow("ctl_event", {"id": 7}, "actor is 'ghost'"),)),
        "a row of ctl_event cannot be read: id 7: actor is 'ghost'",
        WELL,
    ),
    "settings-differ": Case(
        replace(WELL, controllers=(record("http://a:8000"), record("http://b:8000", 90))),
        "heartbeat timeouts differ: 60s at http://a:8000, 90s at http://b:8000",
        replace(WELL, controllers=(record("http://a:8000"), record("http://b:8000"))),
    ),
    "future-beats": Case(
        facts(future=(instance(last_heartbeat=NOW + timedelta(seconds=6)),)),
        "1 last heartbeat (such as qwen@llm/10.0.0.4:8001) up to 6.0 s ahead of the database's clock",
        WELL,
    ),
    "deregistered-beating": Case(
        facts(refused=(instance(), instance("glm@llm"))),
        "2 instances (such as qwen@llm/10.0.0.4:8001) deregistered, still beating",
        WELL,
    ),
    "long-dead": Case(
        facts(long_dead=(instance(),)),
        "1 instance (such as qwen@llm/10.0.0.4:8001) unhealthy or deregistered for more than 7 days",
        WELL,
    ),
}


def test_every_rule_has_its_case() -> None:
    assert list(CASES) == [rule.code for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=list(CASES))
def test_a_rule_finds_its_cause(rule: Rule[DatabaseFacts]) -> None:
    case = CASES[rule.code]
    [found] = rule(case.there)
    assert (found.code, found.summary) == (rule.code, case.summary)
    assert found.fix


@pytest.mark.parametrize("rule", RULES, ids=list(CASES))
def test_a_rule_does_not_find_what_is_not_there(rule: Rule[DatabaseFacts]) -> None:
    assert list(rule(CASES[rule.code].not_there)) == []


def test_all_is_well() -> None:
    assert diagnose(RULES, WELL) == []


def test_one_code_stands_for_one_fact() -> None:
    """Of the causes that `ctl why` knows a database shows two, under the same codes."""
    shared = {rule.code for rule in RULES} & {rule.code for rule in CLUSTER_RULES}
    assert shared == {"deregistered-beating", "settings-differ"}
