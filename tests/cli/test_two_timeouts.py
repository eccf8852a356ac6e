"""Two controllers share a database, and their heartbeat timeouts differ: what each command says of that."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy import URL, create_engine, text

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.controllers import ControllerIdentity
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.support.dbgpt_process import until
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

SHORT, LONG = 60.0, 180.0
DIFFERENCE = "heartbeat timeouts differ: 60s at http://short:8000, 180s at http://long:8000"
FIX = "choose one value, and restart the controllers that have another one with --heartbeat-timeout-secs"
WARNING = (
    "the controllers have heartbeat timeouts of 60s and 180s, so not all of them route to the same instances; "
    "ctl status shows which controller has which [settings-differ]"
)
REFERENCE = "qwen@llm/10.0.0.4:8001"
COMMANDS = (
    ("models list", 0),
    ("models list --healthy-only", 0),
    ("models list -o json", 0),
    (f"models get {REFERENCE}", 0),
    ("models get --all", 0),
    ("diff -f f.json", 0),
    ("export", 0),
    ("assert qwen", 0),
    ("wait qwen --for healthy>=2 --timeout 50ms --every 10ms", 5),
)


class Pair(NamedTuple):
    short: str
    long: str
    database: URL

    @property
    def both(self) -> str:
        return f"{self.long},{self.short}"

    def register(self, *, beat_ago: float) -> None:
        """An instance whose last heartbeat is that many seconds old."""
        with ControllerClient(self.long) as client:
            client.register(parse_registration({"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}))
        engine = create_engine(self.database)
        moved = f"strftime('%Y-%m-%d %H:%M:%f', last_heartbeat, '-{beat_ago} seconds') || '000'"
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE ctl_instance SET last_heartbeat = {moved}"))
        engine.dispose()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both know each other."""
    database = URL.create("sqlite", database=str(tmp_path / "ctl.db"))
    urls = {}
    with ExitStack() as stack:
        for name, secs in (("short", SHORT), ("long", LONG)):
            registry = DatabaseModelRegistry(
                database,
                heartbeat_timeout=timedelta(seconds=secs),
                watch_absence=True,
                identity=ControllerIdentity(name, "0.1.0", f"http://{name}:8000"),
            )
            urls[name] = stack.enter_context(running_controller(registry, heartbeat_timeout_secs=secs))
        clients = [stack.enter_context(ControllerClient(url)) for url in urls.values()]
        until("acquaintance", lambda: all(len(each.status().controllers) == 2 for each in clients))
        yield Pair(urls["short"], urls["long"], database)


def report(run: Run, *args: str, expect: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*args, "-o", "json", expect=expect).out)
    return found


def test_every_command_names_both_values_and_both_addresses(run: Run, pair: Pair) -> None:
    pair.register(beat_ago=0)
    for url in (pair.short, pair.long):  # each of them knows
        status = report(run, "status", "-a", url)
        assert [(warning["code"], warning["detail"]) for warning in status["warnings"]] == [
            ("settings-differ", f"{DIFFERENCE}; {FIX}")
        ]
        assert {each["address"]: each["heartbeat_timeout_secs"] for each in status["living_controllers"]} == {
            "http://short:8000": SHORT,
            "http://long:8000": LONG,
        }
        assert f"warning: {DIFFERENCE}; {FIX} [settings-differ]" in run("status", "-a", url).lines
        [health] = json.loads(run("health", "-a", url, "-o", "json").out)
        assert (health["http_status"], health["detail"]) == (200, DIFFERENCE)
        for command in (["doctor"], ["why", "qwen"]):
            [finding] = report(run, *command, "--no-probe", "-a", url)["findings"]
            assert (finding["code"], finding["severity"]) == ("settings-differ", "warning")
            assert finding["evidence"] == [f"{DIFFERENCE}; {FIX}"]


def test_why_does_not_acquit_the_registry_while_one_controller_would_not_route(run: Run, pair: Pair) -> None:
    pair.register(beat_ago=SHORT + 10)
    done = run("why", "qwen", "--no-probe", "-a", pair.both)
    assert done.lines[0] == f"qwen: 0 of 1 instance get requests at {pair.long}, {pair.short}"
    assert "not the cause" not in done.out
    [disagree, _] = report(run, "why", "qwen", "--no-probe", "-a", pair.both)["findings"]
    assert (disagree["code"], disagree["severity"]) == ("states-disagree", "error")
    assert disagree["evidence"] == [
        f"qwen@llm/10.0.0.4:8001: healthy at {pair.long} (timeout 180s), unhealthy at {pair.short} (timeout 60s)"
    ]
    assert report(run, "doctor", "--no-probe", "-a", pair.both, expect=1)["get_requests"] == 0


def test_why_does_not_acquit_the_registry_for_the_controllers_that_it_did_not_ask(run: Run, pair: Pair) -> None:
    pair.register(beat_ago=SHORT + 10)
    done = run("why", "qwen", "--no-probe", "-a", pair.long)
    assert done.lines[0] == f"qwen: 1 of 1 instance gets requests at {pair.long}"
    assert DIFFERENCE in done.out
    assert "not the cause" not in done.out


@pytest.mark.parametrize(("line", "code"), COMMANDS)
def test_what_rests_on_a_list_warns_once_and_asks_no_more_for_it(run: Run, pair: Pair, line: str, code: int) -> None:
    pair.register(beat_ago=0)
    Path("f.json").write_text(json.dumps({"instances": [{"model": "qwen", "host": "10.0.0.4", "port": 8001}]}))
    done = run(*line.split(), "-a", pair.long, "-v", expect=code)
    assert done.err.count(f"warning: {WARNING}") == 1
    assert "/api/v1/status" not in done.err
    assert "settings-differ" not in run(*line.split(), "-a", pair.long, "-q", expect=code).err


@pytest.mark.parametrize(
    ("condition", "code"),
    [("healthy>=1", 5), ("healthy=0", 5), ("healthy<=1", 0), ("unhealthy>=1", 5), ("unhealthy=0", 5), ("absent", 5)],
)
def test_a_gate_is_met_only_if_it_is_met_at_every_controller(run: Run, pair: Pair, condition: str, code: int) -> None:
    pair.register(beat_ago=SHORT + 10)
    for url in (pair.short, pair.long):
        done = run("wait", "qwen", "--for", condition, "--timeout", "1ms", "-a", url, expect=code)
        assert "1 unknown" in (done.out if code == 0 else done.err)


@pytest.mark.parametrize("beat_ago", [SHORT - 30, LONG + 10])
def test_an_instance_of_which_all_controllers_think_the_same_is_known(run: Run, pair: Pair, beat_ago: float) -> None:
    pair.register(beat_ago=beat_ago)
    code, state = (0, "healthy") if beat_ago < SHORT else (5, "unhealthy")
    for url in (pair.short, pair.long):
        assert run("assert", "qwen", "-a", url, expect=code).out == f"qwen: 1 {state}\n"


def test_the_last_instance_to_which_every_controller_routes_is_not_drained(run: Run, pair: Pair) -> None:
    pair.register(beat_ago=SHORT + 10)
    with ControllerClient(pair.long) as client:
        client.register(parse_registration({"model_name": "qwen@llm", "host": "10.0.0.5", "port": 8001}))
    done = run("models", "drain", "qwen@llm/10.0.0.5:8001", "--dry-run", "-a", pair.long, expect=2)
    assert "qwen@llm would have no routable instance" in done.err
    run("models", "drain", REFERENCE, "--dry-run", "-a", pair.long)
