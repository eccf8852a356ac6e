"""Each rule of `ctl why` and `ctl doctor`: facts in which it finds its cause, and facts in which it must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dbgpt_ctl.cli.diagnosis.collect import places_of
from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Facts, Knock, OpenFile, Place, Probe, Proxied, Seen
from dbgpt_ctl.cli.diagnosis.findings import Finding, Severity
from dbgpt_ctl.cli.diagnosis.rules import RULES, all_rules, examine, explain
from dbgpt_ctl.cli.diagnosis.rules.answers import exit_code_of, nobody
from dbgpt_ctl.cli.parsing.references import ModelFilter
from dbgpt_ctl.client.details import ControllerStatus
from dbgpt_ctl.domain.events import OPERATOR, Cause, Change, Event
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
URL, OTHER = "http://ctl-1:8000", "http://ctl-2:8000"
UNHEALTHY, DRAINED, DEREGISTERED = InstanceState.UNHEALTHY, InstanceState.DRAINED, InstanceState.DEREGISTERED


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def seen(model: str = "qwen@llm", host: str = "10.0.0.4", port: int = 8001, **facts: Any) -> Seen:
    told: dict[str, Any] = {
        "state": InstanceState.HEALTHY,
        "controller": URL,
        "time": NOW,
        "last_heartbeat": ago(3),
        "registered_at": ago(3600),
        "is_known": True,
    }
    return Seen(InstanceKey(model, host, port), **(told | facts))


def status(**told: Any) -> ControllerStatus:
    facts: dict[str, Any] = {
        "controller": URL,
        "object": {},
        "version": "1",
        "time": NOW,
        "started_at": ago(86400),
        "leaving": False,
        "kind": "mysql",
        "place": "db1:3306/dbgpt",
        "durable": True,
        "ready": True,
        "reason": None,
        "heartbeat_interval_secs": 20.0,
        "heartbeat_timeout_secs": 60.0,
        "max_instances": 200_000,
        "stale_since": None,
        "held_until": None,
        "models": (),
        "watchers": 0,
        "last_event_id": 0,
    }
    return ControllerStatus(**(facts | told))


def controller(*instances: Seen, url: str = URL, **facts: Any) -> ControllerFacts:
    told: dict[str, Any] = {"time": NOW, "skew": timedelta(), "status": status()}
    host = url.partition("://")[2].partition(":")[0]
    mine = tuple(replace(each, controller=url) for each in instances)
    return ControllerFacts(url, host, **(told | {"seen": mine} | facts))


def cluster(*controllers: ControllerFacts, wanted: str | None = None, **facts: Any) -> Facts:
    models = frozenset(seen.key.model_name for each in controllers for seen in each.seen)
    told: dict[str, Any] = {"models": models}
    return Facts(ModelFilter.parse(wanted, None), controllers, **(told | facts))


def of(*instances: Seen, **facts: Any) -> Facts:
    return cluster(controller(*instances), **facts)


def probed(knock: Knock, *instances: Seen) -> Facts:
    return of(*instances, probes={each.place: Probe(knock, f"seen as {knock}") for each in instances})


class Case(NamedTuple):
    """A rule has to find `severity` and `evidence` (a part of its text) in the first facts, nothing in the second."""

    there: Facts
    severity: Severity
    evidence: str
    not_there: Facts


ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
WELL = of(seen(), seen(host="10.0.0.5"))
DOWN = ControllerFacts(OTHER, "ctl-2", "Connection refused", "controller_unreachable", is_there=False)
AWAY = ControllerFacts(OTHER, "ctl-2", "503 leaving", "controller_unreachable")
CLOSED = ControllerFacts(OTHER, "ctl-2", "401 who are you?", "not_allowed")
FAILED = ControllerFacts(OTHER, "ctl-2", "500 broken", "controller_failed")
REFUSED = ControllerFacts(OTHER, "ctl-2", "404 Not Found", "controller_refused")
GONE = Event(
    7, Change(ago(600), InstanceKey("qwen@llm", "h", 1), "healthy", "absent", Cause("deregister", OPERATOR, "moved"))
)
CASES = {
    "controller-unreachable": Case(
        cluster(controller(), DOWN), ERROR, f"{OTHER}: Connection refused", cluster(AWAY, CLOSED, FAILED, REFUSED)
    ),
    "controller-unavailable": Case(
        cluster(controller(), AWAY), ERROR, f"{OTHER}: 503 leaving", cluster(DOWN, CLOSED, FAILED, REFUSED)
    ),
    "not-allowed": Case(
        cluster(controller(), CLOSED), ERROR, f"{OTHER}: 401 who are you?", cluster(DOWN, AWAY, FAILED, REFUSED)
    ),
    "controller-failed": Case(
        cluster(controller(), FAILED), ERROR, f"{OTHER}: 500 broken", cluster(controller(), DOWN, AWAY, CLOSED)
    ),
    "proxy": Case(
        of(seen(), proxies=(Proxied(URL, "ctl-1", "http_proxy", "http://proxy:3128"),)),
        WARNING,
        f"http_proxy=http://proxy:3128 has the calls to {URL}",
        WELL,
    ),
    "controllers-disagree": Case(
        cluster(controller(seen(), seen(port=8002)), controller(seen(), url=OTHER)),
        ERROR,
        f"{OTHER} lacks 1 that others list, such as qwen@llm/10.0.0.4:8002 (registry mysql db1:3306/dbgpt)",
        cluster(controller(seen(), seen(port=8002, registered_at=ago(1))), controller(seen(), url=OTHER)),
    ),
    "separate-registries": Case(
        cluster(controller(), controller(url=OTHER, status=status(kind="embedded"))),
        ERROR,
        f"{OTHER}: registry embedded",
        cluster(controller(status=status(kind="embedded"))),
    ),
    "registry-stale": Case(
        cluster(controller(seen(), stale_since=ago(90), status=status(reason="database away"))),
        ERROR,
        f"{URL}: what it lists is from 90s ago",
        WELL,
    ),
    "states-held": Case(
        cluster(controller(seen(), held_until=ago(-40))), WARNING, f"{URL}: for 40s more, until 12:00:40 UTC", WELL
    ),
    "not-registered": Case(
        of(seen("qwen@text2vec"), wanted="qwen@llm", events=(GONE,)),
        ERROR,
        "2026-01-02 11:50:00 UTC: qwen@llm/h:1 healthy -> absent, by operator (moved)",
        of(seen(), wanted="qwen"),
    ),
    "no-healthy-instance": Case(
        of(seen(state=UNHEALTHY), seen(port=2, state=DRAINED)), ERROR, "qwen@llm: 1 unhealthy, 1 drained", WELL
    ),
    "type-typo": Case(
        of(seen("qwen@lmm")), WARNING, "qwen@lmm: did its worker mean qwen@llm?", of(seen("qwen@vision"))
    ),
    "twin-names": Case(of(seen("Qwen@llm"), seen("qwen@llm")), WARNING, "'Qwen@llm' and 'qwen@llm'", WELL),
    "loopback-address": Case(
        of(seen(host="127.0.0.1")),
        ERROR,
        f"qwen@llm/127.0.0.1:8001: listed by {URL}",
        cluster(controller(seen(host="127.0.0.1"), url="http://localhost:8000")),
    ),
    "container-address": Case(
        of(seen(host="172.17.0.2")), WARNING, "it is on Docker's bridge", of(seen(host="172.18.0.2"))
    ),
    "expired": Case(
        of(seen(state=UNHEALTHY, last_heartbeat=ago(300), flaps=2)),
        WARNING,
        "last beat 5m ago, 15 beats missed (one every 20s); expired 2 times",
        of(seen(), seen(port=2, state=DEREGISTERED)),
    ),
    "moved": Case(
        of(seen(state=UNHEALTHY, last_heartbeat=ago(300)), seen(host="10.0.0.9", registered_at=ago(240))),
        INFO,
        "silent since 5m ago; qwen@llm/10.0.0.9:8001 registered 4m ago",
        of(seen(state=UNHEALTHY, last_heartbeat=ago(300)), seen(host="10.0.0.9")),
    ),
    "drained": Case(
        of(seen(state=DRAINED, drained_at=ago(300), drained_by="10.0.0.1", drain_reason="gpu swap")),
        INFO,
        "drained 5m ago by 10.0.0.1: gpu swap",
        of(seen("WorkerManager@service", state=DRAINED)),
    ),
    "deregistered-beating": Case(
        of(seen(state=DEREGISTERED, deregistered_at=ago(300), refused_at=ago(4))),
        ERROR,
        "deregistered 5m ago, last beat refused 4s ago",
        of(seen(state=DEREGISTERED, deregistered_at=ago(300))),
    ),
    "deregistered": Case(
        of(seen(state=DEREGISTERED, deregistered_at=ago(300))),
        INFO,
        "qwen@llm/10.0.0.4:8001: 5m ago",
        of(seen(state=DEREGISTERED, deregistered_at=ago(300), refused_at=ago(4))),
    ),
    "port-closed": Case(
        probed(Knock.REFUSED, seen()), ERROR, "qwen@llm/10.0.0.4:8001: seen as refused", probed(Knock.WORKER, seen())
    ),
    "wrong-service": Case(
        probed(Knock.OTHER, seen()), ERROR, "seen as other", probed(Knock.OTHER, seen(state=UNHEALTHY))
    ),
    "no-answer": Case(probed(Knock.SILENT, seen()), WARNING, "seen as silent", WELL),
    "flapping": Case(of(seen(flaps=3)), WARNING, "3 times since 60m ago", of(seen(flaps=2))),
    "drained-service": Case(
        of(seen("WorkerManager@service", state=DRAINED)), WARNING, "said enabled: false", of(seen(state=DRAINED))
    ),
    "registry-degraded": Case(
        cluster(controller(status=status(reason="slow disk"))), WARNING, f"{URL}: slow disk", WELL
    ),
    "controller-leaving": Case(cluster(controller(status=status(leaving=True))), WARNING, URL, WELL),
    "registry-nearly-full": Case(
        cluster(controller(seen(), seen(port=2), status=status(max_instances=2))), ERROR, f"{URL}: 2 of 2", WELL
    ),
    "timeout-short": Case(
        cluster(controller(status=status(heartbeat_timeout_secs=20.0, heartbeat_interval_secs=5.0))),
        WARNING,
        "heartbeat_timeout_secs 20; workers beat every 5s, WorkerManager@service every 20s",
        cluster(controller(status=status(heartbeat_timeout_secs=21.0))),
    ),
    "clock": Case(
        cluster(controller(skew=timedelta(seconds=-90))),
        WARNING,
        f"{URL}: 90s behind this machine",
        cluster(controller(skew=timedelta(seconds=4))),
    ),
    "secrets-open": Case(of(seen(), open_files=(OpenFile(".env", 0o644),)), WARNING, ".env: mode 0644", WELL),
    "one-host": Case(of(seen(), seen(port=2)), INFO, "qwen@llm: all 2 on 10.0.0.4", WELL),
    "stock-controller": Case(cluster(controller(seen(), status=None)), INFO, URL, WELL),
}


def test_every_rule_has_its_case() -> None:
    assert list(CASES) == [each.code for each in RULES]


@pytest.mark.parametrize("each", RULES, ids=[each.code for each in RULES])
def test_a_rule_finds_its_cause(each: Any) -> None:
    case = CASES[each.code]
    [found] = each(case.there)
    assert (found.code, found.severity) == (each.code, case.severity)
    assert case.evidence in "\n".join(found.evidence)
    assert found.fix
    assert all("\n" not in text for text in (found.summary, found.fix, *found.evidence))


@pytest.mark.parametrize("each", RULES, ids=[each.code for each in RULES])
def test_a_rule_does_not_find_what_is_not_there(each: Any) -> None:
    assert list(each(CASES[each.code].not_there)) == []


def test_all_is_well() -> None:
    assert explain(WELL) == examine(WELL) == []


def test_the_documentation_gets_all_rules() -> None:
    for code, symptom, fix in all_rules():
        assert code.islower()
        assert symptom.endswith((".", ":"))
        assert "\n" not in symptom + fix


def test_the_same_cause_is_one_finding() -> None:
    many = of(*(seen(port=port, state=DRAINED) for port in range(1, 5001)))
    found = examine(many)
    assert [(each.code, each.severity) for each in found] == [("no-healthy-instance", WARNING), ("drained", INFO)]
    assert found[1].summary == "5000 instances are drained: they get no requests"
    assert len(found[1].keys) == len(found[1].evidence) == 5000
    assert found[1].fix == "ctl models list --state drained -o name | xargs -d '\\n' ctl models undrain"


def test_doctor_puts_errors_first() -> None:
    found = examine(of(seen(state=DRAINED), seen(port=2), seen("bge@text2vec", state=UNHEALTHY)))
    assert [each.severity for each in found] == sorted((each.severity for each in found), key=list(Severity).index)
    assert found[0].code == "no-healthy-instance"


@pytest.mark.parametrize("look", [explain, examine])
def test_errors_come_before_what_is_likelier_and_less_bad(look: Callable[[Facts], list[Finding]]) -> None:
    facts = of(
        seen(state=UNHEALTHY, last_heartbeat=ago(300)),
        seen(port=2, state=DRAINED),
        seen(port=3, state=DEREGISTERED, deregistered_at=ago(9), refused_at=ago(4)),
        seen(port=4, state=DEREGISTERED, deregistered_at=ago(9)),
        seen(port=5),
        wanted="qwen",
    )
    assert [each.code for each in look(facts)] == ["deregistered-beating", "expired", "drained", "deregistered"]


@pytest.mark.parametrize(
    ("controllers", "told", "code"),
    [
        ((DOWN,), "no controller answers", 3),
        ((AWAY,), "no controller can serve now", 3),
        ((DOWN, AWAY), "no controller can serve now", 3),
        ((CLOSED,), "no controller lets you in", 7),
        ((DOWN, CLOSED), "no controller lists its instances", 7),
        ((DOWN, FAILED), "no controller lists its instances", 3),
        ((FAILED,), "no controller lists its instances", 1),
        ((FAILED, REFUSED), "no controller lists its instances", 6),
    ],
)
def test_why_no_controller_told_anything(controllers: tuple[ControllerFacts, ...], told: str, code: int) -> None:
    assert (nobody(controllers), exit_code_of(controllers)) == (told, code)


def test_several_controllers_with_the_same_error_are_one_finding() -> None:
    [found] = find("not-allowed", cluster(controller(), CLOSED, replace(CLOSED, url="http://ctl-3:8000")))
    assert found.summary == "2 of 3 controllers do not let you in"
    assert len(found.evidence) == 2


def find(code: str, facts: Facts) -> list[Finding]:
    return [found for each in RULES if each.code == code for found in each(facts)]


@pytest.mark.parametrize(
    ("asked", "registered", "meant"),
    [
        ("qwen@llm", ["qwen@text2vec"], "qwen@text2vec"),
        ("Qwen", ["qwen@llm", "glm@llm"], "qwen@llm"),
        ("qwen 3", ["qwen3@llm"], "qwen3@llm"),
        ("qwne3", ["qwen3@llm", "glm@llm"], "qwen3@llm"),
        ("bge@text2vce", ["bge@text2vec"], "bge@text2vec"),
        ("zzz", ["qwen3@llm"], None),
        ("a", ["a\x1b[31m@llm"], None),
    ],
)
def test_what_may_have_been_meant(asked: str, registered: list[str], meant: str | None) -> None:
    [found] = find("not-registered", of(*(seen(name) for name in registered), wanted=asked))
    hint = f"did you mean {meant}?"
    assert (hint in found.fix) is (meant is not None)


def test_names_of_strangers_are_escaped() -> None:
    evil = "q\x1b[31m\u202e@llm"
    facts = of(
        seen(evil, state=DRAINED, drained_at=ago(1), drained_by="x\n", drain_reason="\x07"), seen("Q\x1b[31m\u202e@llm")
    )
    for each in examine(facts):
        assert all(text.isprintable() for text in (each.summary, each.fix, *each.evidence)), each


@pytest.mark.parametrize(
    ("states", "severity"),
    [([UNHEALTHY, DEREGISTERED], ERROR), ([DRAINED, DEREGISTERED], WARNING), ([DEREGISTERED], INFO)],
)
def test_silence_is_worse_than_somebody_s_wish(states: list[InstanceState], severity: Severity) -> None:
    facts = of(*(seen(port=port, state=state) for port, state in enumerate(states, 1)))
    assert [each.severity for each in find("no-healthy-instance", facts)] == [severity]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST", "ip6-localhost", "localhost."]
)
def test_what_is_loopback(host: str) -> None:
    assert len(find("loopback-address", of(seen(host=host)))) == 1


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("0.0.0.0", "only one to listen on"),
        ("::", "only one to listen on"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("3f2a9c01b4de", "container's id"),
    ],
)
def test_addresses_that_mean_something_only_at_home(host: str, why: str) -> None:
    [found] = find("container-address", of(seen(host=host)))
    assert why in found.evidence[0]


def test_an_unhealthy_instance_and_what_its_address_says() -> None:
    silent = seen(state=UNHEALTHY, last_heartbeat=ago(300))
    [runs] = find("expired", probed(Knock.WORKER, silent))
    assert "a worker answers there: it runs, and its beats do not reach this controller" in runs.evidence[0]
    [gone] = find("expired", probed(Knock.REFUSED, silent))
    assert gone.evidence[0].endswith("; seen as refused")


def test_what_dbgpts_own_controller_cannot_tell_is_said() -> None:
    silent = seen(
        state=UNHEALTHY, is_known=False, beat_is_local=True, last_heartbeat=datetime(2026, 1, 2, 9, 0, tzinfo=UTC)
    )
    [found] = find("expired", cluster(controller(silent, status=None)))
    assert "last beat at 2026-01-02 09:00:00 by the controller's own clock; or it was deregistered" in found.evidence[0]
    assert "ago" not in found.evidence[0]


def test_a_fix_that_dbgpts_own_controller_lacks_is_not_given() -> None:
    [found] = find("drained", cluster(controller(seen(state=DRAINED, is_known=False), status=None)))
    assert "deregister REF --remove" in found.fix
    assert found.evidence == ("qwen@llm/10.0.0.4:8001: enabled is false",)


def test_each_place_is_knocked_at_once_the_healthy_first_and_each_model_early() -> None:
    facts = of(
        *(seen("a@llm", port=port) for port in (1, 2, 3)),
        seen("b@llm", port=9),
        seen("b@llm", port=1),
        seen("c@llm", port=4, state=UNHEALTHY),
    )
    assert [each.port for each in places_of(facts)] == [1, 2, 9, 3, 4]


def test_nobody_knocks_here_at_the_loopback_of_another_machine() -> None:
    assert places_of(of(seen(host="127.0.0.1"), seen(host="0.0.0.0"))) == []
    here = cluster(controller(seen(host="127.0.0.1"), url="http://127.0.0.1:8000"))
    assert places_of(here) == [Place("127.0.0.1", 8001)]
