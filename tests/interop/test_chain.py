"""A whole cluster over this controller: fake OpenAI <- real worker <- real API server <- HTTP."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.dbgpt_cluster import Controller, Lab, Worker, reference, start_api_server, start_worker
from tests.support.dbgpt_openai import MODEL, FakeOpenAI, answer_to
from tests.support.dbgpt_process import get, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release

pytestmark = pytest.mark.interop


@dataclass
class Cluster:
    lab: Lab
    release: Release
    controller: Controller
    worker: Worker
    api: str

    def chat(self, question: str, *, stream: bool = False) -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "stream": stream}
        return httpx.post(f"{self.api}/chat/completions", json=body, trust_env=False, timeout=30)

    def dbgpt(self, *args: str) -> str:
        """The output of `dbgpt model ...` with this project's controller as its address."""
        done = self.lab.dbgpt(self.release, self.controller.url, "model", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def cluster(release: Release, registry: str, new_lab: NewLab, openai: FakeOpenAI) -> Iterator[Cluster]:
    with new_lab("chain") as lab:
        controller = Controller(lab, registry).start()
        worker = start_worker(lab, release, controller.url, openai.base)
        server, api = start_api_server(lab, release, controller.url)
        until("worker", lambda: controller.beats(worker.model, worker.service), controller.process, worker.process)
        until("API server", lambda: get(f"{api}/models"), server)
        yield Cluster(lab, release, controller, worker, api)


def test_ctl_lists_the_model_and_its_service_as_healthy(cluster: Cluster) -> None:
    done = cluster.lab.ctl("models", "list", "--address", cluster.controller.url, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    assert {reference(instance) for instance in listed} == {cluster.worker.model, cluster.worker.service}
    assert [(instance["healthy"], instance["enabled"]) for instance in listed] == [(True, True)] * 2


def test_ctl_healthy_only_names_are_the_references(cluster: Cluster) -> None:
    done = cluster.lab.ctl("models", "list", "--healthy-only", "-o", "name", CONTROLLER_ADDRESS=cluster.controller.url)
    assert (done.returncode, set(done.stdout.split())) == (0, {cluster.worker.model, cluster.worker.service})


def test_the_api_server_offers_the_model(cluster: Cluster) -> None:
    offered = get(f"{cluster.api}/models")
    assert offered is not None
    assert [model["id"] for model in offered["data"]] == [MODEL]


def test_a_question_is_answered_through_the_chain(cluster: Cluster, openai: FakeOpenAI) -> None:
    question = f"how are you, {cluster.worker.port}?"
    reply = cluster.chat(question)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == answer_to(question)
    assert question in openai.questions


def test_an_answer_is_streamed(cluster: Cluster, openai: FakeOpenAI) -> None:
    question = f"stream to me, {cluster.worker.port}, 请"
    reply = cluster.chat(question, stream=True)
    assert reply.status_code == 200, reply.text
    events = re.findall(r"^data: (.+)$", reply.text, re.MULTILINE)
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event)["choices"][0]["delta"].get("content") for event in events[:-1]]
    words = [piece for piece in pieces if piece]
    assert "".join(words) == answer_to(question)
    assert len(words) > 1
    assert question in openai.questions


def test_the_error_of_an_unknown_model_lists_the_known_ones(cluster: Cluster) -> None:
    body = {"model": "nobody", "messages": [{"role": "user", "content": "hello"}]}
    reply = httpx.post(f"{cluster.api}/chat/completions", json=body, trust_env=False, timeout=30)
    assert reply.status_code == 400
    assert f"Only {MODEL} allowed now" in reply.text


def test_dbgpt_model_list_shows_the_worker(cluster: Cluster) -> None:
    rows = _table(cluster.dbgpt("list"))
    port = str(cluster.worker.port)
    assert [row[:6] for row in rows] == [
        ["WorkerManager", "service", "127.0.0.1", port, "True", "True"],
        [MODEL, "llm", "127.0.0.1", port, "True", "True"],
    ]
    assert [row[:2] for row in _table(cluster.dbgpt("list", "--model_name", MODEL))] == [[MODEL, "llm"]]


def test_ctl_deregisters_and_registers_a_model_whose_worker_runs(cluster: Cluster) -> None:
    """The worker goes on sending heartbeats, which must not revive an instance that an operator deregistered."""
    controller, worker = cluster.controller, cluster.worker
    assert cluster.lab.ctl("models", "deregister", worker.model, "--address", controller.url).returncode == 0
    refused = f"{worker.model} is deregistered, still beating"
    log = controller.process.log
    until("refused beat", lambda: refused in log.read_text(encoding="utf-8"), controller.process, worker.process)
    assert controller.instances()[worker.model]["healthy"] is False
    assert cluster.chat("anybody there?").status_code == 400

    assert cluster.lab.ctl("models", "register", worker.model, "--address", controller.url).returncode == 0
    assert cluster.chat("back again?").status_code == 200


def test_a_worker_survives_the_restart_of_the_controller(cluster: Cluster, registry: str) -> None:
    """In memory all instances are lost, and the next heartbeats bring them back. In a database nothing is lost."""
    controller, worker = cluster.controller, cluster.worker
    assert controller.process.terminate() == 0
    controller.start()
    if registry == "sqlite":
        assert set(controller.instances()) == {worker.model, worker.service}
    until("beat of the model", lambda: controller.beats(worker.model), controller.process, worker.process)
    until("answer", lambda: cluster.chat("still there?").status_code == 200, controller.process, worker.process)
    until(
        "beat of the service",
        lambda: controller.beats(worker.model, worker.service),
        controller.process,
        worker.process,
    )


def test_dbgpt_model_stop_removes_the_model_and_start_brings_it_back(cluster: Cluster, openai: FakeOpenAI) -> None:
    """`stop` sends an empty remove flag, which DB-GPT's own controller refuses. The model's heartbeats end too."""
    where = ["--model_name", MODEL, "--host", "127.0.0.1", "--port", str(cluster.worker.port)]
    cluster.dbgpt("stop", *where)
    listed = cluster.controller.instances()
    assert (listed[cluster.worker.model]["healthy"], listed[cluster.worker.service]["healthy"]) == (False, True)
    assert cluster.chat("anybody there?").status_code == 400

    cluster.dbgpt(
        "start", *where, "--name", MODEL, "--provider", "proxy/openai", "--api_base", openai.base, "--api_key", "none"
    )
    assert cluster.controller.beats(cluster.worker.model)
    assert cluster.chat("back again?").json()["choices"][0]["message"]["content"] == answer_to("back again?")


def _table(text: str) -> list[list[str]]:
    """The rows that DB-GPT's `model list` printed, without the heading, in order."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows
    assert rows[0][:2] == ["Model Name", "Model Type"]
    return rows[1:]
