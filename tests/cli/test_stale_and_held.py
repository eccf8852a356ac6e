"""What the commands say while the registry is away, and while states are held after that (rules 8, 10 and 14)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.chaos.controllers import controllers
from tests.cli.clusters import AGO_SECS, TIMEOUT_SECS, Cluster
from tests.cli.schemas import validated
from tests.support.clock import ManualClock
from tests.support.database_server import private_server
from tests.support.dbgpt_process import until
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.domain.events import EventPage, EventQuery
    from dbgpt_ctl.registry.contract import Listing, Lookup
    from tests.cli.conftest import Run

FRESH, HELD, DRAINED = (f"qwen@llm/10.0.0.{number}:8001" for number in (4, 5, 6))


def registration(number: int) -> Any:
    return parse_registration({"model_name": "qwen@llm", "host": f"10.0.0.{number}", "port": 8001})


def report(run: Run, name: str, *args: str, expect: int = 0) -> Any:
    return validated(name, json.loads(run(*args, "-o", "json", "-q", expect=expect).out))


# --- held ---


@pytest.fixture
def held(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The registry was away until now. One instance has sent a heartbeat since, two are held, one of them drained."""
    clock = ManualClock(datetime.now(UTC) - timedelta(seconds=AGO_SECS))
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=timedelta(seconds=TIMEOUT_SECS), watch_absence=True)
    with running_controller(registry) as url:
        there = Cluster(url, clock, registry)
        monkeypatch.setenv("CONTROLLER_ADDRESS", url)
        with there.client as client:
            for number in (4, 5, 6):
                client.register(registration(number))
            client.drain(InstanceKey("qwen@llm", "10.0.0.6", 8001), reason="new driver")
            clock.advance(AGO_SECS)
            client.heartbeat(registration(4))
            yield there


HELD_COMMANDS = (
    ("models list", 0),
    ("models list -o wide", 0),
    ("models list -o json", 0),
    (f"models get {FRESH} {HELD}", 0),
    ("status", 0),
    ("status -o json", 0),
    ("diff -f f.json", 0),
    ("export", 0),
    ("apply -f f.json --dry-run", 0),
    ("wait qwen", 0),
    ("wait qwen --for healthy>=2 --timeout 100ms --every 10ms", 5),
    ("assert qwen", 0),
)


def a_file() -> None:
    """f.json, which declares an instance that is registered."""
    Path("f.json").write_text(json.dumps({"instances": [{"model": "qwen", "host": "10.0.0.4", "port": 8001}]}))


@pytest.mark.parametrize(("line", "code"), HELD_COMMANDS)
def test_each_command_says_once_that_states_are_held(run: Run, held: Cluster, line: str, code: int) -> None:
    a_file()
    done = run(*line.split(), expect=code)
    where, other = (done.out, done.err) if line == "status" else (done.err, "")  # the screen has its warnings
    assert (where.count("[states-held]"), other) == (1, ""), done
    assert "[registry-stale]" not in done.out + done.err
    assert "[states-held]" not in run(*line.split(), "-q", expect=code).err


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("healthy>=1", 0),
        ("healthy>=2", 5),
        ("healthy<=2", 0),
        ("healthy<2", 5),
        ("unhealthy=0", 5),
        ("unhealthy<=2", 0),
        ("drained=1", 0),
        ("absent", 5),
    ],
)
def test_a_gate_is_met_only_if_it_holds_whatever_the_held_ones_are(
    run: Run, held: Cluster, condition: str, code: int
) -> None:
    done = run("wait", "qwen", "--for", condition, "--timeout", "1ms", expect=code)
    assert "1 healthy, 1 drained, 2 unknown" in (done.out if code == 0 else done.err)


def test_assert_counts_the_held_ones_apart(run: Run, held: Cluster) -> None:
    found = report(run, "assert", "assert", "qwen", "--min-healthy", "2", expect=5)
    assert found["counts"] == {"healthy": 1, "unhealthy": 0, "drained": 1, "deregistered": 0, "unknown": 2}
    assert found["held_until"] is not None
    assert found["stale_since"] is None
    for number, verdict in ((2, "not known to be"), (3, "not")):
        err = run("assert", "qwen", "--min-healthy", str(number), expect=5).err
        assert f"ctl: {verdict} healthy>={number} of qwen: 1 healthy, 1 drained, 2 unknown\n" in err
    held.client.heartbeat(registration(5))
    assert run("assert", "qwen", "--min-healthy", "2").out == "qwen: 2 healthy, 1 drained, 1 unknown\n"


def test_what_the_documents_hold(run: Run, held: Cluster) -> None:
    a_file()
    got = report(run, "models-get", "models", "get", FRESH, HELD)
    assert got["held_until"] is not None
    assert [instance["held"] for instance in got["instances"]] == [False, True]
    status = report(run, "status", "status")
    assert status["held_until"] is not None
    assert status["models"][0]["held"] == 2
    assert report(run, "diff", "diff", "-f", "f.json")["held_until"] is not None


