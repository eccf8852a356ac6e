"""Where a worker is called, and for how long."""

from __future__ import annotations

import pytest

from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.ping.calls import CONNECT_SECS, WorkerCalls, WorkerRequest, address_of_worker, worker_transport
from dbgpt_ctl.settings.addresses import Address
from tests.client.servers import black_hole


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("10.0.0.4", "http://10.0.0.4:8001"),
        ("worker-7.prod_1", "http://worker-7.prod_1:8001"),
        ("[fd00::5]", "http://[fd00::5]:8001"),
        ("fd00::5", "http://[fd00::5]:8001"),  # as DB-GPT's own controller lists it
        ("me:secret@h", None),
        ("h/path", None),
        ("h?query", None),
        ("h#", None),
        ("a b", None),
        ("h\r\nX-Evil: 1", None),
        ("", None),
    ],
)
def test_address(host: str, url: str | None) -> None:
    assert address_of_worker(host, 8001) == (None if url is None else Address(url))


@pytest.mark.parametrize("port", [0, -1, 65536, 10**400, True])
def test_no_port(port: int) -> None:
    assert address_of_worker("h", port) is None


@pytest.mark.parametrize(("timeout", "connect"), [(20.0, CONNECT_SECS), (2.0, 1.8)])
def test_a_host_that_is_down_does_not_take_the_whole_time(timeout: float, connect: float) -> None:
    request = WorkerRequest("GET", Address("http://h:1"), "/", None, timeout)
    assert request.connect_timeout == pytest.approx(connect)


def test_the_deadline_is_over_all_calls() -> None:
    with black_hole() as url:
        calls = WorkerCalls(worker_transport(), Address(url), timeout=0.1)
        outcomes = [calls.descriptions(), calls.model_metadata("qwen"), calls.embeddings("bge", "x")]
    assert {getattr(outcome, "cause", None) for outcome in outcomes} <= {
        FailureCause.ANSWER_TIMEOUT,
        FailureCause.CONNECT_TIMEOUT,
    }
    assert calls.passed >= 0.1
