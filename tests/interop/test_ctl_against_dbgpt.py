"""This project's command line tool against DB-GPT's own controller."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey, Registration
from dbgpt_ctl.errors import NotSupported
from tests.support.dbgpt_cluster import Controller, Lab, start_dbgpt_controller, start_worker
from tests.support.dbgpt_process import until
from tests.support.ports import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI

pytestmark = pytest.mark.interop

API_KEYS = [
    "model_name",
    "host",
    "port",
    "weight",
    "check_healthy",
    "healthy",
    "enabled",
    "prompt_template",
    "last_heartbeat",
]


class Ctl:
    """`ctl` with DB-GPT's controller as its address."""

    def __init__(self, lab: Lab, url: str) -> None:
        self.lab = lab
        self.url = url

    def __call__(self, *args: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.lab.ctl(*args, CONTROLLER_ADDRESS=self.url)
        assert done.returncode == exit_code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def listed(self, *args: str) -> list[dict[str, Any]]:
        objects: list[dict[str, Any]] = json.loads(self("models", "list", *args, "-o", "json").stdout)
        return objects


@pytest.fixture(scope="module")
def ctl(newest: Release, new_lab: NewLab) -> Iterator[Ctl]:
    with new_lab("dbgpt") as lab:
        yield Ctl(lab, start_dbgpt_controller(lab, newest))


def test_health(ctl: Ctl) -> None:
    assert ctl.url in ctl("health").stdout
    assert ctl.url in ctl("health", "--all", "--address", ctl.url).stdout


def test_register_then_list_in_every_format(ctl: Ctl) -> None:
    ctl("models", "register", "THUDM/glm 4+5&6%@llm/127.0.0.1:9001", "--weight", "2", "--prompt-template", "chatml")
    (listed,) = ctl.listed("THUDM/glm 4+5&6%")
    wanted = {
        "model_name": "THUDM/glm 4+5&6%@llm",
        "host": "127.0.0.1",
        "port": 9001,
        "weight": 2.0,
        "prompt_template": "chatml",
    }
    assert listed | wanted | {"healthy": True, "enabled": True} == listed
    assert ctl("models", "list", "THUDM/glm 4+5&6%", "-o", "name").stdout == "THUDM/glm 4+5&6%@llm/127.0.0.1:9001\n"
    for form in ("table", "wide", "yaml", "csv"):
        assert "THUDM/glm 4+5&6%" in ctl("models", "list", "-o", form).stdout


def test_a_heartbeat_registers_and_a_deregister_makes_unhealthy(ctl: Ctl) -> None:
    reference = "beaten@text2vec/127.0.0.1:9002"
    ctl("models", "heartbeat", reference)
    assert [instance["healthy"] for instance in ctl.listed("beaten")] == [True]
    ctl("models", "deregister", reference)
    assert [instance["healthy"] for instance in ctl.listed("beaten")] == [False]
    full = ctl("models", "list", "beaten", "-o", "json", "--full")
    assert json.loads(full.stdout) == ctl.listed("beaten")
    assert "reports only DB-GPT's nine keys" in full.stderr
    assert ctl("models", "list", "beaten", "-o", "csv", "--no-headers").stdout.endswith("," * 11 + "\n")
    assert "unhealthy" in ctl("models", "list", "beaten").stdout
    assert ctl("wait", "beaten", "--for", "deregistered", exit_code=6).stdout == ""
    assert ctl.listed("beaten", "--healthy-only") == []
    ctl("models", "deregister", reference, "--remove")
    assert ctl.listed("beaten") == []


def test_many_are_deregistered_at_once(ctl: Ctl) -> None:
    references = [f"many@llm/127.0.0.1:{port}" for port in (9010, 9011, 9012)]
    for reference in references:
        ctl("models", "register", reference)
    ctl("models", "deregister", *references, "--remove")
    assert ctl.listed("many") == []


def test_a_deregister_of_an_unknown_instance_answers_true(ctl: Ctl) -> None:
    """The tool cannot know that it was unknown: exit 0. With this project's controller the exit code is 4."""
    ctl("models", "deregister", "nobody@llm/127.0.0.1:9999")


def test_an_empty_list_is_a_success(ctl: Ctl) -> None:
    assert ctl.listed("nobody") == []


def test_wrong_usage_is_found_before_any_request(ctl: Ctl) -> None:
    ctl("models", "register", "two@at@llm/127.0.0.1:9001", exit_code=2)
    ctl("models", "register", "qwen@llm/127.0.0.1:70000", exit_code=2)


def test_an_absent_controller_exits_3(ctl: Ctl) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for command in (["models", "list"], ["health"], ["models", "heartbeat", "qwen@llm/127.0.0.1:9001"]):
        done = ctl(*command, "--address", nobody, exit_code=3)
        assert nobody in done.stderr + done.stdout


def test_ctl_serve_in_front_of_it(ctl: Ctl) -> None:
    """Keys that DB-GPT's controller adds to the nine are not passed on: they break older clients."""
    front = Controller(ctl.lab, ctl.url, name="front").start()
    reference = "behind a front@llm/127.0.0.1:9003"
    ctl("models", "register", reference, "--address", front.url)
    assert [instance["healthy"] for instance in ctl.listed("behind a front")] == [True]
    assert front.instances()[reference].keys() == set(API_KEYS)
    ctl("models", "deregister", reference, "--address", front.url)
    assert [instance["healthy"] for instance in ctl.listed("behind a front")] == [False]
    assert reference not in front.instances(healthy_only="true")


def test_a_real_worker_is_listed(ctl: Ctl, newest: Release, openai: FakeOpenAI) -> None:
    worker = start_worker(ctl.lab, newest, ctl.url, openai.base)
    names = until("worker", lambda: _names(ctl, worker.model, worker.service), worker.process)
    assert {worker.model, worker.service} <= names


def _names(ctl: Ctl, *wanted: str) -> set[str]:
    names = set(ctl("models", "list", "--healthy-only", "-o", "name").stdout.splitlines())
    return names if names.issuperset(wanted) else set()


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_a_verb_that_it_lacks_is_one_line(ctl: Ctl, verb: str) -> None:
    done = ctl("models", verb, "qwen@llm/10.0.0.4:8001", exit_code=6)
    assert "has no /api/v1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_it_cannot_drain_at_a_register_and_would_answer_true(ctl: Ctl, tmp_path: Path) -> None:
    """It ignores fields that it does not know, so a drain in the body of a register would get a `true` and requests."""
    sent = Registration(InstanceKey("to-drain@llm", "127.0.0.1", 9004))
    with ControllerClient(ctl.url) as client, pytest.raises(NotSupported, match="has no /api/v1/register"):
        client.register(sent, drain=DrainRequest("disk"))
    file = tmp_path / "instances.json"
    entry = {"model": "to-drain", "host": "127.0.0.1", "port": 9004, "drain": {"reason": "disk"}}
    file.write_text(json.dumps({"instances": [entry]}))
    assert "cannot drain" in ctl("apply", "-f", str(file), exit_code=6).stderr
    assert ctl.listed("to-drain") == []
    body = {**sent.key._asdict(), "enabled": False, "drain": {"reason": "disk"}}
    answer = httpx.post(f"{ctl.url}/api/controller/models", json=body, trust_env=False)
    assert (answer.status_code, answer.json()) == (200, True)
    query = {"model_name": sent.key.model_name, "healthy_only": "true"}
    (routable,) = httpx.get(f"{ctl.url}/api/controller/models", params=query, trust_env=False).json()
    assert routable["enabled"] is False, "API servers get it all the same"
