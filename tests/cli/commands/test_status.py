"""`ctl status`."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dbgpt_ctl.cli.commands.status import auth_line
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.remote import RemoteModelRegistry
from dbgpt_ctl.wire.status import Tls
from tests.cli.clusters import Cluster, stock_controller
from tests.cli.schemas import validated
from tests.cli.test_process import NOBODY, on_terminal
from tests.diagnosis.observed import NOW, auth, status
from tests.support.server import running_controller

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def warnings_of(run: Run, *args: str, key: str = "warnings") -> list[tuple[str, str]]:
    report = validated("status", json.loads(run("status", "-o", "json", *args).out))
    return [(warning["code"], warning["subject"]) for warning in report[key]]


def test_an_empty_cluster(run: Run, there: Cluster) -> None:
    lines = run("status").lines
    assert lines[0].split() == ["CONTROLLER", "STATUS", "VERSION", "UP", "FOR", "LATENCY"]
    assert lines[1].split()[:2] == [there.url, "up"]
    assert lines[3].startswith("registry: embedded, in memory only")
    assert lines[-3] == "no instances are registered"
    assert lines[-1].endswith("[registry-empty]")


@pytest.mark.parametrize(
    ("reported", "line"),
    [
        ({}, "auth: this controller does not check its callers; no https"),
        ({"auth": auth("off")}, "auth: off (from the setting), no tokens file; no https"),
        (
            {"auth": auth("enforce", tokens=12), "tls": Tls(port=8443, not_after=NOW, problem=None)},
            "auth: enforce (from the setting), 12 tokens (digest 0123456789ab); https at port 8443",
        ),
        (
            {"auth": auth("log\x1b[2J", tokens=1, digest="\x1b[1m")},
            "auth: log\\x1b[2J (from the setting), 1 token (digest \\x1b[1m); no https",
        ),
    ],
)
def test_the_line_of_the_check_of_callers(reported: dict[str, Any], line: str) -> None:
    assert auth_line(status(**reported)) == line


def test_json_has_the_outages_of_the_registry(run: Run, there: Cluster) -> None:
    gone_at = there.clock.now()
    there.be_away(90)
    (outage,) = validated("status", json.loads(run("status", "-o", "json").out))["outages"]
    assert datetime.fromisoformat(outage["gone_at"]) == gone_at


def test_counts_per_model_and_state(run: Run, there: Cluster) -> None:
    there.register("a@llm", port=1)
    there.register("a@llm", port=2)
    there.register("b@llm", port=3)
    there.client.drain(InstanceKey("a@llm", "127.0.0.1", 2))
    assert [line.split() for line in run("status").lines if line.startswith(("a@llm", "b@llm", "2 models"))] == [
        ["a@llm", "1", "-", "1", "-"],
        ["b@llm", "1", "-", "-", "-"],
        ["2", "models:", "3", "healthy", "(1", "drained)"],
    ]


def test_warnings(run: Run, there: Cluster) -> None:
    there.clock.advance(-25 * 3600)
    there.client.drain(there.register("drained@llm", port=2).key, reason="[red]")
    there.clock.advance(25 * 3600)
    there.come_to_now()
    there.register("drained@llm", port=2)
    sent = there.register("beating@llm", port=1)
    there.client.deregister(sent.key)
    there.client.heartbeat(sent)
    assert warnings_of(run) == [("deregistered-beating", "beating@llm/127.0.0.1:1")]
    assert warnings_of(run, key="info") == [
        ("no-healthy-instance", "drained@llm"),
        ("drained-long", "drained@llm/127.0.0.1:2"),
    ]
    assert run("status").lines[-2:] == [
        "info: drained@llm: no routable instance: 1 healthy (1 drained) [no-healthy-instance]",
        "info: drained@llm/127.0.0.1:2: drained 25h ago by 127.0.0.1: [red] [drained-long]",
    ]


def test_planned_work_does_not_look_like_an_outage(run: Run, there: Cluster) -> None:
    keys = [there.register("a@llm", port=port).key for port in (1, 2)]
    for key in keys:
        there.client.drain(key, duration=timedelta(days=30))
    there.come_to_now()
    there.register("a@llm", port=3)
    assert warnings_of(run) == warnings_of(run, key="info") == []
    assert run("status").lines[-3:] == [
        "MODEL  ROUTABLE  UNHEALTHY      DRAINED  DEREGISTERED",
        "a@llm  1         2 (2 drained)  2        -",
        "1 model: 1 healthy, 2 unhealthy (2 drained)",
    ]


def test_controllers_that_keep_their_own_facts_disagree(run: Run, there: Cluster) -> None:
    other = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    there.register("a@llm")
    with running_controller(other) as url:
        assert warnings_of(run, "-a", f"{there.url},{url}") == [("separate-registries", "the controllers")]


def test_a_controller_that_forwards_claims_no_timeout(run: Run, there: Cluster) -> None:
    there.register("a@llm")
    front = RemoteModelRegistry(there.url)
    with running_controller(front, remote_addr=there.url, heartbeat_timeout_secs=99) as url:
        lines = run("status", "-a", url).lines
    assert lines[3] == f"registry: remote at {there.url}, kept over restarts"


def test_one_that_is_down_is_a_warning(run: Run, there: Cluster) -> None:
    there.register("a@llm")
    done = run("status", "-a", f"{NOBODY},{there.url}")
    assert [line.split()[1] for line in done.lines[1:3]] == ["down", "up"]
    assert warnings_of(run, "-a", f"{NOBODY},{there.url}") == [("connection-refused", NOBODY)]


def test_no_controller_is_3(run: Run) -> None:
    done = run("status", "-a", NOBODY, expect=3)
    assert done.out == ""
    assert done.err.count("\n") == 1


def test_dbgpts_own_controller_has_no_status(run: Run) -> None:
    with stock_controller([]) as fake:
        err = run("status", "-a", fake.url, expect=6).err
    assert err.count("\n") == 1
    assert "has no /api/v1" in err


def test_yaml_is_the_same_document(run: Run, there: Cluster) -> None:
    there.register("a@llm")
    assert validated("status", yaml.safe_load(run("status", "-o", "yaml").out))["models"][0]["healthy"] == 1


@pytest.mark.parametrize("models", [10, 60])
@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
def test_it_fits_a_screen_and_says_what_it_left_out(there: Cluster, models: int, env: dict[str, str]) -> None:
    for number in range(models):
        there.register(f"m{number:02}@llm", port=number + 1)
    lines = on_terminal("status", "-a", there.url, columns=80, **env)
    assert len(lines) <= 22
    assert ("and 47 more models" in lines) == (models == 60)
    assert any("m09@llm" in line for line in lines)
    assert lines[-1] == f"{models} models: {models} healthy"
    assert any("\x1b[" in line for line in lines) == (not env)


def test_forty_dead_models_are_a_few_lines_of_warnings(run: Run, there: Cluster) -> None:
    for number in range(40):
        there.register(f"m{number:02}@llm", port=number + 1)
    there.come_to_now()
    lines = [line for line in run("status").lines if line.startswith("warning: ")]
    assert len([line for line in lines if "[no-healthy-instance]" in line]) == 10
    assert "warning: and 31 more [no-healthy-instance] (-o json shows all)" in lines
    assert len([code for code, _ in warnings_of(run) if code == "no-healthy-instance"]) == 40


def test_in_a_pipe_it_is_whole(run: Run, there: Cluster) -> None:
    for number in range(60):
        there.register(f"m{number:02}@llm", port=number + 1)
    assert sum("@llm" in line for line in run("status").lines) == 60
