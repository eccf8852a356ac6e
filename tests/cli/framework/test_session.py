"""-v, and the trace that each call starts."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.server import running_controller
from tests.tracing.keeping import Keeps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

REFERENCE = "qwen@llm/10.0.0.4:8001"
LINE = re.compile(r"ctl: (GET|POST|DELETE) (\S+): (.+), ([0-9.]+) ms(?:, trace ([0-9a-f]{32}))?")


@pytest.fixture
def traced() -> Iterator[str]:
    """A controller that keeps its spans in Keeps; its URL."""
    Keeps.forget()
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    with running_controller(registry, tracer_storage_cls="tests.tracing.keeping:Keeps") as url:
        yield url
    Keeps.forget()


def lines(err: str) -> list[tuple[str, ...]]:
    """Method, URL, what came of it, milliseconds and trace id of each line."""
    found = [LINE.fullmatch(line) for line in err.splitlines()]
    assert all(found), err
    return [match.groups() for match in found if match]


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_each_request_is_shown_with_the_id_of_its_trace(run: Run, traced: str, flag: str) -> None:
    done = run("models", "register", REFERENCE, "other/h:2", flag, "-a", traced)
    shown = lines(done.err)
    assert [each[:3] for each in shown] == [("POST", f"{traced}/api/controller/models", "200")] * 2
    roots = [span for span in Keeps.wait_for(4) if span.is_server]
    assert [root.context.trace_id for root in roots] == [each[4] for each in shown]
    assert all(root.parent_span_id for root in roots)
    assert len({each[4] for each in shown}) == 2


def test_without_it_a_trace_is_started_and_nothing_printed(run: Run, traced: str) -> None:
    assert run("models", "register", REFERENCE, "-a", traced).err == ""
    assert run("models", "deregister", REFERENCE, "-a", traced).err == ""
    assert all(span.parent_span_id for span in Keeps.wait_for(4))


def test_what_is_on_stdout_stays_data(run: Run, traced: str) -> None:
    done = run("models", "list", "-o", "json", "-v", "-a", traced)
    assert done.out == "[]\n"
    assert any(line.startswith(f"ctl: GET {traced}/api/controller/models: 200") for line in done.err.splitlines())


def test_failover_shows_each_controller_and_no_secret(run: Run, traced: str) -> None:
    dead = "http://user:s3cr3t@127.0.0.1:9"
    done = run(
        "models", "deregister", REFERENCE, "-v", "-a", f"{dead},{traced.replace('//', '//me:s3cr3t@')}", expect=4
    )
    warning, *requests, why = done.err.splitlines()
    assert "the token of --address" in warning
    assert "not known to the controller" in why
    first, second, *_ = lines("\n".join(requests))
    assert first[1].startswith("http://127.0.0.1:9/api/controller/models?model_name=qwen%40llm&")
    assert first[2] == "Connection refused"
    assert second[1].startswith(f"{traced}/api/controller/models?")
    assert second[2] == "200"
    assert first[4] == second[4]
    assert "s3cr3t" not in done.out + done.err


def test_health_is_shown_and_in_no_trace(run: Run, traced: str) -> None:
    done = run("health", "-v", "-a", f"{traced},http://127.0.0.1:9")
    shown = sorted(lines(done.err), key=lambda line: line[2])
    assert [(each[0], each[1], each[2]) for each in shown] == [
        ("GET", f"{traced}/api/health", "200"),
        ("GET", "http://127.0.0.1:9/api/health", "Connection refused"),
    ]
    assert {each[4] for each in shown} == {None}
