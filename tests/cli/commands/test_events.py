"""`ctl events`, and how it follows."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.domain.events import EXPIRED, Actor, ActorKind, Cause, Change
from dbgpt_ctl.domain.instance import InstanceKey
from tests.cli.clusters import Cluster, stock_controller
from tests.cli.schemas import validated
from tests.cli.test_process import on_terminal
from tests.support.process import CTL, environment, start

if TYPE_CHECKING:
    from tests.cli.conftest import Run

KEY = InstanceKey("qwen@llm", "127.0.0.1", 8001)


def test_the_table(run: Run, there: Cluster) -> None:
    there.register("qwen@llm")
    there.client.drain(KEY, reason="new driver")
    lines = [re.split(r"  +", line)[1:] for line in run("events").lines]
    assert lines == [
        ["INSTANCE", "CHANGE", "CAUSE"],
        ["qwen@llm/127.0.0.1:8001", "absent -> healthy", "register by worker 127.0.0.1"],
        ["qwen@llm/127.0.0.1:8001", "drained", "drain by operator 127.0.0.1: new driver"],
    ]


def test_states_are_in_colour_on_a_terminal(there: Cluster) -> None:
    there.register("qwen@llm")
    there.client.drain(KEY)
    shown = "\n".join(on_terminal("events", "-a", there.url, columns=200))
    assert "\x1b[33mdrained\x1b[0m" in shown
    assert "\x1b" not in "".join(on_terminal("events", "-a", there.url, columns=200, NO_COLOR="1"))


def test_json_is_an_array_of_the_apis_objects(run: Run, there: Cluster) -> None:
    assert run("events", "-o", "json").out == "[]\n"
    there.register("qwen@llm")
    (event,) = validated("events", json.loads(run("events", "-o", "json").out))
    assert (event["old"], event["new"], event["actor"]) == ("absent", "healthy", "worker")


def test_outages_of_the_registry_are_rows_among_all_events(run: Run, there: Cluster) -> None:
    there.register("a@llm")
    there.clock.advance(1)
    gone_at = there.clock.now()
    there.be_away(90)
    there.register("b@llm")
    back_at = gone_at + timedelta(seconds=90)
    table = [re.split(r"  +", line) for line in run("events").lines[1:]]
    assert [row[1] for row in table] == ["a@llm/127.0.0.1:8001", "registry", "b@llm/127.0.0.1:8001"]
    time, _, change, until = table[1]
    assert (time, change) == (f"{gone_at:%Y-%m-%dT%H:%M:%SZ}", "unavailable")
    assert f"until {back_at:%Y-%m-%dT%H:%M:%SZ}; states were held until " in until
    for args, rows in [(["--limit", "2"], 2), (["--limit", "1"], 1), (["--since", "2h"], 3), (["--since", "30s"], 0)]:
        assert len(run("events", *args).lines[1:]) == rows
    for args in (["a"], ["--by", "worker"]):
        assert "unavailable" not in run("events", *args).out
    assert len(validated("events", json.loads(run("events", "-o", "json").out))) == 2


def chosen(run: Run, *args: str) -> list[int]:
    return [each["port"] for each in json.loads(run("events", *args, "-o", "json").out)]


@pytest.mark.parametrize(
    ("args", "ports"),
    [
        ([], [1, 2, 3]),
        (["a"], [1, 2]),
        (["a@reranker"], [2]),
        (["a/127.0.0.1:1"], [1]),
        (["--limit", "2"], [2, 3]),
        (["a", "--limit", "1"], [2]),
        (["--limit", "0"], []),
        (["--by", "worker"], [1, 2, 3]),
        (["a", "--by", "expiry"], []),
        (["--by", "anna"], []),
        (["--since", "1m"], [3]),
        (["--since", "2h"], [1, 2, 3]),
    ],
)
def test_which_events(run: Run, there: Cluster, args: list[str], ports: list[int]) -> None:
    there.register("a@llm", port=1)
    there.register("a@reranker", port=2)
    there.come_to_now()
    there.register("b@llm", port=3)
    told = json.loads(run("events", *args, "-o", "json").out)
    assert [each["port"] for each in told if each["verb"] != "expire"] == ports or args == ["--limit", "2"]
    assert len(told) <= 2 or args != ["--limit", "2"]


def test_since_a_time(run: Run, there: Cluster) -> None:
    there.register("a@llm", port=1)
    assert chosen(run, "--since", "2020-01-01T00:00:00Z") == [1]
    assert chosen(run, "--since", "2099-01-01T00:00:00+02:00") == []


def test_none_is_no_error(run: Run, there: Cluster) -> None:
    done = run("events", "qwen")
    assert (done.out, done.err) == ("", "ctl: no events of 'qwen'\n")


def churn(there: Cluster) -> None:
    """So many changes of one instance that most of them are forgotten, behind a drain by anna."""
    log, now = there.registry._state.log, there.clock.now()
    drain = Cause("drain", Actor(ActorKind.OPERATOR, "10.0.0.9", "anna"))
    log.extend([Change(now, KEY._replace(model_name="glm4@llm"), "healthy", "healthy", drain, drained=True)])
    log.extend([Change(now + timedelta(milliseconds=n), KEY, "healthy", "unhealthy", EXPIRED) for n in range(11_593)])


def test_what_is_no_longer_kept_is_not_shown_as_nothing(run: Run, there: Cluster) -> None:
    churn(there)
    done = run("events", "nobody", "--since", "1h")
    assert re.fullmatch(
        r"ctl: some events before \S+ are no longer kept, except those of operators\nctl: no events of 'nobody'\n",
        done.err,
    )
    assert "no longer kept" in run("events", "nobody").err, "fewer than the limit"
    assert run("events", "--limit", "5").err == "", "all that were asked for"
    assert run("events", "--since", "1s").err == "ctl: no events\n", "of that time all are kept"


def test_what_a_person_did_is_found_behind_the_churn_of_a_model(run: Run, there: Cluster) -> None:
    churn(there)
    for args in (["--by", "anna"], ["--by", "operator", "--since", "1h"], ["glm4@llm", "--since", "2h"], ["glm4"]):
        (line,) = run("events", *args).lines[1:]
        assert "drain by operator anna (10.0.0.9)" in line
    assert run("events", "--by", "operator", "--since", "1h").err == ""


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--since", "yesterday"], "yesterday"),
        (["--since", "2026-01-02T12:00:00"], "no time zone"),
        (["--limit", "-1"], "-1"),
        (["--limit", "many"], "many"),
        (["a/h:0"], "port 0"),
        (["two@at@llm"], "two@at@llm"),
        (["-o", "yaml"], "yaml"),
    ],
)
def test_wrong_usage(run: Run, there: Cluster, args: list[str], named: str) -> None:
    assert named in run("events", *args, expect=2).err


def test_dbgpts_own_controller_is_not_supported(run: Run) -> None:
    with stock_controller([]) as fake:
        err = run("events", "-a", fake.url, expect=6).err
    assert err.count("\n") == 1
    assert "has no /api/v1/events" in err


def test_following_prints_past_and_new_events(there: Cluster) -> None:
    there.register("qwen@llm")
    with start("events", "-f", "-o", "json", "-a", there.url) as process:
        assert process.stdout
        assert process.stderr
        first = validated("events-follow", json.loads(process.stdout.readline()))
        there.client.drain(KEY)
        second = validated("events-follow", json.loads(process.stdout.readline()))
        assert (second["new"], second["drained"], second["id"]) == ("healthy", True, first["id"] + 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert process.stderr.read() == ""


def test_following_ends_as_soon_as_its_reader_is_gone(there: Cluster) -> None:
    """Not with the next event: there may be none."""
    there.register("qwen@llm")
    command = ["bash", "-c", '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', "-", *CTL, "events", "-f", "-a", there.url]
    done = subprocess.run(
        command, env=environment({}), capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout.splitlines()[1:] == ["141"]
    assert done.stderr == ""


def test_following_goes_on_at_a_controller_that_started_anew(run: Run, tmp_path: Any) -> None:
    """Its registry in memory numbers anew: each event of the new one is told, and that some may be missing."""
    from tests.support.ports import free_port

    port = free_port()

    def controller() -> Any:
        return start("serve", "--port", str(port), cwd=tmp_path)

    with controller() as first:
        url = f"http://127.0.0.1:{port}"
        run("wait", "--controller", "-a", url, "--timeout", "30s")
        run("models", "register", "a/h:1", "-a", url)
        with start("events", "-f", "-o", "json", "-a", url) as follower:
            assert follower.stdout
            assert follower.stderr
            assert json.loads(follower.stdout.readline())["port"] == 1
            first.kill()
            first.wait()
            assert "waiting until one answers" in follower.stderr.readline()
            with controller() as second:
                run("wait", "--controller", "-a", url, "--timeout", "30s")
                run("models", "register", "b/h:2", "-a", url)
                run("models", "register", "c/h:3", "-a", url)
                assert [json.loads(follower.stdout.readline())["port"] for _ in range(2)] == [2, 3]
                follower.send_signal(signal.SIGINT)
                assert follower.wait(60) == -signal.SIGINT
                rest = follower.stderr.read()
                assert "answers again" in rest
                assert "some events may be missing here" in rest
                second.kill()
