"""Which instances are pinged at the same time, and in which order the results come."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Condition
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.domain.ping_results import Ping, PingResult
from dbgpt_ctl.ping.run import ping_all
from dbgpt_ctl.ping.worker import Level, PingOptions
from tests.client.servers import closed_port, reply
from tests.support.fake_worker import DESCRIPTIONS, FakeWorker, fake_worker

if TYPE_CHECKING:
    import socket

METADATA = PingOptions(level=Level.METADATA, timeout=30.0)


class Gate:
    """Holds the answers of workers back until enough of them are asked at the same time."""

    def __init__(self, least: int) -> None:
        self._condition = Condition()
        self._least = least
        self.now = self.most = 0

    def hold(self, connection: socket.socket) -> None:
        with self._condition:
            self.now += 1
            self.most = max(self.most, self.now)
            self._condition.notify_all()
            self._condition.wait_for(lambda: self.most >= self._least, timeout=30)
            self.now -= 1
        connection.sendall(reply(b"[]"))


def test_processes_are_pinged_at_the_same_time_but_not_all() -> None:
    gate = Gate(3)
    with ExitStack() as stack:
        workers = [stack.enter_context(fake_worker()) for _ in range(7)]
        for worker in workers:
            worker.answers[DESCRIPTIONS] = gate.hold
        options = PingOptions(level=Level.METADATA, timeout=30.0, at_once=3)
        pings = ping_all([worker.key("paint@image") for worker in workers], options)
    assert {ping.result for ping in pings} == {PingResult.OK}
    assert gate.most == 3


def test_instances_of_one_process_are_pinged_one_after_the_other() -> None:
    gate = Gate(1)
    with fake_worker() as worker:
        worker.answers[DESCRIPTIONS] = gate.hold
        keys = [worker.key(f"m{number}@image") for number in range(5)]
        pings = ping_all(keys, METADATA)
    assert [ping.key for ping in pings] == keys
    assert gate.most == 1


def test_the_results_are_in_the_order_of_the_instances_and_known_as_they_come() -> None:
    """The first one answers only when the second one has."""
    with fake_worker() as slow, fake_worker() as quick:
        gate = Gate(2)
        slow.answers[DESCRIPTIONS] = gate.hold
        quick.answers[DESCRIPTIONS] = gate.hold
        seen: list[Ping] = []
        keys = [slow.key("paint@image"), quick.key("paint@image"), slow.key("paint@image")]
        pings = ping_all(keys, METADATA, on_result=seen.append)
    assert [ping.key for ping in pings] == keys
    assert {ping.key for ping in seen} == set(keys)
    assert len(seen) == 2


def test_no_instances() -> None:
    assert ping_all([], METADATA) == []


def test_thousands_of_dead_instances() -> None:
    """5,000 ports of loopback addresses on which nothing listens."""
    port = int(closed_port().rpartition(":")[2])
    keys = [InstanceKey("qwen@llm", f"127.0.{number // 250}.{number % 250 + 2}", port) for number in range(5000)]
    pings = ping_all(keys, METADATA)
    assert {ping.result for ping in pings} == {PingResult.REFUSED}


def test_every_request_is_observed() -> None:
    targets = []
    with fake_worker() as worker:
        assert isinstance(worker, FakeWorker)
        ping_all([worker.key()], METADATA, observe=lambda request, _outcome, _seconds: targets.append(request.target))
    assert targets == [
        "/api/worker/parameter/descriptions?model=qwen&worker_type=llm",
        "/api/worker/model_metadata",
    ]
