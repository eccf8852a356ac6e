"""`ctl why`: real controllers, real sockets; what an operator reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import Registration
from dbgpt_ctl.registry.remote import RemoteModelRegistry
from tests.cli.clusters import Cluster, cluster, stock_controller
from tests.cli.diagnosis.test_probe import WORKER, answering, closed
from tests.cli.schemas import validated
from tests.cli.test_process import on_terminal
from tests.support.fake_controller import fake_controller, listed
from tests.support.fake_worker import FRAME, STREAM, fake_worker, record, stream
from tests.support.process import ctl
from tests.support.server import running_controller

if TYPE_CHECKING:
    from tests.cli.conftest import Run

NOBODY = "http://127.0.0.1:1"


def why(run: Run, *args: str, expect: int = 0) -> dict[str, Any]:
    report = json.loads(run("why", *args, "-o", "json", expect=expect).out)
    validated("why", report)
    assert isinstance(report, dict)
    return report


def codes(report: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


def test_all_is_well(run: Run, there: Cluster) -> None:
    with answering(WORKER) as (one, _), answering(WORKER) as (two, _):
        there.register("qwen@llm", port=one.port)
        there.register("qwen@llm", port=two.port)
        done = run("why", "qwen")
        report = why(run, "qwen")
    assert done.lines == [
        f"qwen: 2 of 2 instances get requests at {there.url}",
        "",
        "The registry is not the cause. If DB-GPT still finds no worker instances, look at the API server:",
        f"  is its controller_addr one of {there.url}?",
        "  does it ask for exactly qwen@llm? (it adds @llm to the name of a chat request)",
        "  does its environment set http_proxy, and no_proxy without the controller?",
        "If the API server finds an instance and its requests fail, ask the workers: ctl why qwen --ping",
    ]
    assert (report["instances"], report["get_requests"], report["probed"], codes(report)) == (2, 2, 2, [])


def test_a_controller_that_forwards_does_not_acquit_those_behind_it(run: Run, there: Cluster) -> None:
    there.register("qwen@llm")
    with running_controller(RemoteModelRegistry(there.url)) as url:
        done = run("why", "qwen", "--no-probe", "-a", url)
    assert "not the cause" not in done.out
    assert done.lines[-1] == f"them with ctl why qwen -a {there.url}"


def test_an_unknown_name(run: Run, there: Cluster) -> None:
    there.register("qwen3@text2vec")
    done = run("why", "Qwen3@llm", expect=4)
    assert done.err == "ctl: no controller knows Qwen3@llm\n"
    assert done.lines == [
        f"Qwen3@llm: no instance is registered at {there.url}",
        "",
        "error: no instance of Qwen3@llm is registered [not-registered]",
        f"  at {there.url}: none",
        "  registered is qwen3@text2vec",
        "  fix: use one name in workers and clients; did you mean qwen3@text2vec?",
    ]


def test_one_that_is_gone_and_has_a_past(run: Run, there: Cluster) -> None:
    sent = there.register("qwen@llm")
    there.client.deregister(sent.key, remove=True)
    report = why(run, "qwen")
    assert codes(report) == ["not-registered"]
    assert report["findings"][0]["evidence"][-1].endswith(
        "qwen@llm/127.0.0.1:8001 healthy -> absent, deregister by worker 127.0.0.1"
    )


def test_unhealthy_instances_that_are_drained_are_planned(run: Run, there: Cluster) -> None:
    for port in (1, 2):
        there.client.drain(there.register("qwen@llm", port=port).key, reason="new kernel")
    there.come_to_now()
    there.register("qwen@llm", port=3)
    report = why(run, "qwen", "--no-probe")
    assert [(finding["severity"], finding["summary"]) for finding in report["findings"]] == [
        ("info", "2 unhealthy instances are drained: planned")
    ]


def test_drained_with_who_when_and_why(run: Run, there: Cluster) -> None:
    sent = there.register("qwen@llm")
    there.client.drain(sent.key, reason="gpu swap")
    done = run("why", "qwen", "--no-probe")
    assert done.lines == [
        f"qwen: 0 of 1 instance get requests at {there.url}",
        "",
        "info: 1 instance is drained: it gets no requests [drained]",
        "  qwen@llm/127.0.0.1:8001: drained 3m ago by 127.0.0.1: gpu swap",
        "  fix: ctl models undrain qwen@llm/127.0.0.1:8001",
    ]


def test_expired_and_the_worker_is_gone_too(run: Run, there: Cluster) -> None:
    with closed() as gone:
        there.register("qwen@llm", port=gone.port)
        there.come_to_now()
        error, found = why(run, "qwen")["findings"]
    assert (error["code"], error["severity"], found["code"]) == ("no-healthy-instance", "error", "expired")
    assert found["evidence"] == [
        (
            f"qwen@llm/127.0.0.1:{gone.port}: last heartbeat 3m ago, 10 missed (one every 20s); "
            "nothing listens there, seen from here"
        )
    ]


def test_deregistered_and_still_beating(run: Run, there: Cluster) -> None:
    there.come_to_now()
    sent = there.register("qwen@llm")
    there.client.deregister(sent.key)
    assert codes(why(run, "qwen", "--no-probe")) == ["deregistered"]
    assert there.client.heartbeat(sent) is False
    [found] = why(run, "qwen", "--no-probe")["findings"]
    assert (found["code"], found["severity"]) == ("deregistered-beating", "error")
    assert found["fix"] == "ctl models register qwen@llm/127.0.0.1:8001, or restart the worker"


def test_a_closed_port_and_a_wrong_service(run: Run, there: Cluster) -> None:
    with closed() as gone, answering(b"HTTP/1.1 404 Not Found\r\n\r\n") as (wrong, _):
        there.register("qwen@llm", port=gone.port)
        there.register("qwen@llm", port=wrong.port)
        report = why(run, "qwen")
        without = why(run, "qwen", "--no-probe")
    assert codes(report) == ["port-closed", "wrong-service"]
    assert report["findings"][0]["instances"] == [{"model_name": "qwen@llm", "host": "127.0.0.1", "port": gone.port}]
    assert (codes(without), without["probed"]) == ([], 0)


BROKEN = stream(record(f"{FRAME}Connection error.", error_code=1))


def test_a_ping_finds_what_heartbeats_and_probes_do_not_show(run: Run, there: Cluster) -> None:
    with fake_worker() as lives, fake_worker() as dead:
        dead.answers[STREAM] = BROKEN
        for worker in (lives, dead):
            there.register("qwen@llm", port=worker.port)
        without = why(run, "qwen")
        done = run("why", "qwen", "--ping")
        report = why(run, "qwen", "--ping")
    assert (codes(without), without["pings"]) == ([], [])
    [found] = report["findings"]
    assert (found["code"], found["severity"]) == ("healthy-but-not-answering", "warning")
    assert [key["port"] for key in found["instances"]] == [dead.port]
    assert {ping["port"]: ping["result"] for ping in report["pings"]} == {lives.port: "ok", dead.port: "model-error"}
    reference, result = f"qwen@llm/127.0.0.1:{dead.port}", "model-error"
    [detail] = [ping["detail"] for ping in report["pings"] if ping["result"] == result]
    assert done.lines == [
        f"qwen: 2 of 2 instances get requests at {there.url}",
        "",
        "warning: 1 instance gets requests, and does not answer a ping [healthy-but-not-answering]",
        f"  {reference}: {result}: {detail}",
        f"  fix: ctl models ping {reference}; until it answers: ctl models drain {reference} --reason ping --for 15m",
    ]


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--ping", "The instance answers a ping."),
        ("--ping=metadata", "The instance has loaded the model; --ping asks the model."),
    ],
)
def test_an_answer_to_a_ping_claims_no_more_than_was_asked(run: Run, there: Cluster, option: str, line: str) -> None:
    with fake_worker() as worker:
        there.register("qwen@llm", port=worker.port)
        there.register("WorkerManager@service", port=worker.port)
        done = run("why", "qwen", option)
        service = run("why", "WorkerManager@service", option)
    assert done.lines[2:4] == [
        line,
        "The registry is not the cause. If DB-GPT still finds no worker instances, look at the API server:",
    ]
    assert "ping" not in service.out


def test_pings_without_probes(run: Run, there: Cluster) -> None:
    with fake_worker() as worker:
        worker.answers[STREAM] = BROKEN
        there.register("qwen@llm", port=worker.port)
        report = why(run, "qwen", "--ping", "--no-probe")
    assert (codes(report), report["probed"], len(report["pings"])) == (["healthy-but-not-answering"], 0, 1)


@pytest.mark.parametrize("given", ["--ping=", "--ping=connect", "--ping=GENERATE"])
def test_a_level_that_is_none(run: Run, given: str) -> None:
    done = run("why", "qwen", given, expect=2)
    assert "is not one of generate, metadata" in done.err


def test_controllers_that_disagree(run: Run, there: Cluster) -> None:
    with cluster() as other:
        there.register("qwen@llm")
        report = why(run, "qwen", "--no-probe", "-a", f"{there.url},{other.url}")
    assert codes(report)[:2] == ["controllers-disagree", "separate-registries"]
    assert report["findings"][0]["evidence"] == [
        f"{other.url}: lacks 1 that others list, such as qwen@llm/127.0.0.1:8001 (registry embedded)"
    ]


def test_one_controller_of_two_is_away(run: Run, there: Cluster) -> None:
    there.register("qwen@llm")
    report = why(run, "qwen", "--no-probe", "-a", f"{NOBODY},{there.url}")
    assert codes(report) == ["connection-refused"]
    assert [controller["answers"] for controller in report["controllers"]] == [False, True]


def test_no_controller_answers(run: Run) -> None:
    done = run("why", "qwen", "-a", NOBODY, expect=3)
    assert done.lines[0] == "qwen: no controller answers"
    assert f"  {NOBODY}: Connection refused" in done.lines


@pytest.mark.parametrize(
    ("status", "exit_code", "code", "heading", "summary"),
    [
        (401, 7, "not-allowed", "no controller lets you in", "{} does not let you in"),
        (403, 7, "not-allowed", "no controller lets you in", "{} does not let you in"),
        (418, 6, "controller-failed", "no controller lists its instances", "{} answers with an error"),
        (500, 1, "controller-failed", "no controller lists its instances", "{} answers with an error"),
        (502, 3, "controller-unavailable", "no controller can serve now", "{} is there, and cannot serve now"),
        (503, 3, "controller-unavailable", "no controller can serve now", "{} is there, and cannot serve now"),
    ],
)
def test_an_answer_with_an_error_is_not_unreachable(  # noqa: PLR0917
    run: Run, status: int, exit_code: int, code: str, heading: str, summary: str
) -> None:
    with fake_controller(status=status, body={"detail": "so it is"}) as fake:
        done = run("why", "qwen", "-a", fake.url, expect=exit_code)
        report = why(run, "qwen", "-a", fake.url, expect=exit_code)
        run("models", "list", "-a", fake.url, expect=exit_code)
    assert done.lines[0] == f"qwen: {heading}"
    assert done.lines[2:4] == [f"error: {summary.format(fake.url)} [{code}]", f"  {fake.url}: {status} so it is"]
    assert [(finding["code"], finding["evidence"]) for finding in report["findings"]] == [
        (code, [f"{fake.url}: {status} so it is"])
    ]
    assert report["controllers"][0]["error"] == f"{status} so it is"


def test_what_is_no_controller_at_all(run: Run) -> None:
    with fake_controller(body=b"<html>") as fake:
        [found] = why(run, "qwen", "-a", fake.url, expect=3)["findings"]
    assert found["code"] == "not-a-controller"
    assert found["evidence"][0].startswith(f"{fake.url}: what answers there is not a DB-GPT controller")
    assert found["fix"].startswith("correct host, port and path of the address")


def test_a_refused_token_differs_from_none(run: Run) -> None:
    with fake_controller(status=401, body={"detail": "no"}) as fake:
        report = why(run, "qwen", "-a", fake.url.replace("://", "://me:s3cret@"), expect=7)
    assert report["findings"][0]["evidence"] == [f"{fake.url}: 401 no (a token was sent)"]
    assert "CTL_TOKEN" in report["findings"][0]["fix"]
    assert "s3cret" not in json.dumps(report)


@pytest.mark.parametrize(
    ("variables", "reported"),
    [
        ({"http_proxy": "http://user:s3cret@proxy:3128"}, ["http_proxy=http://********@proxy:3128"]),
        ({"HTTP_PROXY": "http://proxy:1"}, ["HTTP_PROXY=http://proxy:1"]),
        ({"ALL_PROXY": "socks5://proxy:1"}, ["ALL_PROXY=socks5://proxy:1"]),
        ({"http_proxy": "http://proxy:1", "no_proxy": "localhost,127.0.0.1"}, []),
        ({"http_proxy": "http://proxy:1", "NO_PROXY": "*"}, []),
        ({"https_proxy": "http://proxy:1"}, []),
        ({"http_proxy": ""}, []),
    ],
)
def test_proxy_variables(
    run: Run, there: Cluster, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reported: list[str]
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    there.register("qwen@llm")
    report = why(run, "qwen", "--no-probe")
    found = [finding for finding in report["findings"] if finding["code"] == "proxy"]
    assert [finding["evidence"][0] for finding in found] == [
        f"{variable} takes the calls to {there.url}" for variable in reported
    ]
    assert "s3cret" not in json.dumps(report)


def test_dbgpts_own_controller(run: Run) -> None:
    silent = listed("qwen@llm", healthy=False, last_heartbeat="2026-01-02T11:00:00")
    with stock_controller([silent, listed("qwen@llm", port=2)]) as stock:
        done = run("why", "qwen", "--no-probe", "-a", stock.url)
        missing = run("why", "glm", "--no-probe", "-a", stock.url, expect=4)
    assert done.lines[0] == f"qwen: 1 of 2 instances gets requests at {stock.url}"
    assert "or it was deregistered: this controller reports both the same" in done.out
    assert "[stock-controller]" in done.out
    assert "registered is" not in missing.out


def test_a_name_without_type_is_of_all_types(run: Run, there: Cluster) -> None:
    there.register("qwen@llm")
    there.register("qwen@reranker", port=2)
    assert run("why", "qwen", "--no-probe").lines[0] == (
        f"qwen (qwen@llm, qwen@reranker): 2 of 2 instances get requests at {there.url}"
    )


def test_only_the_model_is_listed(run: Run, there: Cluster) -> None:
    there.register("other@llm")
    there.register("qwen@llm")
    done = run("why", "qwen@llm", "--no-probe", "-v")
    assert "model_name=qwen%40llm" in done.err
    assert codes(why(run, "qwen@llm", "--no-probe")) == []


@pytest.mark.parametrize("args", [("why",), ("why", "a@b@c"), ("why", "q", "-o", "yaml"), ("why", "q", "x")])
def test_wrong_usage(run: Run, args: tuple[str, ...]) -> None:
    assert run(*args, expect=2).err.count("\n") == 1


def test_as_a_process_in_a_pipe(there: Cluster) -> None:
    there.register("qwen@llm")
    done = ctl("why", "qwen", "--no-probe", "-a", there.url, env={"COLUMNS": "40"})
    assert done.err == ""
    assert done.lines[0] == f"qwen: 1 of 1 instance gets requests at {there.url}"
    assert max(map(len, done.lines)) > 40


def test_chinese_is_folded_by_cells(there: Cluster) -> None:
    there.register("深度求索@llm", host="10.0.0.4")
    lines = on_terminal("why", "深度求索", "--no-probe", "-a", there.url, columns=80)
    assert max(map(cell_len, lines)) <= 80
    question = "does it ask for exactly 深度求索@llm? (it adds @llm to the name of a chat request)"
    assert question in " ".join(line.strip() for line in lines)
    assert "  does it ask for exactly 深度求索@llm? (it adds @llm to the name of a chat" in lines
    assert "    request)" in lines


def test_a_real_worker_s_register_is_explained_like_any_other(there: Cluster, run: Run) -> None:
    with ControllerClient(there.url) as client:
        client.heartbeat(Registration(there.register("bge@text2vec").key))
    assert codes(why(run, "bge", "--no-probe")) == []
