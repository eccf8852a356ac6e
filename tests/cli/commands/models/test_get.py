"""`ctl models get`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from dbgpt_ctl.cli.commands.models.get import READ_AT_ONCE_FROM
from dbgpt_ctl.domain.instance import InstanceKey
from tests.cli.clusters import Cluster, cluster, stock_controller
from tests.cli.schemas import validated
from tests.support.fake_controller import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

KEY = InstanceKey("qwen@llm", "127.0.0.1", 8001)
REF = "qwen/127.0.0.1:8001"


@pytest.fixture
def there(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with cluster() as found:
        monkeypatch.setenv("CONTROLLER_ADDRESS", found.url)
        found.register("qwen@llm")
        yield found


def shown(run: Run) -> dict[str, str]:
    lines = [line for line in run("models", "get", REF).lines if line.startswith("  ") and line[2] != " "]
    return {line[2:19].strip(): line[19:] for line in lines}


def test_a_healthy_one(run: Run, there: Cluster) -> None:
    out = run("models", "get", REF).lines
    assert out[0] == "qwen@llm/127.0.0.1:8001"
    assert shown(run)["state"].startswith("healthy for ")
    assert out[-1].endswith("Z  absent -> healthy, register by worker 127.0.0.1")
    assert max(map(len, out)) <= 80


def test_a_drained_instance_shows_by_whom_when_and_why(run: Run, there: Cluster) -> None:
    there.client.drain(KEY, reason="[red]new driver")
    told = shown(run)
    assert told["state"].startswith("healthy for ")
    assert told["state"].endswith(", drained: gets no requests")
    assert told["drained until"] == "an undrain ends it"
    assert " ago, " in told["drained"]
    assert told["drained by"] == "127.0.0.1"
    assert told["drain reason"] == "[red]new driver"


def test_a_deregistered_one_that_still_beats(run: Run, there: Cluster) -> None:
    sent = there.register("qwen@llm")
    there.client.deregister(KEY)
    assert shown(run)["still beating"] == "no heartbeat since"
    there.client.heartbeat(sent)
    told = shown(run)
    assert told["state"].endswith(", still beating")
    assert told["still beating"].startswith("yes, last refused ")


def test_an_expired_one_and_its_flaps(run: Run, there: Cluster) -> None:
    there.come_to_now()
    told = shown(run)
    assert told["state"].startswith("unhealthy")
    assert told["state"].endswith("its last heartbeat is too old")


def test_a_removed_instance(run: Run, there: Cluster) -> None:
    there.client.deregister(KEY, remove=True)
    assert "removed" in shown(run)["state"]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_as_data(run: Run, there: Cluster, form: str) -> None:
    there.client.drain(KEY)
    out = run("models", "get", REF, "-o", form).out
    told = validated("models-get", json.loads(out) if form == "json" else yaml.safe_load(out))
    (instance,) = told["instances"]
    assert (instance["state"], instance["still_beating"]) == ("healthy", False)
    assert instance["since"] == instance["registered_at"]
    assert instance["drain"]["by"] == "127.0.0.1"
    assert [(each["new"], each["drained"]) for each in instance["events"]] == [("healthy", False), ("healthy", True)]


def test_names(run: Run, there: Cluster) -> None:
    assert run("models", "get", REF, "-o", "name").out == "qwen@llm/127.0.0.1:8001\n"


def test_an_unknown_instance_is_4_with_a_suggestion(run: Run, there: Cluster) -> None:
    done = run("models", "get", REF, "qwen/127.0.0.1:8002", "-o", "json", expect=4)
    assert len(validated("models-get", json.loads(done.out))["instances"]) == 1
    assert done.err == (
        "ctl: qwen@llm/127.0.0.1:8002: not known to the controller; did you mean qwen@llm/127.0.0.1:8001?\n"
    )


def test_dbgpts_own_controller_is_not_supported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with stock_controller([listed("qwen@llm")]) as fake:
        monkeypatch.setenv("CONTROLLER_ADDRESS", fake.url)
        err = run("models", "get", REF, expect=6).err
    assert err.count("\n") == 1
    assert err.endswith("; ctl models list qwen@llm -o wide shows what it reports\n")


def test_many_instances_take_three_requests_and_show_the_same(run: Run, there: Cluster) -> None:
    for number in range(READ_AT_ONCE_FROM):
        there.register("qwen@llm", f"10.0.0.{number}")
    there.come_to_now()
    there.client.drain(InstanceKey("qwen@llm", "10.0.0.3", 8001), reason="disk")
    few = run("models", "get", "--host", "10.0.0.3", "-o", "json")
    many = run("models", "get", "--all", "-o", "json", "-v")
    assert sum("/api/v1/" in line for line in many.err.splitlines()) == 3, many.err
    [shown] = [each for each in json.loads(many.out)["instances"] if each["host"] == "10.0.0.3"]
    assert [shown] == json.loads(few.out)["instances"]
    assert len(shown["events"]) == 3
