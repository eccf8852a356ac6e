"""`ctl models ping` asks real workers: whose model answers, and whose fails in each way that was seen.

After each failure the worker lives and serves, and its backend, which may be paid for, saw few requests.
With CTL_PING_REPORT=FILE each case is appended to FILE as a line of JSON, with its time.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.domain.ping_results import PingResult
from tests.support.dbgpt import CHECKOUT
from tests.support.dbgpt_backend import Backend, Fault, running_backend
from tests.support.dbgpt_cluster import Controller, Lab, Worker, reference, start_worker
from tests.support.dbgpt_openai import MODEL
from tests.support.dbgpt_process import until
from tests.support.ports import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release

pytestmark = pytest.mark.interop

TIMEOUT = "20s"
"""Longer than the three attempts of a worker at a backend that refuses and its wait after a 429, on a busy machine."""
SHORT_TIMEOUT = "3s"
"""Where no answer comes."""
NOT_ANSWERED = 5
REFUSED = 5
SLOTS = 2
MOST_REQUESTS = {"llm": 3, "text2vec": 1, "reranker": 1}
"""What one ping may cost at the backend: a worker tries a chat three times."""
PATHS = {"llm": "/v1/chat/completions", "text2vec": "/v1/embeddings", "reranker": "/v1/relevance"}
OK, EMPTY, ERROR, BUSY = PingResult.OK, PingResult.EMPTY, PingResult.MODEL_ERROR, PingResult.BUSY
RESULTS = {
    Fault.NONE: {"llm": OK, "text2vec": OK, "reranker": OK},
    Fault.DOWN: {"llm": ERROR, "text2vec": ERROR, "reranker": ERROR},
    Fault.HUNG: {"llm": PingResult.STALLED, "text2vec": BUSY, "reranker": BUSY},
    Fault.RATE_LIMITED: {"llm": ERROR, "text2vec": ERROR, "reranker": ERROR},
    Fault.WRONG_KEY: {"llm": ERROR, "text2vec": ERROR, "reranker": ERROR},
    Fault.FAILING: {"llm": ERROR, "text2vec": ERROR, "reranker": ERROR},
    Fault.HTML: {"llm": EMPTY, "text2vec": ERROR, "reranker": ERROR},
    Fault.EMPTY: {"llm": EMPTY, "text2vec": EMPTY, "reranker": ERROR},
}


@dataclass
class Pinged:
    """A controller, and a worker of each type over one backend."""

    release: Release
    lab: Lab
    controller: Controller
    backend: Backend
    workers: dict[str, Worker]

    @property
    def llm(self) -> Worker:
        return self.workers["llm"]

    def run_ping(self, *args: str, timeout: str) -> subprocess.CompletedProcess[str]:
        return self.lab.ctl("models", "ping", *args, "--timeout", timeout, "--address", self.controller.url)

    def ping(self, case: str, *args: str, timeout: str = TIMEOUT) -> dict[str, dict[str, Any]]:
        """The answers of `ctl models ping`, by reference. Its exit code is 5 if one did not answer."""
        began = monotonic()
        done = self.run_ping(*args, "-o", "json", timeout=timeout)
        seconds = monotonic() - began
        assert done.returncode in (0, NOT_ANSWERED), f"{done.stdout}\n{done.stderr}"
        answers = {reference(ping): ping for ping in json.loads(done.stdout)}
        failed = [ping for ping in answers.values() if ping["result"] != OK]
        assert done.returncode == (NOT_ANSWERED if failed else 0)
        self._report(case, seconds, answers)
        return answers

    def ping_silent(self, case: str, instance: str) -> dict[str, Any]:
        """The answer about an instance from which none comes."""
        return self.ping(case, instance, timeout=SHORT_TIMEOUT)[instance]

    @contextmanager
    def busy(self) -> Iterator[None]:
        """As many chats as the LLM has slots, which wait for the backend."""
        self.backend.switch(Fault.HUNG)
        url = f"http://127.0.0.1:{self.llm.port}/api/worker/generate_stream"
        body = {"model": MODEL, "messages": [{"role": "human", "content": "hello"}], "echo": False}
        with ExitStack() as stack:
            stack.callback(self.backend.switch, Fault.NONE)
            for _ in range(SLOTS):
                client = stack.enter_context(httpx.Client(trust_env=False, timeout=30))
                stack.enter_context(client.stream("POST", url, json=body))
            yield

    def register(self, stack: ExitStack, instance: str) -> str:
        """Registers an instance by hand, until the stack ends."""
        address = ("--address", self.controller.url)
        done = self.lab.ctl("models", "register", instance, *address)
        assert done.returncode == 0, done.stderr
        stack.callback(self.lab.ctl, "models", "deregister", instance, "--remove", *address)
        return instance

    def serves(self, kind: str) -> bool:
        """Whether the worker answers a request as an API server sends it."""
        bodies: dict[str, dict[str, Any]] = {
            "llm": {"messages": [{"role": "human", "content": "hello"}], "echo": False},
            "text2vec": {"input": ["x"]},
            "reranker": {"worker_type": "reranker", "query": "q", "input": ["x"]},
        }
        path = "generate_stream" if kind == "llm" else "embeddings"
        url = f"http://127.0.0.1:{self.workers[kind].port}/api/worker/{path}"
        reply = httpx.post(url, json={"model": MODEL, **bodies[kind]}, trust_env=False, timeout=30)
        return reply.status_code == 200 and ("You said: hello" in reply.text or kind != "llm")

    def assert_all_serve(self) -> None:
        for kind, worker in self.workers.items():
            assert worker.process.runs
            assert self.serves(kind), worker.process.tail()

    def _report(self, case: str, seconds: float, answers: dict[str, dict[str, Any]]) -> None:
        if file := os.environ.get("CTL_PING_REPORT"):
            row = {"release": self.release.version, "case": case, "command_seconds": round(seconds, 2)}
            with Path(file).open("a", encoding="utf-8") as report:
                report.writelines(json.dumps(row | answer) + "\n" for answer in answers.values())


@pytest.fixture(scope="module")
def pinged(release: Release, new_lab: NewLab) -> Iterator[Pinged]:
    with new_lab("ping") as lab, running_backend() as backend:
        controller = Controller(lab, "embedded").start()
        workers = {
            kind: start_worker(lab, release, controller.url, backend.base, kind, kind=kind, slots=SLOTS, blockable=True)
            for kind in PATHS
        }
        models = [worker.model for worker in workers.values()]
        until(
            "workers", lambda: controller.beats(*models), *(worker.process for worker in workers.values()), seconds=120
        )
        yield Pinged(release, lab, controller, backend, workers)


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_of_the_backend(pinged: Pinged, fault: Fault) -> None:
    backend = pinged.backend
    backend.switch(fault)
    before = len(backend.requests)
    try:
        models = (worker.model for worker in pinged.workers.values())
        answers = pinged.ping(fault.value, *models, timeout=SHORT_TIMEOUT if fault is Fault.HUNG else TIMEOUT)
        seen = backend.requests[before:]
    finally:
        backend.switch(Fault.NONE)
    results = {kind: answers[worker.model]["result"] for kind, worker in pinged.workers.items()}
    assert results == RESULTS[fault]
    assert all(seen.count(path) <= MOST_REQUESTS[kind] for kind, path in PATHS.items()), seen
    pinged.assert_all_serve()


def test_a_stopped_worker(pinged: Pinged) -> None:
    with pinged.llm.stopped():
        ping = pinged.ping_silent("SIGSTOP", pinged.llm.model)
    assert ping["result"] == PingResult.NO_ANSWER
    assert (ping["connect_secs"] is None, ping["ttft_secs"]) == (False, None)
    pinged.assert_all_serve()


def test_a_blocked_event_loop(pinged: Pinged) -> None:
    with pinged.llm.blocked():
        ping = pinged.ping_silent("blocked loop", pinged.llm.model)
    assert ping["result"] == PingResult.NO_ANSWER
    pinged.assert_all_serve()


def test_all_slots_taken(pinged: Pinged) -> None:
    """Their requests go on: a ping takes no slot from them, and they are no reason to drain the worker."""
    before = len(pinged.backend.requests)
    with pinged.busy():
        until("requests in all slots", lambda: len(pinged.backend.requests) == before + SLOTS)
        ping = pinged.ping_silent("all slots taken", pinged.llm.model)
        names = pinged.lab.ctl(
            "models",
            "ping",
            pinged.llm.model,
            "--timeout",
            SHORT_TIMEOUT,
            "-o",
            "name",
            "--address",
            pinged.controller.url,
        )
        assert len(pinged.backend.requests) == before + SLOTS
    assert ping["result"] == BUSY
    assert (names.stdout, names.returncode) == ("", NOT_ANSWERED)
    pinged.assert_all_serve()


def test_what_is_not_there(pinged: Pinged) -> None:
    """Another server on the port, a closed port, a name and a type that the worker does not serve."""
    port, other = pinged.llm.port, pinged.controller.port
    with ExitStack() as stack:
        expected = {
            pinged.register(stack, f"{MODEL}@llm/127.0.0.1:{other}"): PingResult.NOT_A_WORKER,
            pinged.register(stack, f"{MODEL}@llm/127.0.0.1:{free_port()}"): PingResult.REFUSED,
            pinged.register(stack, f"qwen@llm/127.0.0.1:{port}"): PingResult.NOT_SERVED,
            pinged.register(stack, f"{MODEL}@reranker/127.0.0.1:{port}"): PingResult.NOT_SERVED,
            pinged.llm.service: PingResult.OK,
        }
        before = len(pinged.backend.requests)
        answers = pinged.ping("not there", *expected)
    assert {name: answer["result"] for name, answer in answers.items()} == expected
    assert len(pinged.backend.requests) == before
    pinged.assert_all_serve()


@pytest.mark.parametrize("level", ["connect", "metadata"])
def test_the_lower_levels_do_not_see_a_dead_backend(pinged: Pinged, level: str) -> None:
    pinged.backend.switch(Fault.DOWN)
    try:
        models = [worker.model for worker in pinged.workers.values()]
        answers = pinged.ping(f"backend down, level {level}", *models, "--level", level)
    finally:
        pinged.backend.switch(Fault.NONE)
    assert [answer["result"] for answer in answers.values()] == [OK] * len(answers)


@dataclass
class Twins:
    """Two workers of one model, each with a backend: that of the second is down."""

    lab: Lab
    controller: Controller
    workers: tuple[Worker, Worker]
    backends: tuple[Backend, Backend]

    @property
    def dead(self) -> Worker:
        return self.workers[1]

    def ctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.lab.ctl(*args, "--address", self.controller.url)

    def drained(self) -> list[dict[str, Any]]:
        """The drained instances, with all facts."""
        done = self.ctl("models", "list", "--full", "--state", "drained", "-o", "json")
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def report(self, *args: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ctl(*args, "-o", "json").stdout)
        return found

    def reset(self) -> None:
        for backend, fault in zip(self.backends, (Fault.NONE, Fault.DOWN), strict=True):
            backend.switch(fault)
        self.ctl("models", "undrain", *(worker.model for worker in self.workers))


@pytest.fixture(scope="module")
def running_twins(newest: Release, new_lab: NewLab) -> Iterator[Twins]:
    with new_lab("twins") as lab, running_backend() as one, running_backend() as two:
        controller = Controller(lab, "embedded").start()
        first, second = (
            start_worker(lab, newest, controller.url, backend.base, name)
            for backend, name in ((one, "lives"), (two, "dead"))
        )
        until(
            "workers", lambda: controller.beats(first.model, second.model), first.process, second.process, seconds=120
        )
        yield Twins(lab, controller, (first, second), (one, two))


@pytest.fixture
def twins(running_twins: Twins) -> Twins:
    running_twins.reset()
    return running_twins


RECIPE = "ctl models ping --all -o name | ctl models drain - --reason ping --for 15m"
"""As the documents and the help of `ctl models ping` have it."""


def run_recipe(twins: Twins) -> tuple[int, int, str]:
    """The exit codes of both sides of the pipe, and all output of the shell."""
    done = twins.lab.shell(f"{RECIPE}; echo ${{PIPESTATUS[@]}}", CONTROLLER_ADDRESS=twins.controller.url)
    *lines, codes = done.stdout.splitlines()
    ping, drain = map(int, codes.split())
    return ping, drain, "\n".join(lines) + done.stderr


def test_the_recipe_drains_what_does_not_answer(twins: Twins) -> None:
    """It never takes the last instance of a model, even where that is dead too: then a drain is no help."""
    assert RECIPE in twins.ctl("models", "ping", "--help").stdout
    assert RECIPE in (CHECKOUT / "docs" / "operating.md").read_text().splitlines()
    ping, drain, output = run_recipe(twins)
    assert (ping, drain) == (NOT_ANSWERED, 0), output
    [drained] = twins.drained()
    assert (reference(drained), drained["drain"]["reason"]) == (twins.dead.model, "ping")
    assert drained["drain"]["until"] is not None
    twins.backends[0].switch(Fault.DOWN)
    ping, drain, output = run_recipe(twins)
    assert (ping, drain) == (NOT_ANSWERED, REFUSED)
    assert "would have no routable instance" in output
    assert [reference(instance) for instance in twins.drained()] == [twins.dead.model]


def test_a_model_that_failed_as_a_whole_does_not_keep_others_from_being_drained(twins: Twins) -> None:
    alone = f"qwen@llm/127.0.0.1:{free_port()}"
    assert twins.ctl("models", "register", alone).returncode == 0
    ping, drain, output = run_recipe(twins)
    assert (ping, drain) == (NOT_ANSWERED, REFUSED), output
    assert f"{alone}: not drained: qwen@llm would have no routable instance" in output
    assert [reference(instance) for instance in twins.drained()] == [twins.dead.model], output
    assert twins.ctl("models", "deregister", alone, "--remove", "--force").returncode == 0


def test_the_recipe_does_nothing_where_all_answer(twins: Twins) -> None:
    twins.backends[1].switch(Fault.NONE)
    ping, drain, output = run_recipe(twins)
    assert (ping, drain, twins.drained()) == (0, 0, []), output


@pytest.mark.parametrize("command", [("why", MODEL), ("doctor",)], ids=" ".join)
def test_why_and_doctor_ping(twins: Twins, command: tuple[str, ...]) -> None:
    """Without --ping nothing shows that half of all chats fail."""
    for option in ((), ("--ping=metadata",)):
        assert twins.report(*command, *option)["findings"] == []
    [found] = twins.report(*command, "--ping")["findings"]
    assert (found["code"], found["severity"]) == ("healthy-but-not-answering", "warning")
    assert [key["port"] for key in found["instances"]] == [twins.dead.port]
    assert "Connection error" in found["evidence"][0]
    text = twins.ctl(*command, "--ping")
    assert (text.returncode, "The registry is not the cause" in text.stdout) == (0, False)
    twins.backends[0].switch(Fault.DOWN)
    assert twins.ctl("doctor", "--ping").returncode == 1
    [found] = twins.report(*command, "--ping")["findings"]
    assert (found["severity"], len(found["instances"]), "drain" in found["fix"]) == ("error", 2, False)
