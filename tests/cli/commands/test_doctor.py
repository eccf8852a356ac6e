"""`ctl doctor`: the whole cluster on one screen, and an exit code that a cron job can use."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from tests.cli.clusters import Cluster, stock_controller
from tests.cli.diagnosis.test_probe import WORKER, answering, closed
from tests.cli.schemas import validated
from tests.support.fake_controller import fake_controller, listed
from tests.support.fake_worker import STREAM, fake_worker, stream
from tests.support.process import environment

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def doctor(run: Run, *args: str, expect: int = 0) -> dict[str, Any]:
    report = json.loads(run("doctor", *args, "-o", "json", expect=expect).out)
    validated("doctor", report)
    assert isinstance(report, dict)
    return report


def codes(report: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


def test_an_empty_registry_is_a_warning(run: Run, there: Cluster) -> None:
    assert codes(doctor(run)) == ["registry-empty"]
    assert run("doctor").lines[0] == f"1 warning: 0 models, 0 of 0 instances get requests at {there.url}"
    assert "[registry-empty]" in run("status").lines[-1]


def test_all_is_well(run: Run, there: Cluster) -> None:
    with answering(WORKER) as (worker, _):
        there.register("qwen@llm", port=worker.port)
        assert run("doctor").lines == [f"all is well: 1 model, 1 of 1 instances get requests at {there.url}"]
        assert doctor(run)["probed"] == 1


def test_a_model_that_does_not_answer_is_an_error(run: Run, there: Cluster) -> None:
    with fake_worker() as worker:
        there.register("qwen@llm", port=worker.port)
        there.register("WorkerManager@service", port=worker.port)
        report = doctor(run, "--ping")
        assert (codes(report), [ping["model_name"] for ping in report["pings"]]) == ([], ["qwen@llm"])
        worker.answers[STREAM] = stream()
        assert codes(doctor(run, "--ping", expect=1)) == ["healthy-but-not-answering"]
        assert codes(doctor(run, "--ping=metadata")) == []


def test_planned_work_is_no_warning_and_does_not_look_like_all_is_well(run: Run, there: Cluster) -> None:
    there.client.drain(there.register("qwen@llm").key, reason="new kernel")
    there.come_to_now()
    report = doctor(run, "--no-probe")
    assert (codes(report), report["errors"], report["warnings"]) == (["no-healthy-instance", "drained-unhealthy"], 0, 0)
    assert run("doctor", "--no-probe").lines[0].startswith("no errors, no warnings: 1 model, 0 of 1 instances get")


def test_errors_are_exit_1_and_first(run: Run, there: Cluster) -> None:
    there.register("old@llm", host="10.0.0.4")
    there.come_to_now()
    with closed() as gone:
        there.register("qwen@lmm", port=gone.port)
        there.register("WorkerManager@service", port=gone.port)
        report = doctor(run, "--no-probe", expect=1)
    assert codes(report) == ["no-healthy-instance", "type-typo", "expired"]
    assert (report["errors"], report["warnings"], report["models"]) == (1, 2, 3)
    assert report["findings"][0]["evidence"] == ["old@llm: no routable instance: 1 unhealthy"]


def test_a_closed_port_is_found_by_a_probe(run: Run, there: Cluster) -> None:
    with closed() as gone:
        there.register("qwen@llm", port=gone.port)
        assert codes(doctor(run, expect=1)) == ["port-closed"]
        assert codes(doctor(run, "--no-probe")) == []


def test_warnings_alone_are_no_failure(run: Run, there: Cluster) -> None:
    with answering(WORKER) as (worker, _):
        there.register("qwen@lmm", port=worker.port)
        report = doctor(run)
    assert (codes(report), report["errors"], report["warnings"]) == (["type-typo"], 0, 1)


def test_a_clock_that_is_off(run: Run) -> None:
    with stock_controller([listed("qwen@llm")]) as stock:  # which lives on another day
        report = doctor(run, "--no-probe", "-a", stock.url)
    assert codes(report) == ["clock", "stock-controller"]
    assert "behind this machine" in report["findings"][0]["evidence"][0]


def test_names_from_unknown_clients_are_escaped(run: Run) -> None:
    evil = listed("q\x1b[31m@llm", host="h\u202e", healthy=False)
    with stock_controller([evil, listed("Q\x1b[31m@llm", host="h\n", port=2)]) as stock:
        done = run("doctor", "-a", stock.url, "--no-probe", expect=1)
    assert "q\\x1b[31m@llm/h\\u202e:8001" in done.out
    assert done.out.replace("\n", "").isprintable()


def test_no_controller(run: Run) -> None:
    done = run("doctor", "-a", "http://127.0.0.1:1", expect=3)
    assert done.lines[0] == "no controller answers"


@pytest.mark.parametrize(
    ("status", "exit_code", "heading", "code"),
    [
        (401, 7, "no controller lets you in", "not-allowed"),
        (500, 1, "no controller lists its instances", "controller-failed"),
        (503, 3, "no controller can serve now", "controller-unavailable"),
    ],
)
def test_a_controller_that_answers_with_an_error(
    run: Run, status: int, exit_code: int, heading: str, code: str
) -> None:
    with fake_controller(status=status, body={"detail": "so it is"}) as fake:
        assert run("doctor", "-a", fake.url, expect=exit_code).lines[0] == heading
        assert codes(doctor(run, "-a", fake.url, expect=exit_code)) == [code]


def test_five_thousand_instances_are_one_screen(run: Run) -> None:
    many = [
        listed(f"m{number % 50}@llm", host=f"10.0.{number // 250}.{number % 250}", healthy=number % 3 > 0)
        for number in range(5000)
    ]
    with stock_controller(many) as stock:
        done = run("doctor", "--no-probe", "-a", stock.url)
    assert len(done.lines) < 24
    assert "1667 hosts fell silent at the same time, with 1667 instances" in done.out
    assert "  and 1664 more (-o json shows all)" in done.lines


@pytest.mark.parametrize(
    ("text", "mode", "found"),
    [
        ("CONTROLLER_REGISTRY_DB_PASSWORD=x\n", 0o644, ["secrets-open"]),
        ("CONTROLLER_REGISTRY_DB_PASSWORD=x\n", 0o600, []),
        ("CONTROLLER_REMOTE_ADDR=http://u:t@c\n", 0o640, ["secrets-open"]),
        ("CONTROLLER_REMOTE_ADDR=http://c\nCONTROLLER_PORT=1\n", 0o644, []),
    ],
)
def test_a_file_with_secrets_that_others_can_read(
    run: Run, there: Cluster, text: str, mode: int, found: list[str]
) -> None:
    there.register("qwen@llm")
    for name in (".env", "prod.env"):
        file = Path(name)
        file.write_text(text)
        file.chmod(mode)
    assert codes(doctor(run, "--no-probe")) == found
    report = doctor(run, "--no-probe", "--env-file", "prod.env")
    assert codes(report) == found
    assert all("chmod 600 prod.env" in finding["fix"] for finding in report["findings"])


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_on_a_terminal(there: Cluster, env: dict[str, str], coloured: bool) -> None:
    there.register("qwen3-32b-instruct-with-a-long-name@lmm", host="10.0.0.4")
    shell = pexpect.spawn(
        sys.executable,
        ["-m", "dbgpt_ctl", "doctor", "--no-probe", "-a", there.url],
        env=environment({"TERM": "xterm", **env}),
        dimensions=(24, 60),
        encoding="utf-8",
        timeout=30,
    )
    shell.expect(pexpect.EOF)
    shell.close()
    lines = re.sub(r"\x1b\[[0-9]*m", "", shell.before or "").splitlines()
    assert ("\x1b[33mwarning\x1b[0m:" in (shell.before or "")) is coloured
    assert max(map(len, lines)) <= 60
    assert shell.exitstatus == 0
