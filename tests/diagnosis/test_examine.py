"""Every rule: facts in which it finds its cause, and facts in which it must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dbgpt_ctl.cli.diagnosis.report import exit_code, heading_without_answer
from dbgpt_ctl.client.status import counts_of
from dbgpt_ctl.diagnosis.examine import RULES, examine, overview, sample
from dbgpt_ctl.diagnosis.facts import (
    ControllerFacts,
    ExposedFile,
    Facts,
    Finding,
    ProbeOutcome,
    ProxiedController,
    Rule,
    Scope,
    Severity,
    diagnose,
)
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.domain.events import OPERATOR, Cause, Change, Event
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.domain.ping_results import PingResult
from dbgpt_ctl.errors import Attempt, ControllerFailed, ControllerRefused, ControllerUnreachable, ErrorKind, NotAllowed
from dbgpt_ctl.failure_causes import FailureCause
from tests.diagnosis.observed import (
    DEREGISTERED,
    OTHER,
    UNHEALTHY,
    URL,
    ago,
    auth,
    checking,
    cluster,
    controller,
    drained,
    expiring,
    known,
    of,
    ping,
    pinged,
    probed,
    record,
    refused,
    refusing,
    status,
    with_tls,
)

if TYPE_CHECKING:
    from dbgpt_ctl.client.results import KnownInstance


class Case(NamedTuple):
    """A rule has to find `severity` and `evidence` (a part of its text) in the first facts, nothing in the second."""

    there: Facts
    severity: Severity
    evidence: str
    not_there: Facts


ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
SHOWN = (Check("database", "a"), Check("log-file", "b"), Check("certificate", "expires soon"), Check("event-loop"))
"""Checks of which other rules say more, or nothing is wrong."""
WELL = of(known(), known(host="10.0.0.5"))
LOCAL = controller(known(host="127.0.0.1"), url="http://localhost:8000")
DIFFERENT = status(controllers=(record(URL), record(OTHER, 90)))
DOWN = ControllerFacts(OTHER, ControllerUnreachable("Connection refused"))
AWAY = ControllerFacts(OTHER, ControllerUnreachable("503 leaving", kind=ErrorKind.UNAVAILABLE))
CLOSED = ControllerFacts(OTHER, NotAllowed("401 who are you?"))
FAILED = ControllerFacts(OTHER, ControllerFailed("500 broken"))
REFUSED = ControllerFacts(OTHER, ControllerRefused("404 Not Found"))


def without_answer(cause: FailureCause) -> ControllerFacts:
    attempt = Attempt(OTHER, "what happened", cause)
    return ControllerFacts(OTHER, ControllerUnreachable.of_attempts([attempt], ErrorKind.NO_ANSWER))


GONE = Event(
    7, Change(ago(600), InstanceKey("qwen@llm", "h", 1), "healthy", "absent", Cause("deregister", OPERATOR, "moved"))
)


def silent(*where: Any, **facts: Any) -> KnownInstance:
    """An instance that sends no heartbeats any more. The arguments are those of `known`."""
    return known(*where, state=UNHEALTHY, **({"last_heartbeat": ago(300)} | facts))


ON_TWO_HOSTS = (
    silent(),
    known(port=2),
    silent(host="10.0.0.5", last_heartbeat=ago(250)),
    known(host="10.0.0.5", port=2),
)
CASES = {
    "controller-unreachable": Case(
        cluster(controller(), DOWN), ERROR, f"{OTHER}: Connection refused", cluster(AWAY, CLOSED, FAILED, REFUSED)
    ),
    **{
        cause.value: Case(
            cluster(controller(), without_answer(cause)),
            ERROR,
            f"{OTHER}: what happened",
            cluster(
                controller(),
                DOWN,
                AWAY,
                CLOSED,
                FAILED,
                *(without_answer(other) for other in FailureCause if other is not cause),
            ),
        )
        for cause in FailureCause
    },
    "controller-unavailable": Case(
        cluster(controller(), AWAY), ERROR, f"{OTHER}: 503 leaving", cluster(DOWN, CLOSED, FAILED, REFUSED)
    ),
    "not-allowed": Case(
        cluster(controller(), CLOSED), ERROR, f"{OTHER}: 401 who are you?", cluster(DOWN, AWAY, FAILED, REFUSED)
    ),
    "controller-failed": Case(
        cluster(controller(), FAILED), ERROR, f"{OTHER}: 500 broken", cluster(controller(), DOWN, AWAY, CLOSED)
    ),
    "controller-leaving": Case(cluster(controller(status=status(leaving=True))), WARNING, URL, WELL),
    "proxy": Case(
        of(known(), proxies=(ProxiedController(URL, "ctl-1", "http_proxy", "http://proxy:3128"),)),
        WARNING,
        f"http_proxy=http://proxy:3128 takes the calls to {URL}",
        WELL,
    ),
    "controller-slow": Case(
        cluster(controller(status=status(reason="a; b", checks=(*SHOWN, Check("queue", "6000 calls wait"))))),
        WARNING,
        f"{URL}: 6000 calls wait",
        cluster(controller(status=status(reason="a; b", checks=(*SHOWN, Check("queue"))))),
    ),
    "controllers-disagree": Case(
        cluster(controller(known(), known(port=8002)), controller(known(), url=OTHER)),
        ERROR,
        f"{OTHER}: lacks 1 that others list, such as qwen@llm/10.0.0.4:8002 (registry mysql db1:3306/dbgpt)",
        cluster(controller(known(), known(port=8002, registered_at=ago(1))), controller(known(), url=OTHER)),
    ),
    "settings-differ": Case(
        cluster(controller(status=DIFFERENT), controller(url=OTHER, status=DIFFERENT)),
        WARNING,
        f"heartbeat timeouts differ: 60s at {URL}, 90s at {OTHER}; choose one value",
        cluster(controller(status=status(controllers=(record(URL), record(OTHER))))),
    ),
    "states-disagree": Case(
        cluster(
            controller(known()), controller(known(state=UNHEALTHY), url=OTHER, status=status(heartbeat_timeout_secs=2))
        ),
        ERROR,
        f"qwen@llm/10.0.0.4:8001: healthy at {URL} (timeout 60s), unhealthy at {OTHER} (timeout 2s)",
        cluster(controller(known(state=DEREGISTERED)), controller(known(state=UNHEALTHY), url=OTHER, status=None)),
    ),
    "separate-registries": Case(
        cluster(controller(), controller(url=OTHER, status=status(kind="embedded"))),
        ERROR,
        f"the controllers: {URL}: mysql db1:3306/dbgpt, {OTHER}: embedded",
        cluster(controller(status=status(kind="embedded"))),
    ),
    "different-registries": Case(
        cluster(controller(), controller(url=OTHER, status=status(place="db2:3306/dbgpt"))),
        WARNING,
        f"the controllers: {URL}: mysql db1:3306/dbgpt, {OTHER}: mysql db2:3306/dbgpt",
        cluster(controller(), controller(url=OTHER, status=status(kind="mariadb"))),
    ),
    "registry-empty": Case(
        cluster(controller(status=status(durable=False, started_at=ago(40)))),
        WARNING,
        f"{URL}: no instance is registered: its registry is in memory, and it was started 40s ago",
        cluster(controller(), controller(known(), url=OTHER), controller(status=status(models=None))),
    ),
    "disk-full": Case(
        cluster(controller(known(), status=status(reason="database or disk is full"))),
        ERROR,
        f"{URL}: database or disk is full",
        cluster(controller(known(), status=status(reason="slow disk"))),
    ),
    "registry-not-ready": Case(
        cluster(controller(status=status(ready=False, reason="no route"))),
        ERROR,
        f"{URL}: its registry cannot be read (no route)",
        cluster(controller(status=status(reason="slow disk"))),
    ),
    "registry-stale": Case(
        cluster(controller(known(), stale_since=ago(90), status=status(reason="database away"))),
        ERROR,
        f"{URL}: its registry is away; this is what was known 90s ago (database away)",
        WELL,
    ),
    "states-held": Case(
        cluster(controller(known(), held_until=ago(-40))),
        WARNING,
        f"{URL}: its registry was away; until 12:00:40 UTC, some instances are shown as they were before",
        WELL,
    ),
    "registry-degraded": Case(
        cluster(controller(status=status(reason="slow disk"))),
        WARNING,
        f"{URL}: slow disk",
        cluster(controller(status=status(ready=False, reason="no route"))),
    ),
    "not-registered": Case(
        of(known("qwen@text2vec"), wanted="qwen@llm", events=(GONE,)),
        ERROR,
        "2026-01-02 11:50:00 UTC: qwen@llm/h:1 healthy -> absent, deregister by operator: moved",
        of(known(), wanted="qwen"),
    ),
    "no-healthy-instance": Case(
        of(known(state=UNHEALTHY), drained(port=2)),
        ERROR,
        "qwen@llm: no routable instance: 1 healthy (1 drained), 1 unhealthy",
        WELL,
    ),
    "type-typo": Case(
        of(known("qwen@lmm")), WARNING, "qwen@lmm: did its worker mean qwen@llm?", of(known("qwen@vision"))
    ),
    "twin-names": Case(of(known("Qwen@llm"), known("qwen@llm")), WARNING, "'Qwen@llm' and 'qwen@llm'", WELL),
    "healthy-but-not-answering": Case(
        pinged((known(), PingResult.MODEL_ERROR), (known(port=2), PingResult.OK)),
        WARNING,
        "qwen@llm/10.0.0.4:8001: model-error: said model-error",
        pinged((known(), PingResult.OK), (known(port=2), PingResult.BUSY), (known(port=3), None)),
    ),
    "worker-busy": Case(
        pinged((known(), PingResult.BUSY)), WARNING, "busy: said busy", pinged((known(), PingResult.STALLED))
    ),
    "workers-refused": Case(
        cluster(
            controller(silent(), known(port=2), **refusing(refused(), refused(reason="expired", token="gpu", age=9)))
        ),
        ERROR,
        "qwen@llm/10.0.0.4:8001: 24 heartbeats from 10.0.0.4 were refused, the last one 3s ago: no token, "
        "an expired token (gpu)",
        cluster(controller(silent(), known(port=2), **refusing(refused(age=400), refused("10.0.0.9", age=90)))),
    ),
    "heartbeats-stopped": Case(
        of(silent(), silent("bge@text2vec", "10.0.0.5", last_heartbeat=ago(281))),
        ERROR,
        "2 instances on 2 hosts; last heartbeat 4m ago, 14 missed (one every 20s)",
        of(silent(), silent("bge@text2vec", "10.0.0.5", last_heartbeat=ago(240))),
    ),
    "host-silent": Case(
        of(silent(), silent("bge@text2vec", port=2), known(host="10.0.0.5")),
        WARNING,
        "10.0.0.4: 2 silent, last heartbeat 5m ago, 15 missed (one every 20s)",
        of(silent(), silent("bge@text2vec", port=2), known(port=3), silent(host="10.0.0.5")),
    ),
    "silent-since-restart": Case(
        cluster(controller(*ON_TWO_HOSTS, status=status(started_at=ago(275), heartbeat_timeout_secs=30.0))),
        WARNING,
        f"{URL}: it was started 4m ago, with a heartbeat timeout of 30s",
        cluster(controller(*ON_TWO_HOSTS, status=status(started_at=ago(200)))),
    ),
    "expired": Case(
        of(silent(flaps=2)),
        WARNING,
        "last heartbeat 5m ago, 15 missed (one every 20s); expired 2 times",
        of(known(), known(port=2, state=DEREGISTERED), drained(port=3, state=UNHEALTHY)),
    ),
    "expired-long": Case(
        of(silent(last_heartbeat=ago(25 * 3600))),
        WARNING,
        "qwen@llm/10.0.0.4:8001: last heartbeat 25h ago",
        of(silent()),
    ),
    "metadata-address": Case(
        of(known(host="0xa9fea9fe")),
        ERROR,
        "qwen@llm/0xa9fea9fe:8001: 0xa9fea9fe is 169.254.169.254, of AWS",
        of(known(host="169.254.1.1")),
    ),
    "loopback-address": Case(
        of(known(host="127.0.0.1")),
        ERROR,
        f"qwen@llm/127.0.0.1:8001: listed by {URL}",
        cluster(controller(known(host="127.0.0.1"), url="http://localhost:8000")),
    ),
    "loopback-from-elsewhere": Case(
        cluster(LOCAL, registered_from={known(host="127.0.0.1").key: "172.17.0.3"}),
        WARNING,
        "qwen@llm/127.0.0.1:8001: its worker called from 172.17.0.3",
        cluster(LOCAL),
    ),
    "container-address": Case(
        of(known(host="172.17.0.2")), WARNING, "it is on Docker's bridge", of(known(host="172.18.0.2"))
    ),
    "moved": Case(
        of(known(state=UNHEALTHY, last_heartbeat=ago(300)), known(host="10.0.0.9", registered_at=ago(240))),
        INFO,
        "silent since 5m ago; qwen@llm/10.0.0.9:8001 registered 4m ago",
        of(
            known(state=UNHEALTHY, last_heartbeat=ago(300)),
            drained(state=UNHEALTHY, port=2, last_heartbeat=ago(300)),
            known(host="10.0.0.9"),
            known(host="10.0.0.9", port=2, registered_at=ago(240)),
        ),
    ),
    "drained": Case(
        of(drained(since=300, by="10.0.0.1", reason="gpu swap")),
        INFO,
        "drained 5m ago by 10.0.0.1: gpu swap",
        of(drained("WorkerManager@service"), drained(state=UNHEALTHY), drained(port=2, since=25 * 3600)),
    ),
    "drained-unhealthy": Case(
        of(drained(since=300, left=3600, state=UNHEALTHY, last_heartbeat=ago(120))),
        INFO,
        "drained 5m ago until 2026-01-02 13:00:00 UTC, no reason given; last heartbeat 2m ago, 6 missed",
        of(drained(since=300), known(port=2, state=UNHEALTHY), drained(port=3, since=25 * 3600, state=UNHEALTHY)),
    ),
    "drained-after-expiry": Case(
        of(drained(since=300, state=UNHEALTHY, last_heartbeat=ago(361))),
        WARNING,
        "drained 5m ago, no reason given; last heartbeat 6m ago, 18 missed (one every 20s)",
        of(drained(since=300, state=UNHEALTHY, last_heartbeat=ago(359)), drained(port=2, state=UNHEALTHY)),
    ),
    "drained-long": Case(
        of(drained(since=25 * 3600)),
        INFO,
        "qwen@llm/10.0.0.4:8001: drained 25h ago, no reason given",
        of(drained(since=24 * 3600), drained(port=2, since=25 * 3600, left=3600)),
    ),
    "deregistered-beating": Case(
        of(known(state=DEREGISTERED, deregistered_at=ago(300), refused_at=ago(4))),
        ERROR,
        "deregistered 5m ago, last heartbeat refused 4s ago",
        of(known(state=DEREGISTERED, deregistered_at=ago(300), refused_at=ago(61))),
    ),
    "deregistered": Case(
        of(known(state=DEREGISTERED, deregistered_at=ago(300))),
        INFO,
        "qwen@llm/10.0.0.4:8001: 5m ago",
        of(known(state=DEREGISTERED, deregistered_at=ago(300), refused_at=ago(4))),
    ),
    "port-closed": Case(
        probed(ProbeOutcome.REFUSED, known()),
        ERROR,
        "qwen@llm/10.0.0.4:8001: seen as refused",
        probed(ProbeOutcome.WORKER, known()),
    ),
    "wrong-service": Case(
        probed(ProbeOutcome.OTHER, known()), ERROR, "seen as other", probed(ProbeOutcome.OTHER, known(state=UNHEALTHY))
    ),
    "worker-resets": Case(probed(ProbeOutcome.RESET, known()), ERROR, "seen as reset", WELL),
    "worker-name-lookup": Case(probed(ProbeOutcome.UNKNOWN_NAME, known()), WARNING, "seen as unknown_name", WELL),
    "no-answer": Case(probed(ProbeOutcome.SILENT, known()), WARNING, "seen as silent", WELL),
    "flapping": Case(
        of(known(flaps=5), expiries={known().key: 3}),
        WARNING,
        "3 times within a day, 5 since 60m ago",
        of(known(flaps=9), drained(port=2, flaps=3), expiries={known().key: 2, known(port=2).key: 3}),
    ),
    "drained-service": Case(
        of(drained("WorkerManager@service")),
        WARNING,
        "it registered with enabled: false",
        of(drained(), drained("WorkerManager@service", state=UNHEALTHY)),
    ),
    "auth-off": Case(
        cluster(checking("off", is_open=True)),
        WARNING,
        f"{URL}: auth is off, and it listens elsewhere than on loopback",
        cluster(checking("off"), controller(url=OTHER), controller(status=None)),
    ),
    "auth-differs": Case(
        cluster(checking(tokens=3), checking(url=OTHER, digest="ba9876543210")),
        WARNING,
        f"mode enforce with tokens 0123456789ab at {URL}, mode enforce with tokens ba9876543210 at {OTHER}",
        cluster(checking(tokens=3), checking(url=OTHER, tokens=3), controller(url="http://old:8000")),
    ),
    "tokens-file-unreadable": Case(
        cluster(checking(problem="line 3: unknown key")),
        ERROR,
        f"{URL}: it goes on with the tokens that it read before: line 3: unknown key",
        cluster(checking(tokens=3), checking("off")),
    ),
    "tokens-file-open": Case(
        cluster(checking(readable_by_others="0644")),
        WARNING,
        f"{URL}: mode 0644",
        cluster(checking(readable_by_others="0440"), checking(tokens=3)),
    ),
    "token-expires": Case(
        cluster(checking(**expiring("gpu", timedelta(days=3)))),
        WARNING,
        "token gpu: expires in 3d, at 2026-01-05 12:00 UTC",
        cluster(checking(**expiring("gpu", timedelta(days=15)))),
    ),
    "auth-log-mode": Case(
        cluster(checking("log", tokens=3)),
        INFO,
        f"{URL}: auth is in log mode, so callers without a valid token are served too",
        cluster(checking(), checking("off")),
    ),
    "certificate-problem": Case(
        cluster(with_tls(problem="the key is of another certificate")),
        ERROR,
        f"{URL}: the key is of another certificate",
        cluster(with_tls(), with_tls(port=None)),
    ),
    "certificate-expires": Case(
        cluster(with_tls(left_days=13.5)),
        WARNING,
        f"{URL}: its certificate expires in 13d, at 2026-01-16 00:00 UTC",
        cluster(with_tls(left_days=15), with_tls(port=None)),
    ),
    "tls-differs": Case(
        cluster(with_tls(), with_tls(OTHER, None)),
        WARNING,
        f"{OTHER}: no https",
        cluster(with_tls(), with_tls(OTHER), controller(url="http://old:8000", status=None)),
    ),
    "registry-nearly-full": Case(
        cluster(controller(known(), known(port=2), status=status(max_instances=2))), ERROR, f"{URL}: 2 of 2", WELL
    ),
    "timeout-short": Case(
        cluster(controller(status=status(heartbeat_timeout_secs=20.0, heartbeat_interval_secs=5.0))),
        WARNING,
        "heartbeat_timeout_secs 20; workers beat every 5s, WorkerManager@service every 20s",
        cluster(controller(status=status(heartbeat_timeout_secs=21.0))),
    ),
    "controller-clock": Case(
        cluster(controller(status=status(checks=(*SHOWN, Check("clock", "it is 300 s ahead"))))),
        WARNING,
        f"{URL}: it is 300 s ahead",
        cluster(controller(status=status(checks=(Check("clock"), Check("queue", "6000 calls wait"))))),
    ),
    "clock": Case(
        cluster(controller(skew=timedelta(seconds=-90))),
        WARNING,
        f"{URL}: 90s behind this machine",
        cluster(controller(skew=timedelta(seconds=4))),
    ),
    "secrets-open": Case(of(known(), exposed_files=(ExposedFile(".env", 0o644),)), WARNING, ".env: mode 0644", WELL),
    "one-host": Case(of(known(), known(port=2)), INFO, "qwen@llm: all 2 on 10.0.0.4", WELL),
    "stock-controller": Case(cluster(controller(known(), status=None)), INFO, URL, WELL),
}


def test_every_rule_has_its_case() -> None:
    assert list(CASES) == [rule.code for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])
def test_a_rule_finds_its_cause(rule: Rule[Facts]) -> None:
    case = CASES[rule.code]
    [found] = rule(case.there)
    assert (found.code, found.severity) == (rule.code, case.severity)
    assert case.evidence in "\n".join(map(str, found.evidence))
    assert found.fix
    assert all("\n" not in text for text in (found.summary, found.fix, *map(str, found.evidence)))


@pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])
def test_a_rule_does_not_find_what_is_not_there(rule: Rule[Facts]) -> None:
    assert list(rule(CASES[rule.code].not_there)) == []


def test_all_is_well() -> None:
    assert [diagnose(RULES, WELL, scope) for scope in Scope] == [[], [], [], []]


def test_the_documentation_gets_all_rules() -> None:
    for rule in RULES:
        assert rule.code.islower()
        assert rule.symptom.endswith((".", ":"))
        assert "\n" not in rule.symptom + rule.fix


def test_the_same_cause_is_one_finding() -> None:
    many = of(*(drained(port=port) for port in range(1, 5001)))
    found = diagnose(RULES, many, Scope.CLUSTER)
    assert [(finding.code, finding.severity) for finding in found] == [
        ("no-healthy-instance", INFO),
        ("drained", INFO),
    ]
    assert found[1].summary == "5000 instances are drained: they get no requests"
    assert len(found[1].keys) == len(found[1].evidence) == 5000
    assert found[1].fix == "ctl models list --state drained -o name | xargs -d '\\n' ctl models undrain"


def test_a_drain_that_ends_by_itself_needs_no_undrain() -> None:
    [found] = diagnose(RULES, of(known(), drained(port=2, since=9, left=9)), Scope.MODEL)
    assert found.fix == "nothing: the drain ends by itself; to end it now: ctl models undrain qwen@llm/10.0.0.4:2"
    [found] = diagnose(RULES, of(known(), drained(port=2, since=9, left=9), drained(port=3)), Scope.MODEL)
    assert found.fix == "ctl models undrain qwen@llm/10.0.0.4:2 qwen@llm/10.0.0.4:3"


def test_different_states_are_an_error_only_where_not_all_controllers_send_requests() -> None:
    long = controller(known(), drained(port=2))
    short = controller(known(state=UNHEALTHY), drained(port=2, state=UNHEALTHY), url=OTHER)
    error, warning = (each for each in diagnose(RULES, cluster(long, short), Scope.CLUSTER) if "states" in each.code)
    assert (error.severity, [key.port for key in error.keys]) == (ERROR, [8001])
    assert (warning.severity, [key.port for key in warning.keys]) == (WARNING, [2])
    assert warning.summary.endswith("1 instance, and none of them sends requests there")


def test_doctor_puts_errors_first() -> None:
    found = diagnose(RULES, of(drained(), known(port=2), known("bge@text2vec", state=UNHEALTHY)), Scope.CLUSTER)
    assert [finding.severity for finding in found] == [ERROR, WARNING, INFO]
    assert found[0].code == "no-healthy-instance"


@pytest.mark.parametrize("scope", [Scope.MODEL, Scope.CLUSTER])
def test_errors_come_before_what_is_likelier_and_less_bad(scope: Scope) -> None:
    facts = of(
        known(state=UNHEALTHY, last_heartbeat=ago(300)),
        drained(port=2),
        known(port=3, state=DEREGISTERED, deregistered_at=ago(9), refused_at=ago(4)),
        known(port=4, state=DEREGISTERED, deregistered_at=ago(9)),
        known(port=5),
        wanted="qwen",
    )
    assert [finding.code for finding in diagnose(RULES, facts, scope)] == [
        "deregistered-beating",
        "expired",
        "drained",
        "deregistered",
    ]


@pytest.mark.parametrize(
    ("controllers", "heading", "code"),
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
def test_why_no_controller_answers(controllers: tuple[ControllerFacts, ...], heading: str, code: int) -> None:
    assert (heading_without_answer(controllers), exit_code(cluster(*controllers))) == (heading, code)


def test_several_controllers_with_the_same_error_are_one_finding() -> None:
    [found] = find("not-allowed", cluster(controller(), CLOSED, replace(CLOSED, url="http://ctl-3:8000")))
    assert found.summary == "2 of 3 controllers do not let you in"
    assert len(found.evidence) == 2


def test_controllers_of_different_registries_may_check_differently() -> None:
    embedded = controller(url=OTHER, status=status(kind="embedded", place=None, auth=auth("off")))
    elsewhere = controller(url=OTHER, status=status(place="db2:3306/dbgpt", auth=auth("off")))
    for other in (embedded, elsewhere):
        assert find("auth-differs", cluster(checking(), other)) == []
    assert find("auth-differs", cluster(checking(), checking("log", OTHER)))


def test_a_tokens_file_that_cannot_be_used_is_one_finding() -> None:
    wrong = controller(known(), status=status(reason="line 3", auth=auth(problem="line 3")))
    assert [found.code for found in diagnose(RULES, cluster(wrong), Scope.OVERVIEW)] == ["tokens-file-unreadable"]
    more = controller(status=status(reason="slow disk; line 3", auth=auth(problem="line 3")))
    assert find("registry-degraded", cluster(more))


def test_a_token_that_all_controllers_name_is_one_token() -> None:
    over = expiring("old", timedelta(days=-3))
    [found] = find("token-expires", cluster(checking(**over), checking(url=OTHER, **over)))
    assert found.lines == ["token old: expired 3d ago, at 2025-12-30 12:00 UTC [token-expires]"]
    assert found.fix.startswith("ctl token rotate old --expires 90d ")


def test_a_certificate_that_has_expired_is_an_error() -> None:
    soon, over = find("certificate-expires", cluster(with_tls(left_days=2), with_tls(OTHER, left_days=-1)))
    assert (soon.severity, over.severity) == (WARNING, ERROR)
    assert over.lines == [f"{OTHER}: its certificate expired 24h ago, at 2026-01-01 12:00 UTC [certificate-expires]"]


def test_loopback_is_wrong_where_the_registry_is_shared_by_machines() -> None:
    """`ctl` runs on the machine of a controller, and calls it by a loopback address."""
    records = tuple(record(f"http://{host}:8000") for host in ("ctl-1", "ctl-2"))
    local = controller(known(host="127.0.0.1"), url="http://127.0.0.1:8000", status=status(controllers=records))
    [found] = find("loopback-address", cluster(local))
    assert str(found.evidence[0]).endswith("; controllers of its registry are on ctl-1, ctl-2")
    alone = replace(local, status=status(controllers=records[:1]))
    assert find("loopback-address", cluster(alone)) == []
    strange = replace(local, status=status(controllers=(*records[:1], record("http://[bad"), record(""))))
    assert find("loopback-address", cluster(strange)) == []


def test_the_fix_of_a_metadata_address_names_the_instances() -> None:
    [found] = find("metadata-address", of(known(host="169.254.169.254")))
    removal = "ctl models deregister qwen@llm/169.254.169.254:8001 --remove"
    assert found.fix == f"{removal}; ctl events says who registered it"
    [found] = find("metadata-address", cluster(controller(known(host="169.254.169.254"), status=None)))
    assert found.fix == removal
    assert find("container-address", of(known(host="169.254.169.254"))) == []


def find(code: str, facts: Facts) -> list[Finding]:
    return [found for rule in RULES if rule.code == code for found in rule(facts)]


@pytest.mark.parametrize(
    ("given", "registered", "meant"),
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
def test_what_may_have_been_meant(given: str, registered: list[str], meant: str | None) -> None:
    [found] = find("not-registered", of(*(known(name) for name in registered), wanted=given))
    hint = f"did you mean {meant}?"
    assert (hint in found.fix) is (meant is not None)


def test_names_of_strangers_are_escaped() -> None:
    evil = "q\x1b[31m\u202e@llm"
    facts = of(
        drained(evil, since=1, by="x\n", reason="\x07"),
        known("Q\x1b[31m\u202e@llm"),
    )
    for found in diagnose(RULES, facts, Scope.CLUSTER):
        assert all(text.isprintable() for text in (found.summary, found.fix, *map(str, found.evidence))), found


@pytest.mark.parametrize(
    ("instances", "severity"),
    [
        ([known(state=UNHEALTHY), known(port=2, state=DEREGISTERED)], ERROR),
        ([known(state=UNHEALTHY), drained(port=2)], ERROR),
        ([drained(), known(port=2, state=DEREGISTERED)], INFO),
        ([drained(state=UNHEALTHY), drained(port=2)], INFO),
        ([known(state=DEREGISTERED)], INFO),
    ],
)
def test_silence_is_worse_than_an_operators_wish(instances: list[KnownInstance], severity: Severity) -> None:
    assert [found.severity for found in find("no-healthy-instance", of(*instances))] == [severity]


def test_a_drain_of_the_first_register_is_as_old_as_that() -> None:
    [found] = find("drained-long", of(drained(registered_at=ago(25 * 3600))))
    assert found.lines == ["qwen@llm/10.0.0.4:8001: it registered with enabled: false [drained-long]"]


def test_a_deregistered_instance_that_is_drained_stays_so_after_a_register() -> None:
    [found] = find("deregistered", of(drained(since=60, state=DEREGISTERED, deregistered_at=ago(300))))
    assert str(found.evidence[0]).endswith(": 5m ago; it is drained too: drained 60s ago, no reason given")


@pytest.mark.parametrize("drains", [1, 2])
def test_a_drain_after_the_death_of_an_instance_makes_no_outage_planned(drains: int) -> None:
    """Also where only counts are known, and the drained instances."""
    late = [drained(port=port, since=300, state=UNHEALTHY, last_heartbeat=ago(3600)) for port in range(drains)]
    early = drained(port=9, since=3599, state=UNHEALTHY, last_heartbeat=ago(3600))
    counts = {"qwen@llm": counts_of([*late, early])}
    for facts in (of(*late, early), of(*late, early, counts=counts)):
        [found] = find("no-healthy-instance", facts)
        assert (found.severity, found.summary) == (ERROR, "1 model has no instance that gets requests")
        assert [each.keys for each in find("drained-unhealthy", facts)] == [(early.key,)]


def test_an_old_drain_of_a_dead_instance_is_not_only_a_long_drain() -> None:
    late = drained(since=25 * 3600, state=UNHEALTHY, last_heartbeat=ago(30 * 3600))
    assert {each.code for each in diagnose(RULES, of(late, known(port=2)))} == {"drained-after-expiry"}


@pytest.mark.parametrize(
    "reason",
    [
        "audit_log_file /var/log/ctl/audit cannot be written: No space left on device",
        "database db1:3306/dbgpt: Disk full (/tmp); waiting for someone to free some space... (1021)",
        "log file /var/log/ctl.log: Disk quota exceeded",
    ],
)
def test_the_advice_for_a_full_disk_is_not_the_log_on_it(reason: str) -> None:
    for ready in (True, False):
        found = diagnose(RULES, cluster(controller(known(), status=status(reason=reason, ready=ready))), Scope.CLUSTER)
        assert found[0].code == "disk-full"
        assert "log" not in " ".join(each.fix for each in found)


def test_planned_work_is_no_warning() -> None:
    facts = of(drained(since=300, state=UNHEALTHY), drained(port=2, since=300, state=UNHEALTHY), known(port=3))
    found = diagnose(RULES, facts)
    assert [(finding.severity, finding.summary) for finding in found] == [
        (INFO, "2 unhealthy instances are drained: planned")
    ]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST", "ip6-localhost", "localhost."]
)
def test_what_is_loopback(host: str) -> None:
    assert len(find("loopback-address", of(known(host=host)))) == 1


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
    [found] = find("container-address", of(known(host=host)))
    assert why in str(found.evidence[0])


def test_all_controllers_count_what_they_refuse_and_a_scope_knows_its_instance() -> None:
    """A worker tries each controller in turn. A name is not looked up: a source is compared with addresses only."""
    named = silent(host="gpu-7")
    scoped = refused("10.0.0.9", "hosts", age=1, count=1, token="gpu", key=named.key)
    here = controller(silent(), named, silent(host="[fd00::5]", port=3), **refusing(refused("::ffff:10.0.0.4"), scoped))
    there = controller(*here.instances, **refusing(refused(), refused("fd00::5"), url=OTHER))
    [found] = find("workers-refused", cluster(here, there))
    assert [
        (evidence.subject, evidence.detail.partition(" was")[0].partition(" were")[0]) for evidence in found.evidence
    ] == [
        ("qwen@llm/10.0.0.4:8001", "24 heartbeats from ::ffff:10.0.0.4, 10.0.0.4"),
        ("qwen@llm/[fd00::5]:3", "12 heartbeats from fd00::5"),
        ("qwen@llm/gpu-7:8001", "1 heartbeat from 10.0.0.9"),
    ]


def test_refused_heartbeats_are_the_likely_cause_of_silence_and_nothing_is_pruned() -> None:
    """Behind a proxy all workers have its address."""
    facts = cluster(controller(silent(last_heartbeat=ago(25 * 3600)), silent(port=2), **refusing(refused("10.9.9.9"))))
    found = diagnose(RULES, facts, Scope.CLUSTER)
    [likely] = [each for each in found if each.code == "workers-refused"]
    assert likely.severity is ERROR
    assert likely.summary == "heartbeats from 1 address are refused: a likely cause for what is missing"
    assert "prune" not in " ".join(each.fix for each in found)


def test_a_refused_caller_is_no_cause_where_nothing_is_missing() -> None:
    well = controller(known(), **refusing(refused("10.9.9.9"), models={"qwen@llm": counts_of([known()])}))
    for facts, number in ((cluster(well), 1), (cluster(well, wanted="qwen"), 0)):
        assert [each.severity for each in find("workers-refused", facts)] == [WARNING] * number
    [missing] = find("workers-refused", cluster(controller(**refusing(refused("10.9.9.9"))), wanted="qwen"))
    assert missing.severity is ERROR


def test_a_token_that_expired_is_renewed() -> None:
    expired = refused(reason="expired", token="gpu")
    [found] = find("workers-refused", cluster(controller(silent(), known(port=2), **refusing(expired))))
    assert found.fix == "ctl token rotate gpu --expires 90d renews it"


def test_the_refused_are_a_warning_of_the_overview() -> None:
    counts = {"qwen@llm": counts_of([silent()])}
    [found] = find("workers-refused", cluster(controller(**refusing(refused())), counts=counts))
    assert found.lines == ["12 heartbeats from 10.0.0.4 were refused, the last one 3s ago: no token [workers-refused]"]


def test_hosts_that_fall_silent_together_share_a_cause() -> None:
    """One instance on each is enough. What fell silent at another time did so for another reason."""
    rack = [silent(host=f"10.0.1.{number}", last_heartbeat=ago(300 + number)) for number in (1, 2, 3)]
    other = silent(host="10.0.2.1", last_heartbeat=ago(3600))
    [found] = find("host-silent", of(*rack, other, known()))
    assert found.summary == "3 hosts fell silent at the same time, with 3 instances"
    assert "share" in found.fix
    assert [each.keys for each in find("expired", of(*rack, other, known()))] == [(other.key,)]


def test_hosts_that_fell_silent_one_after_the_other_do_not() -> None:
    first, second = ([silent(host=host, port=port, last_heartbeat=ago(age)) for port in (1, 2)] for host, age in AGES)
    [found] = find("host-silent", of(*first, *second, known()))
    assert found.summary == "2 hosts are silent: none of their instances sends heartbeats any more"


AGES = (("10.0.1.1", 300), ("10.0.1.2", 3600))


def test_of_one_model_a_host_is_not_called_silent() -> None:
    """Its other models are not in the list."""
    facts = of(silent(), silent(port=2), known(host="10.0.0.5"), wanted="qwen")
    [found] = diagnose(RULES, facts, Scope.MODEL)
    assert (found.code, "ctl doctor" in found.fix) == ("expired", True)


def test_all_models_count_where_one_is_asked_for() -> None:
    others = {"bge@llm": counts_of([known("bge@llm")])}
    two = (silent(), silent(host="10.0.0.5"))
    for models, code in (({}, "heartbeats-stopped"), (others, "expired")):
        facts = cluster(controller(*two, status=status(models=models)), wanted="qwen")
        assert {each.code for each in diagnose(RULES, facts, Scope.MODEL)} == {"no-healthy-instance", code}


def test_a_restart_after_which_no_heartbeat_came_is_named() -> None:
    facts = cluster(controller(silent(), silent(host="10.0.0.5"), status=status(started_at=ago(280))))
    [found] = find("heartbeats-stopped", facts)
    assert str(found.evidence[1]) == f"{URL}: it was started 4m ago, with a heartbeat timeout of 60s"


def test_what_sent_heartbeats_after_a_restart_is_silent_for_another_reason() -> None:
    facts = cluster(controller(*ON_TWO_HOSTS, status=status(started_at=ago(400))), wanted="qwen")
    assert [each.code for each in diagnose(RULES, facts, Scope.MODEL)] == ["expired"]


def test_a_prune_is_advised_for_what_is_gone_for_a_day_only() -> None:
    fixes = {found.code: found.fix for found in diagnose(RULES, of(known(), *(silent(port=port) for port in range(9))))}
    assert not any("models prune" in fix for fix in fixes.values())
    [gone] = find("expired-long", of(silent(last_heartbeat=ago(25 * 3600))))
    assert gone.fix.endswith("if it is gone for good: ctl models prune --older-than 1d")
    never = silent(last_heartbeat=None, registered_at=ago(25 * 3600))
    assert find("expired-long", of(never))
    assert "prune" not in find("expired-long", cluster(controller(never, status=None)))[0].fix


def test_an_unhealthy_instance_and_what_its_address_says() -> None:
    silent = known(state=UNHEALTHY, last_heartbeat=ago(300))
    [runs] = find("expired", probed(ProbeOutcome.WORKER, silent))
    assert "a worker answers there: it runs, and its heartbeats do not reach this controller" in str(runs.evidence[0])
    [gone] = find("expired", probed(ProbeOutcome.REFUSED, silent))
    assert str(gone.evidence[0]).endswith("; seen as refused")


def test_what_dbgpts_own_controller_does_not_report_is_said() -> None:
    silent = known(state=UNHEALTHY, beat_is_local=True, last_heartbeat=datetime(2026, 1, 2, 9, 0, tzinfo=UTC))
    [found] = find("expired", cluster(controller(silent, status=None)))
    [evidence] = map(str, found.evidence)
    assert "last heartbeat at 2026-01-02 09:00:00 by the controller's own clock; or it was deregistered" in evidence
    assert "ago" not in evidence


def test_a_fix_that_dbgpts_own_controller_lacks_is_not_given() -> None:
    [found] = find("drained", cluster(controller(drained(), status=None)))
    assert "deregister REF --remove" in found.fix
    assert list(map(str, found.evidence)) == ["qwen@llm/10.0.0.4:8001: enabled is false"]


SCOPES = {
    Scope.OVERVIEW: {
        "controller-unreachable",
        *FailureCause,
        "controller-unavailable",
        "not-allowed",
        "controller-failed",
        "settings-differ",
        "separate-registries",
        "different-registries",
        "registry-not-ready",
        "registry-stale",
        "states-held",
        "no-healthy-instance",
        "registry-empty",
        "disk-full",
        "drained-after-expiry",
        "drained-long",
        "deregistered-beating",
        "workers-refused",
        "registry-degraded",
        "controller-clock",
        "controller-slow",
        "controller-leaving",
        "stock-controller",
        "auth-off",
        "auth-differs",
        "auth-log-mode",
        "tokens-file-unreadable",
        "token-expires",
        "certificate-problem",
        "certificate-expires",
    },
    Scope.LIST: {"registry-stale", "states-held", "settings-differ"},
}


@pytest.mark.parametrize("scope", SCOPES)
def test_status_and_lists_have_some_of_the_rules(scope: Scope) -> None:
    assert {rule.code for rule in RULES if scope in rule.scope} == SCOPES[scope]


def test_counts_stand_in_for_a_list_of_all_instances() -> None:
    some = [known("a@llm", state=UNHEALTHY), known("a@llm", state=UNHEALTHY), drained("a@llm")]
    counts = {"a@llm": counts_of(some), "b@llm": counts_of([known("b@llm")])}
    [found] = find("no-healthy-instance", cluster(controller(), counts=counts))
    assert found.lines == ["a@llm: no routable instance: 1 healthy (1 drained), 2 unhealthy [no-healthy-instance]"]


def test_a_fix_never_passes_a_name_for_an_option() -> None:
    counts = {"--help@llm": counts_of([known("--help@llm", state=UNHEALTHY)])}
    [found] = find("no-healthy-instance", cluster(controller(), counts=counts))
    assert found.fix == "ctl why ''\\\\'x2d-help@llm' says why"


def test_what_rests_on_a_stale_list_says_so() -> None:
    """Nobody knows what was sent while the registry was away."""
    silent = known(state=UNHEALTHY, last_heartbeat=ago(300))
    stale, _, expired = examine(of_stale(silent, wanted="qwen"), Scope.MODEL)
    assert stale.code == "registry-stale"
    assert expired.summary == "1 instance sends no heartbeats any more, as last known"
    assert str(expired.evidence[0]).endswith("last heartbeat 5m ago"), "without a number of missed ones"
    _, fresh = examine(of(silent, wanted="qwen"), Scope.MODEL)
    assert fresh.summary == "1 instance sends no heartbeats any more"
    assert "missed" in str(fresh.evidence[0])


def of_stale(*instances: KnownInstance, wanted: str) -> Facts:
    return cluster(controller(*instances, stale_since=ago(90)), wanted=wanted)


def test_an_instance_that_is_not_in_a_stale_list_may_be_registered() -> None:
    facts = of_stale(wanted="qwen")
    [_, found] = examine(facts, Scope.MODEL)
    assert found.summary == "no instance of qwen is registered, as last known"
    assert str(found.evidence[0]) == f"at {URL}: none in its last known list"
    assert exit_code(facts) == 3


def test_a_stale_list_disagrees_with_no_other() -> None:
    """What registered since is not in it, and it shows other states, on the same registry."""
    there = cluster(controller(stale_since=ago(90)), controller(known(), url=OTHER))
    assert find("controllers-disagree", there) == []


def test_of_several_reports_one_that_is_not_stale_counts() -> None:
    there = cluster(controller(known(), stale_since=ago(90)), controller(known(state=UNHEALTHY), url=OTHER))
    assert [(each.state, each.controller.url) for each in there.instances] == [(UNHEALTHY, OTHER)]
    assert not there.are_stale


def test_a_heartbeat_that_was_refused_before_the_registry_went_away() -> None:
    """Whether the worker still beats is judged by the time of the list."""
    beating = known(state=DEREGISTERED, deregistered_at=ago(150), refused_at=ago(100))
    [_, found] = examine(of_stale(beating, wanted="qwen"), Scope.MODEL)
    assert (found.code, found.summary.endswith(", as last known")) == ("deregistered-beating", True)


def test_an_instance_came_back_as_the_first_that_registered_elsewhere_afterwards() -> None:
    old = silent()
    news = [known(host=f"10.0.0.{9 - number}", registered_at=ago(age)) for number, age in enumerate((310, 250, 200))]
    [found] = find("moved", of(old, *news, known(registered_at=ago(290), port=2, host="10.0.0.9")))
    assert [str(each) for each in found.evidence] == [
        "qwen@llm/10.0.0.4:8001: silent since 5m ago; qwen@llm/10.0.0.8:8001 registered 4m ago"
    ]


def test_no_instance_came_back_as_one_that_is_only_held() -> None:
    old = known(state=UNHEALTHY, last_heartbeat=ago(300))
    new = known(host="10.0.0.9", registered_at=ago(290))
    assert len(find("moved", of(old, new))) == 1
    assert find("moved", of(old, replace(new, held=True))) == []


def test_a_model_of_which_nothing_answers_is_an_error_and_a_drain_is_no_help() -> None:
    dead = PingResult.MODEL_ERROR
    facts = pinged((known(), dead), (known("bge@llm", port=2), dead), (known("bge@llm", port=3), PingResult.OK))
    error, warning = find("healthy-but-not-answering", facts)
    assert (error.severity, [key.model_name for key in error.keys]) == (ERROR, ["qwen@llm"])
    assert error.summary == "1 instance gets requests, and does not answer a ping; no other instance of its model does"
    assert error.fix == "mend the worker, or what its model calls; then ctl models ping qwen@llm/10.0.0.4:8001"
    assert (warning.severity, [key.port for key in warning.keys]) == (WARNING, [2])
    one = "bge@llm/10.0.0.4:2"
    drain = f"ctl models drain {one} --reason ping --for 15m"
    assert warning.fix == f"ctl models ping {one}; until it answers: {drain}"


@pytest.mark.parametrize("others", [PingResult.BUSY, PingResult.NOT_ASKED, None])
def test_an_instance_of_which_nothing_is_known_may_answer(others: PingResult | None) -> None:
    [found] = find("healthy-but-not-answering", pinged((known(), PingResult.STALLED), (known(port=2), others)))
    assert found.severity is WARNING


def test_the_fix_for_many_is_the_recipe() -> None:
    dead = [(known(port=port), PingResult.STALLED) for port in range(1, 6)]
    answering = (known(port=9), PingResult.OK)
    [found] = find("healthy-but-not-answering", pinged(*dead, answering))
    assert found.fix == "ctl models ping --all -o name | ctl models drain - --reason ping --for 15m"
    facts = replace(pinged(*dead, answering), model_filter=ModelFilter.parse("qwen"))
    [found] = find("healthy-but-not-answering", facts)
    assert found.fix == "ctl models ping qwen -o name | ctl models drain - --reason ping --for 15m"


def test_dbgpts_own_controller_has_no_drain() -> None:
    one, two = known(), known(port=2)
    pings = {one.key: ping(one, PingResult.EMPTY), two.key: ping(two)}
    [found] = find("healthy-but-not-answering", cluster(controller(one, two, status=None), pings=pings))
    assert "drain" not in found.fix


def test_busy_is_no_reason_to_drain() -> None:
    [found] = find("worker-busy", pinged((known(), PingResult.BUSY)))
    assert "ctl models drain" not in found.fix


@pytest.mark.parametrize(
    ("outcome", "connect", "code"),
    [
        (ProbeOutcome.WORKER, 0.001, "healthy-but-not-answering"),
        (ProbeOutcome.SILENT, 0.001, "healthy-but-not-answering"),
        (ProbeOutcome.SILENT, None, "no-answer"),
        (ProbeOutcome.REFUSED, None, "port-closed"),
        (ProbeOutcome.OTHER, 0.001, "wrong-service"),
    ],
)
def test_one_cause_is_one_finding_though_a_probe_and_a_ping_see_it(
    outcome: ProbeOutcome, connect: float | None, code: str
) -> None:
    """A worker that is stopped accepts connections: no firewall is in the way."""
    instance = known()
    pings = {instance.key: ping(instance, PingResult.NO_ANSWER, connect=connect)}
    found = diagnose(RULES, replace(probed(outcome, instance), pings=pings), Scope.CLUSTER)
    assert [finding.code for finding in found] == [code]


LONG = 25 * 3600
BEATING: dict[str, Any] = {"state": DEREGISTERED, "deregistered_at": ago(300), "refused_at": ago(4)}
CONTROLLER = ControllerFacts.of_status(URL, status())


def forgotten(number: int) -> list[KnownInstance]:
    return [drained(port=port, since=LONG) for port in range(1, number + 1)]


@pytest.mark.parametrize("number", [1, 4, 5, 6, 50])
def test_a_sample_finds_the_same_as_all_instances(number: int) -> None:
    """But for the evidence, of which at most `most` pieces are there."""
    both = [drained(port=port, since=LONG, **BEATING) for port in range(100, 100 + number, 3)]
    others = [known(port=200), drained(port=201, since=60), known(port=202, state=DEREGISTERED, deregistered_at=ago(9))]
    instances = (*forgotten(number), *others, *both, known(port=300, **BEATING))
    sampled = sample(CONTROLLER, iter(instances), 5)
    some = overview([replace(CONTROLLER, instances=sampled.instances)], status(), sampled.left_out)
    every = overview([replace(CONTROLLER, instances=instances)], status())
    assert [(each.code, each.summary) for each in some] == [(each.code, each.summary) for each in every]
    assert {each.code for each in every} == {"drained-long", "deregistered-beating"}
    for few, whole in zip(some, every, strict=True):
        assert len(few.evidence) >= min(5, len(whole.evidence))
        assert set(few.evidence) <= set(whole.evidence)
        assert few.more == len(whole.evidence) - len(few.evidence)
    assert len(sampled.instances) <= 10


def test_a_sample_holds_nothing_that_no_rule_speaks_of() -> None:
    assert sample(CONTROLLER, (known(), drained(since=60)), 5) == ((), {})


def test_a_model_whose_instances_all_left_is_no_fault() -> None:
    counts = {
        "left@llm": counts_of([known("left@llm", state=DEREGISTERED)]),
        "silent@llm": counts_of([known("silent@llm", state=UNHEALTHY)]),
    }
    (found,) = overview([ControllerFacts.of_status(URL, status(models=counts))], status(models=counts))
    assert [each.subject for each in found.evidence] == ["silent@llm"]
