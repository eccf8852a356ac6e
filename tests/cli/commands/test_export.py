"""`ctl export`: what it writes for `ctl apply`, and what it says; against a real controller, and invented ones."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.cli.schemas import validated
from tests.support.fake_controller import listed

if TYPE_CHECKING:
    from tests.cli.clusters import Cluster
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

HEADER = "# Instances for `ctl apply -f`, written by `ctl export`.\n"


def entries(run: Run, *args: str, expect: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(run("export", *args, expect=expect).out)["instances"]
    return found


def hosts(run: Run, *args: str) -> list[str]:
    return [entry["host"] for entry in entries(run, *args)]


@pytest.fixture
def filled(controller: str) -> str:
    """One of each: plain, weighted, drained with and without an end, unchecked, a service, deregistered."""
    with ControllerClient(controller) as client:
        sent: list[dict[str, Any]] = [
            {},
            {"weight": 2.0, "prompt_template": "chat"},
            {},
            {"enabled": False},
            {"check_healthy": False},
            {"model_name": "WorkerManager@service"},
            {},
        ]
        for number, facts in enumerate(sent):
            client.register(registration(number, **facts))
        client.drain(key(2), reason="GPU 3: new driver", duration=timedelta(hours=2))
        client.deregister(key(6))
    return controller


def key(number: int) -> InstanceKey:
    return InstanceKey("qwen@llm", f"10.0.0.{number}", 8001)


def registration(number: int, model_name: str = "qwen@llm", **facts: Any) -> Registration:
    return Registration(key(number)._replace(model_name=model_name), **facts)


def test_the_file_of_a_cluster(run: Run, filled: str) -> None:
    done = run("export")
    until = yaml.safe_load(done.out)["instances"][3]["drain"]["until"]
    assert done.out == HEADER + (
        "instances:\n"
        "- model: WorkerManager@service\n  host: 10.0.0.5\n  port: 8001\n"
        "- model: qwen@llm\n  host: 10.0.0.0\n  port: 8001\n"
        "- model: qwen@llm\n  host: 10.0.0.1\n  port: 8001\n  weight: 2.0\n  prompt_template: chat\n"
        "- model: qwen@llm\n  host: 10.0.0.2\n  port: 8001\n"
        f"  drain:\n    reason: 'GPU 3: new driver'\n    until: '{until}'\n"
        "- model: qwen@llm\n  host: 10.0.0.3\n  port: 8001\n  enabled: false\n"
        "- model: qwen@llm\n  host: 10.0.0.4\n  port: 8001\n  check_healthy: false\n"
    )
    assert done.err == "ctl: 1 instance left out: unhealthy or deregistered; --all exports them too\n"
    assert run("export", "-q").err == ""
    assert run("export").out == done.out


def test_the_same_as_json(run: Run, filled: str) -> None:
    document = validated("export", json.loads(run("export", "-o", "json").out))
    assert document["instances"] == entries(run)


def test_all_exports_what_gets_no_requests_and_warns(run: Run, filled: str) -> None:
    done = run("export", "--all")
    assert "10.0.0.6" in done.out
    assert done.err == (
        "ctl: warning: unhealthy or deregistered in the file: 1 instance; apply registers what is absent, which counts "
        "as one heartbeat, so it gets requests until the heartbeat timeout\n"
    )


def test_filters(run: Run, filled: str) -> None:
    assert hosts(run, "WorkerManager@service") == ["10.0.0.5"]
    assert hosts(run, "--type", "service") == ["10.0.0.5"]
    assert hosts(run, "qwen", "--host", "10.0.0.1") == ["10.0.0.1"]
    done = run("export", "nobody")
    assert done.out == f"{HEADER}instances: []\n"
    assert done.err == f"ctl: no instances of nobody to export at {filled}\n"


def test_a_drain_survives_while_its_worker_is_away(run: Run, there: Cluster) -> None:
    for number in (4, 5):
        there.register("qwen@llm", f"10.0.0.{number}")
    there.client.drain(key(4), reason="new disk")
    there.come_to_now()
    assert entries(run) == [
        {"model": "qwen@llm", "host": "10.0.0.4", "port": 8001, "drain": {"reason": "new disk"}},
    ]


def test_what_is_exported_can_be_applied(run: Run, filled: str) -> None:
    Path("f.yaml").write_text(run("export", "-q").out)
    assert "unchanged" in run("apply", "-f", "f.yaml").out
    assert run("diff", "-f", "f.yaml").out == ""


# --- DB-GPT's own controller ---


def test_duplicates_of_dbgpts_controller_are_folded(run: Run, fake: FakeController) -> None:
    fake.body = [
        listed("qwen@llm", weight=1.0, healthy=False),
        listed("qwen@llm", weight=2.0, last_heartbeat="2026-01-02T11:59:40.1"),
        listed(" qwen@llm", weight=3.0, last_heartbeat="2026-01-02T11:59:50.1"),
        listed("bge@text2vec", enabled=False, check_healthy=False),
        listed("gone@llm", healthy=False),
    ]
    done = run("export")
    assert yaml.safe_load(done.out)["instances"] == [
        {"model": "bge@text2vec", "host": "10.0.0.4", "port": 8001, "enabled": False, "check_healthy": False},
        {"model": "qwen@llm", "host": "10.0.0.4", "port": 8001, "weight": 3.0},
    ]
    folded, *others = done.err.splitlines()
    assert folded == (
        f"ctl: 2 duplicate rows left out: {fake.url} lists an instance more than once; a routable row of it counts, "
        "else the one with the latest heartbeat"
    )
    assert others == [
        "ctl: 1 instance left out: unhealthy or deregistered; --all exports them too",
        f"ctl: {fake.url} does not report reasons and ends of drains: it is DB-GPT's own, or older",
    ]


def test_what_apply_would_refuse_is_left_out_and_the_exit_code_says_so(run: Run, fake: FakeController) -> None:
    fake.body = [listed("qwen@llm"), listed("qwen"), listed("\x1b[2Jq@llm", port=0), listed("q@llm", weight=-1)]
    done = run("export", "-q", expect=5)
    assert [entry["model"] for entry in yaml.safe_load(done.out)["instances"]] == ["q@llm", "qwen@llm"]
    assert done.err.splitlines() == [
        "ctl: qwen@/10.0.0.4:8001 left out: model_name 'qwen' is not NAME@TYPE with exactly one '@', as in qwen@llm",
        "ctl: \\x1b[2Jq@llm/10.0.0.4:0 left out: model_name '\\x1b[2Jq@llm' holds control or invisible characters",
        "ctl: q@llm/10.0.0.4:8001 exported without its weight: -1 is negative",
    ]


def test_many_that_are_left_out_are_counted(run: Run, fake: FakeController) -> None:
    fake.body = [listed("qwen", host=f"h{number}") for number in range(25)]
    lines = run("export", expect=5).err.splitlines()
    assert len(lines) == 22
    assert lines[20] == "ctl: and 5 more"


def test_without_an_answer_nothing_is_written(run: Run, fake: FakeController) -> None:
    fake.status, fake.body = 503, {"detail": "the database is away"}
    done = run("export", expect=3)
    assert done.out == ""
    assert len(done.err.splitlines()) == 1


def test_what_an_export_does_not_bring_back(run: Run, controller: str) -> None:
    """As docs/operating.md says of the way back."""
    drained, removed, new = (f"qwen@llm/10.0.0.{number}:8001" for number in (1, 2, 3))
    run("models", "register", drained, removed)
    Path("backup.yaml").write_text(run("export").out)
    run("models", "drain", drained)
    run("models", "register", new)
    assert run("diff", "-f", "backup.yaml").out == ""
    assert run("diff", "-f", "backup.yaml", "--prune", expect=5).out.startswith(f"- {new}")
    run("models", "deregister", removed)
    assert f"ctl models register {removed}" in run("diff", "-f", "backup.yaml", expect=5).err
