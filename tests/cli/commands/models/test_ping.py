"""`ctl models ping` with a real controller, and workers on loopback that answer or fail."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pexpect
import pytest
import yaml

from dbgpt_ctl.domain.references import reference_of
from tests.cli.schemas import validated
from tests.client.servers import black_hole, closed_port
from tests.support.fake_worker import EMBEDDINGS, METADATA, STREAM, STREAM_HEAD, FakeWorker, fake_worker, status
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run


@pytest.fixture
def worker(controller: str, run: Run) -> Iterator[FakeWorker]:
    """A living worker of three types, registered with its service instance."""
    with fake_worker() as living:
        models = ("qwen@llm", "bge@text2vec", "rank@reranker", "WorkerManager@service")
        run("models", "register", *(reference_of(living.key(model)) for model in models))
        yield living


@pytest.fixture
def dead(controller: str, run: Run) -> str:
    """The reference of an instance on whose port nothing listens; it counts as healthy."""
    reference = f"qwen@llm/127.0.0.1:{closed_port().rpartition(':')[2]}"
    run("models", "register", reference)
    return reference


def test_a_table(run: Run, worker: FakeWorker, dead: str) -> None:
    run("models", "drain", dead)
    done = run("models", "ping", "--all", expect=5)
    header, *rows = (line.split(maxsplit=10) for line in done.out.splitlines())
    assert header == ["NAME", "TYPE", "HOST", "PORT", "STATE", "RESULT", "CONNECT", "TTFT", "TOTAL", "TOKENS", "DETAIL"]
    results = {tuple(row[:6]) for row in rows}
    assert results == {
        ("qwen", "llm", "127.0.0.1", str(worker.port), "healthy", "ok"),
        ("bge", "text2vec", "127.0.0.1", str(worker.port), "healthy", "ok"),
        ("rank", "reranker", "127.0.0.1", str(worker.port), "healthy", "ok"),
        ("qwen", "llm", "127.0.0.1", dead.rpartition(":")[2], "healthy,drained", "refused"),
    }
    assert {row[9] for row in rows} == {"-"}
    assert done.err.splitlines()[-1] == "ctl: 1 of 4 instances did not answer: 1 refused"
    assert "skipped: WorkerManager@service" in done.err


def test_all_is_well(run: Run, worker: FakeWorker) -> None:
    done = run("models", "ping", "qwen")
    assert done.err == ""
    names = run("models", "ping", "qwen", "-o", "name")
    assert (names.out, names.err) == ("", "")
    assert run("models", "ping", "qwen", "--no-headers").out.startswith("qwen ")


def test_documents(run: Run, worker: FakeWorker, dead: str) -> None:
    line = ("models", "ping", reference_of(worker.key()), dead)
    found = validated("models-ping", json.loads(run(*line, "-o", "json", expect=5).out))
    ok, refused = found
    assert (ok["result"], ok["state"], ok["drained"], ok["tokens"], ok["detail"]) == (
        "ok",
        "healthy",
        False,
        None,
        None,
    )
    assert ok["ttft_secs"] <= ok["total_secs"]
    assert (refused["result"], refused["connect_secs"], refused["ttft_secs"]) == ("refused", None, None)
    read = yaml.safe_load(run(*line, "-o", "yaml", expect=5).out)
    assert [each["result"] for each in validated("models-ping", read)] == ["ok", "refused"]


def test_names_of_what_failed_go_to_a_drain(run: Run, worker: FakeWorker, dead: str) -> None:
    """A busy instance did not answer, and that is no reason to drain it."""
    worker.answers = {
        STREAM: worker.hangs(STREAM_HEAD),
        METADATA: worker.hangs(),
        EMBEDDINGS: status(500),
    }
    done = run("models", "ping", "--all", "--timeout", "800ms", "-o", "name", expect=5)
    embeddings = [reference_of(worker.key(model)) for model in ("bge@text2vec", "rank@reranker")]
    assert sorted(done.out.splitlines()) == sorted([*embeddings, dead])
    assert "4 of 4 instances did not answer: 2 model-error, 1 " in done.err


def test_a_pipeline_drains_what_does_not_answer(run: Run, worker: FakeWorker, dead: str, controller: str) -> None:
    """The recipe of the documents, in a shell."""
    ctl = " ".join(CTL)
    recipe = f"{ctl} models ping --all -o name | {ctl} models drain - --reason ping --for 15m"
    env = environment({"CONTROLLER_ADDRESS": controller})
    done = subprocess.run(recipe, shell=True, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{dead} drained until ")
    assert run("models", "list", "--state", "drained", "-o", "name").out == f"{dead}\n"
    drained = json.loads(run("models", "get", dead, "-o", "json").out)["instances"][0]["drain"]
    assert drained["reason"] == "ping"


def test_deregistered_instances_are_left_out(run: Run, worker: FakeWorker, dead: str) -> None:
    run("models", "deregister", dead)
    assert "refused" not in run("models", "ping", "qwen").out
    assert "refused" in run("models", "ping", "qwen", "--state", "deregistered", expect=5).out
    assert "refused" in run("models", "ping", dead, expect=5).out
    run("models", "deregister", reference_of(worker.key()))
    done = run("models", "ping", "qwen", expect=4)
    assert "all instances that match are deregistered" in done.err


def test_a_service_instance_is_pinged_when_it_is_asked_for(run: Run, worker: FakeWorker) -> None:
    assert "WorkerManager" in run("models", "ping", "--type", "service").out
    assert worker.paths == ["parameter/descriptions"]


def test_an_instance_that_is_not_registered(run: Run, worker: FakeWorker) -> None:
    other = f"paint@image/127.0.0.1:{worker.port}"
    done = run("models", "ping", other, "-o", "json")
    assert f"{other}: not registered" in done.err
    assert (json.loads(done.out)[0]["state"], json.loads(done.out)[0]["result"]) == (None, "ok")


def test_no_controller_is_needed_for_a_reference(run: Run, worker: FakeWorker) -> None:
    nobody = ("-a", closed_port())
    done = run("models", "ping", reference_of(worker.key()), *nobody)
    assert "the states of the instances are not known" in done.err
    assert done.out.splitlines()[1].split()[4:6] == ["-", "ok"]
    run("models", "ping", "--all", *nobody, expect=3)
    run("models", "ping", "qwen", *nobody, expect=3)


def test_a_loopback_address_of_another_machine_is_not_called(
    run: Run, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbgpt_ctl.cli.commands.models.ping._host_of", lambda _url: "ctl-1")
    done = run("models", "ping", "qwen", expect=5)
    assert "not-asked" in done.out
    assert "run ctl on the machine of the worker" in done.out
    assert run("models", "ping", "qwen", "-o", "name", expect=5).out == ""
    assert worker.requests == []


def test_an_empty_registry(run: Run, controller: str) -> None:
    assert "no instances registered" in run("models", "ping", "--all", expect=4).err


def test_verbose_shows_the_requests_with_their_trace(run: Run, worker: FakeWorker) -> None:
    lines = run("models", "ping", "qwen", "-v").err.splitlines()
    request = next(line for line in lines if STREAM in line)
    assert f"POST http://127.0.0.1:{worker.port}/api/worker/{STREAM}: 200, " in request
    assert f"DB-GPT-Trace-Span-Id: {request.rpartition('trace ')[2]}:".encode() in worker.requests[-1][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-tokens", "0"], "--max-tokens"),
        (["--max-tokens", "1001"], "--max-tokens"),
        (["--timeout", "20"], "has no unit of time"),
        (["--prompt", " "], "--prompt is empty"),
        (["--level", "all"], "'all' is not one of connect, metadata, generate"),
        (["-o", "csv"], "'csv' is not one of table"),
    ],
)
def test_wrong_usage(run: Run, worker: FakeWorker, options: list[str], message: str) -> None:
    assert message in run("models", "ping", "qwen", *options, expect=2).err
    assert worker.requests == []


def test_ctrl_c_prints_what_is_known(run: Run, worker: FakeWorker, controller: str) -> None:
    """On a terminal; a line says how far it is."""
    with black_hole() as url:
        run("models", "register", f"qwen@llm/127.0.0.1:{url.rpartition(':')[2]}")
        child = pexpect.spawn(
            CTL[0],
            [*CTL[1:], "models", "ping", "qwen", "--timeout", "10m", "-a", controller],
            env=environment({"TERM": "xterm-256color"}),
            dimensions=(24, 200),
            encoding="utf-8",
            timeout=60,
        )
        child.expect_exact("pinging 2 instances")
        child.expect_exact("pinged 1 of 2: 1 ok")
        child.sendintr()
        shown = child.read()
        child.wait()
    assert str(worker.port) in shown
    assert "interrupted: 1 of 2 have no result yet" in shown
    assert child.signalstatus == signal.SIGINT


def test_a_pipe_gets_no_status_line(worker: FakeWorker, controller: str) -> None:
    line = [*CTL, "models", "ping", "qwen", "-a", controller]
    done = subprocess.run(line, env=environment({}), capture_output=True, text=True, check=True)
    assert done.stderr == ""
