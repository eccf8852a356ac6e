"""Workers that send heartbeats to controllers until a test stops them. Their hosts are loopback."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.9"
INTERVAL_SECS = 0.5


class Worker:
    """Registers, and sends a heartbeat twice a second while it is not stopped. A heartbeat that fails is no matter."""

    def __init__(self, client: ControllerClient, model_name: str, port: int) -> None:
        self.key = InstanceKey(model_name, HOST, port)
        self._client = client
        self._sends = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"worker {model_name}/{port}")

    def start(self) -> None:
        self._client.register(Registration(self.key))
        self._sends.set()
        self._thread.start()

    def stop(self) -> None:
        """It is silent from now on."""
        self._sends.clear()

    def resume(self) -> None:
        """It sends heartbeats again."""
        self._sends.set()

    def end(self) -> None:
        self._over.set()
        self._sends.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_SECS):
            self._sends.wait()
            try:
                self._client.heartbeat(Registration(self.key))
            except CtlError:
                continue


class Fleet:
    """The workers of a test, by model name."""

    def __init__(self, client: ControllerClient) -> None:
        self.client = client
        self._workers: dict[str, list[Worker]] = {}

    def start(self, model_name: str, count: int = 1) -> None:
        workers = self._workers.setdefault(model_name, [])
        for _ in range(count):
            workers.append(Worker(self.client, model_name, 8001 + len(workers)))
            workers[-1].start()

    def of(self, model_name: str, index: int = 0) -> Worker:
        return self._workers[model_name][index]

    def end(self) -> None:
        for worker in (worker for workers in self._workers.values() for worker in workers):
            worker.end()


@contextmanager
def fleet(address: str) -> Iterator[Fleet]:
    """`address` is that of all controllers, with a token of an operator."""
    with ControllerClient(address) as client:
        running = Fleet(client)
        try:
            yield running
        finally:
            running.end()