def test_a_table_marks_the_held_ones(run: Run, held: Cluster) -> None:
    for form in ("table", "wide"):
        states = [line.split()[4] for line in run("models", "list", "-o", form, "--no-headers").lines]
        assert states == ["healthy", "healthy,held", "healthy,drained,held"]


def test_prune_does_not_say_that_nothing_was_gone_for_long(run: Run, held: Cluster) -> None:
    done = run("models", "prune", "--older-than", "7d", "--yes", expect=3)
    assert "the registry itself was away: nothing is removed until " in done.err


def test_get_explains_a_held_state(run: Run, held: Cluster) -> None:
    state = next(line for line in run("models", "get", HELD).lines if line.startswith("  state"))
    assert state.endswith(", held: its own last heartbeat is too old, and the registry itself was away")
    assert "held" not in next(line for line in run("models", "get", FRESH).lines if line.startswith("  state"))


def test_why_acquits_no_registry_while_states_are_held(run: Run, held: Cluster) -> None:
    held.client.undrain(InstanceKey("qwen@llm", "10.0.0.6", 8001))
    done = run("why", "qwen", "--no-probe")
    assert done.lines[0] == f"qwen: 3 of 3 instances get requests at {held.url}"
    assert "2 instances are shown as they were before" in done.out
    assert "not the cause" not in done.out
    assert report(run, "doctor", "doctor", "--no-probe")["controllers"][0]["held_until"] is not None
    until("a report of the hold in health", lambda: report(run, "health", "health")[0]["status"] == "degraded")
    for number in (5, 6):
        held.client.heartbeat(registration(number))
    assert "The registry is not the cause." in run("why", "qwen", "--no-probe").out


def test_status_says_once_what_two_controllers_report_of_one_hold(run: Run, held: Cluster) -> None:
    both = f"{held.url},http://localhost:{held.url.rpartition(':')[2]}"

    def says_once() -> bool:
        out = run("status", "-a", both).out
        return out.count("[states-held]") == 1 and f"{both.replace(',', ', ')}: its registry was away" in out

    until("two answers of the same second", says_once)


# --- stale ---


class Away(EmbeddedModelRegistry):
    """A registry whose storage can be away: with a last known list, or without any."""

    away: bool = False
    knows_a_list: bool = True

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        if self.away and not self.knows_a_list:
            raise RegistryUnavailable("database db1:3306/dbgpt: Connection refused")
        listing = await super().list(model_name, healthy_only=healthy_only)
        return replace(listing, stale_since=self._clock.now()) if self.away else listing

    async def get(self, key: InstanceKey) -> Lookup | None:
        self._require()
        return await super().get(key)

    async def read_events(self, query: EventQuery) -> EventPage:
        self._require()
        return await super().read_events(query)

    def _require(self) -> None:
        if self.away:
            raise RegistryUnavailable("database db1:3306/dbgpt: Connection refused")


@pytest.fixture
def away(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Away]:
    """One healthy instance, 200 s ago; then the registry goes away."""
    clock = ManualClock(datetime.now(UTC) - timedelta(seconds=AGO_SECS))
    registry = Away(clock=clock, heartbeat_timeout=timedelta(seconds=TIMEOUT_SECS))
    with running_controller(registry) as url, ControllerClient(url) as client:
        monkeypatch.setenv("CONTROLLER_ADDRESS", url)
        client.register(registration(4))
        registry.away = True
        yield registry


STALE_COMMANDS = (
    ("models list", 0),
    ("models list -o wide", 0),
    ("models list -o json", 0),
    ("status", 0),
    ("status -o yaml", 0),
    ("diff -f f.json --allow-stale", 0),
    ("apply -f f.json --allow-stale", 0),
    ("export --allow-stale", 0),
    ("wait qwen --allow-stale", 0),
    ("wait qwen --for absent --timeout 100ms --every 10ms --allow-stale", 5),
    ("assert qwen --allow-stale", 0),
)


@pytest.mark.parametrize(("line", "code"), STALE_COMMANDS)
def test_each_command_says_once_that_its_list_is_stale(run: Run, away: Away, line: str, code: int) -> None:
    a_file()
    done = run(*line.split(), expect=code)
    where, other = (done.out, done.err) if line == "status" else (done.err, "")  # the screen has its warnings
    assert (where.count("[registry-stale]"), other) == (1, ""), done
    assert "[registry-stale]" not in run(*line.split(), "-q", expect=code).err


@pytest.mark.parametrize(
    ("line", "consequence"),
    [
        ("assert qwen", "whether qwen is healthy>=1 is not known"),
        ("wait qwen --timeout 50ms --every 10ms", "whether qwen is healthy>=1 is not known"),
        ("apply -f f.json", "nothing was changed"),
        ("export", "nothing was exported"),
        ("diff -f f.json", "whether the registry matches now is not known"),
    ],
)
def test_a_gate_does_not_rest_on_a_stale_list(run: Run, away: Away, line: str, consequence: str) -> None:
    a_file()
    done = run(*line.split(), "-q", expect=3)
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert f"its registry is away; this is what was known 3m ago; {consequence}; --allow-stale" in done.err


