"""`ctl models list --watch` in a pipe, against both kinds of controller."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.domain.instance import InstanceKey
from tests.cli.clusters import Cluster, cluster, stock_controller
from tests.cli.schemas import validated
from tests.cli.test_process import NOBODY
from tests.support.fake_controller import listed
from tests.support.process import CTL, environment, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

KEY = InstanceKey("qwen@llm", "127.0.0.1", 8001)
WATCH = ["models", "list", "--watch"]


@pytest.fixture
def there() -> Iterator[Cluster]:
    with cluster() as found:
        found.come_to_now()
        found.register("qwen@llm")
        yield found


class Stream:
    """Lines of a running watch."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def object(self) -> dict[str, Any]:
        told = validated("models-list-watch", json.loads(self.line()))
        assert isinstance(told, dict)
        return told

    def said(self) -> str:
        assert self.process.stderr
        return self.process.stderr.readline()


@contextmanager
def watching(*args: str) -> Iterator[Stream]:
    """Ends it with Ctrl-C, which has to be silent."""
    with start(*WATCH, *args) as process:
        yield Stream(process)
        assert process.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert process.stderr.read() == ""


def test_in_a_pipe_a_line_for_each_instance_then_for_each_change(there: Cluster) -> None:
    with watching("-a", there.url) as lines:
        assert lines.line().split()[1:] == ["qwen@llm/127.0.0.1:8001", "healthy"]
        there.client.drain(KEY, reason="why")
        assert re.split(r"  +", lines.line())[1:] == [
            "qwen@llm/127.0.0.1:8001",
            "drained",
            "drain by operator 127.0.0.1: why",
        ]
        there.register("b@llm", port=2)
        assert " absent -> healthy " in lines.line()


def test_json_is_an_object_a_line(there: Cluster) -> None:
    with watching("-a", there.url, "-o", "json") as lines:
        first, synced = lines.object(), lines.object()
        assert (first["type"], first["state"], first["instance"]["flaps"]) == ("instance", "healthy", 0)
        assert (synced["type"], synced["instances"]) == ("synced", 1)
        there.client.deregister(KEY)
        change = lines.object()
        assert (change["type"], change["old"], change["new"]) == ("change", "healthy", "deregistered")
        assert (change["verb"], change["actor"]) == ("deregister", "worker")


def test_names_of_changed_instances(there: Cluster) -> None:
    with watching("-a", there.url, "-o", "name") as lines:
        assert lines.line() == "qwen@llm/127.0.0.1:8001"
        there.register("b@llm", port=2)
        assert lines.line() == "b@llm/127.0.0.1:2"


@pytest.mark.parametrize("args", [["--host", "127.0.0.1"], ["qwen"]])
def test_only_matching_instances_are_printed(there: Cluster, args: list[str]) -> None:
    other = there.register("other@llm", "10.0.0.4", 2).key
    with watching("-a", there.url, *args) as lines:
        assert " qwen@llm/127.0.0.1:8001 " in lines.line()
        there.client.drain(other)
        there.client.drain(KEY)
        assert " qwen@llm/127.0.0.1:8001  drained " in lines.line()


@pytest.mark.parametrize(
    ("args", "listed_at_first", "changed"),
    [
        (["--healthy-only"], ["qwen@llm"], ["qwen@llm drain", "other@llm undrain", "other@llm deregister"]),
        (["--state", "drained"], ["other@llm"], ["qwen@llm drain", "other@llm undrain"]),
        (
            ["--state", "healthy"],
            ["other@llm", "qwen@llm"],
            ["qwen@llm drain", "other@llm undrain", "other@llm deregister"],
        ),
        (["--state", "deregistered"], [], ["other@llm deregister"]),
    ],
)
def test_an_instance_that_matches_before_or_after_a_change_is_printed(
    there: Cluster, args: list[str], listed_at_first: list[str], changed: list[str]
) -> None:
    other = there.register("other@llm", "10.0.0.4", 2).key
    there.client.drain(other)
    with watching("-a", there.url, "-o", "json", *args) as lines:
        first = [lines.object() for _ in range(len(listed_at_first) + 1)]
        there.client.drain(KEY)
        there.client.undrain(other)
        there.client.deregister(other)
        changes = [lines.object() for _ in changed]
    assert [each["model_name"] for each in first if each["type"] == "instance"] == listed_at_first
    assert [f"{each['model_name']} {each['verb']}" for each in changes] == changed


def test_dbgpts_own_controller_is_polled() -> None:
    with stock_controller([listed("a@llm"), listed("b@llm", port=2)]) as fake:
        with watching("-a", fake.url, "--every", "20ms", "-o", "json") as lines:
            assert [lines.object()["type"] for _ in range(3)] == ["instance", "instance", "synced"]
            fake.body = [listed("a@llm", healthy=False), listed("c@llm")]
            changes = [lines.object() for _ in range(3)]
            fake.body = [listed("a@llm", healthy=False), listed("c@llm", enabled=False)]
            drained = lines.object()
        assert [(each["model_name"], each["old"], each["new"], each["verb"]) for each in changes] == [
            ("a@llm", "healthy", "unhealthy", None),
            ("b@llm", "healthy", "absent", None),
            ("c@llm", "absent", "healthy", None),
        ]
        assert (drained["model_name"], drained["old"], drained["new"], drained["drained"]) == (
            ("c@llm", "healthy", "healthy", True)
        )


def test_an_outage_of_a_polled_controller_is_reported_once() -> None:
    with stock_controller([listed("a@llm")]) as fake, watching("-a", fake.url, "--every", "10ms") as lines:
        assert "a@llm" in lines.line()
        fake.status = 503
        assert "waiting until one answers" in lines.said()
        fake.status, fake.body = 200, []
        assert "answers again" in lines.said()
        assert lines.line().endswith(" a@llm/10.0.0.4:8001  healthy -> absent")


def test_dbgpts_own_controller_does_not_report_deregistered_instances(run: Run) -> None:
    with stock_controller([]) as fake:
        assert "/api/v1" in run(*WATCH, "--state", "deregistered", "-a", fake.url, expect=6).err


def test_no_controller_at_the_start_is_3(run: Run) -> None:
    done = run(*WATCH, "-a", NOBODY, expect=3)
    assert (done.out, done.err.count("\n")) == ("", 1)


def test_it_ends_as_soon_as_its_reader_is_gone(there: Cluster) -> None:
    command = ["bash", "-c", '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', "-", *CTL, *WATCH, "-a", there.url]
    done = subprocess.run(
        command, env=environment({}), capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout.splitlines()[1:] == ["141"]
    assert done.stderr == ""