def test_wait_goes_on_until_the_registry_is_back(run: Run, away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    def back(_seconds: float) -> None:
        away.away = False

    monkeypatch.setattr("dbgpt_ctl.cli.commands.wait.time.sleep", back)
    done = run("wait", "qwen", "--timeout", "1h")
    assert done.out == "qwen: 1 healthy\n"
    assert done.err.count("still waiting") == 1


def test_what_the_documents_hold_of_a_stale_list(run: Run, away: Away) -> None:
    since = away._clock.now().isoformat()
    assert report(run, "assert", "assert", "qwen", "--allow-stale")["stale_since"] == since
    assert report(run, "status", "status")["stale_since"] is not None


def test_an_empty_stale_list_is_as_last_known(run: Run, away: Away) -> None:
    assert run("models", "list", "nobody").err.rstrip().endswith(", as last known")
    assert "as last known" not in run("models", "list", "nobody", "-q").err


def test_status_knows_nothing_where_no_list_can_be_had(run: Run, away: Away) -> None:
    away.knows_a_list = False
    done = run("status")
    assert "no instances" not in done.out
    assert "which instances are registered is unknown: the registry cannot be read" in done.lines
    assert report(run, "status", "status")["models"] is None
    for line in ("models list", "assert qwen", "wait qwen --timeout 1ms", "models get " + FRESH):
        assert run(*line.split(), expect=3).out == ""


def test_status_counts_are_as_last_known(run: Run, away: Away) -> None:
    assert "1 model: 1 healthy, as last known" in run("status").lines
    away.away = False
    assert "1 model: 1 healthy" in run("status").lines


def test_why_and_doctor_claim_no_state_of_now(run: Run, away: Away) -> None:
    done = run("why", "qwen", "--no-probe")
    assert done.lines[0].startswith("qwen: 1 of 1 instance gets requests at http://")
    assert done.lines[0].endswith(", as last known")
    assert "not the cause" not in done.out
    assert run("why", "nobody", "--no-probe", expect=3).lines[0].endswith(", as last known")
    assert run("doctor", "--no-probe", expect=1).lines[0].endswith(", as last known")
    found = report(run, "why", "why", "qwen", "--no-probe")
    assert found["controllers"][0]["stale_since"] is not None
    away.knows_a_list = False
    assert run("why", "qwen", "--no-probe", expect=3).lines[0] == "qwen: no controller can serve now"


# --- a real database that is stopped in the middle ---

SHORT_SECS = 10.0


@pytest.mark.skipif(missing_programs() is not None, reason=str(missing_programs()))
def test_a_database_that_stops_and_comes_back(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known, then stale, then held, then known again; every gate on the way."""
    options = ("--heartbeat-timeout-secs", f"{SHORT_SECS:g}")
    with private_server(MariaDBServer) as server, controllers(tmp_path, [server], 1, *options) as [controller]:
        monkeypatch.setenv("CONTROLLER_ADDRESS", controller.url)
        a_file()
        with ControllerClient(controller.url) as client:
            client.register(registration(4))
            registered_at = monotonic()
            assert run("assert", "qwen").out == "qwen: 1 healthy\n"
            assert run("models", "list", "-o", "name").err == ""
            server.stop()
            until("degraded", lambda: report(run, "health", "health")[0]["status"] == "degraded")
            assert "; lists are as of " in report(run, "health", "health")[0]["detail"]
            run("health", "--require", "healthy", expect=5)
            done = run("models", "list", "-o", "name")
            assert (done.out, done.err.count("[registry-stale]")) == (f"{FRESH}\n", 1)
            for line in ("assert qwen", "apply -f f.json", "diff -f f.json", "wait qwen --timeout 100ms"):
                assert "--allow-stale" in run(*line.split(), expect=3).err
            run("models", "get", FRESH, expect=3)
            assert report(run, "assert", "assert", "qwen", "--allow-stale")["counts"]["healthy"] == 1
            assert report(run, "status", "status")["stale_since"] is not None

            until("too old a heartbeat", lambda: monotonic() > registered_at + SHORT_SECS + 1)
            server.start()
            until("fresh lists", lambda: report(run, "status", "status")["stale_since"] is None)
            found = report(run, "assert", "assert", "qwen", expect=5)
            assert found["counts"] == {"healthy": 0, "unhealthy": 0, "drained": 0, "deregistered": 0, "unknown": 1}
            done = run("wait", "qwen", "--for", "unhealthy=0", "--timeout", "1ms", expect=5)
            assert "1 instance is shown as it was before [states-held]" in done.err
            assert report(run, "models-get", "models", "get", FRESH)["instances"][0]["held"] is True

            client.heartbeat(registration(4))
            done = run("assert", "qwen")
            assert (done.out, done.err) == ("qwen: 1 healthy\n", "")
