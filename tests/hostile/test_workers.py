"""Hostile workers: `ctl models ping` and `ctl doctor --ping` against what a stranger registered."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack
from time import sleep
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.fake_worker import DESCRIPTIONS, STREAM, STREAM_HEAD, FakeWorker, fake_worker, stream
from tests.support.measured import measured
from tests.support.memory import MB
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.conftest import Serve, Served

LARGEST_BYTES = 200 * MB
AT_ONCE = 8
RECORDS = {
    "lists": b'{"text":"a","x":[' + b"[]," * 1_300_000 + b"[]]}\0",
    "keys": b'{"text":"a"' + b"".join(b',"%d":0' % number for number in range(300_000)) + b"}\0",
    "one error": b'{"error_code":1,"text":"' + "\x1b\u202e".encode() * 700_000 + b'"}\0',
    "no end": b"x" * 3_900_000,
    "empty ones": b"\0" * 3_900_000,
    "depth": b'{"content":' * 300_000 + b"\0",
}


@pytest.fixture
def workers() -> Iterator[list[FakeWorker]]:
    """As many as are pinged at the same time."""
    with ExitStack() as stack:
        yield [stack.enter_context(fake_worker()) for _ in range(AT_ONCE)]


def register(controller: Served, worker: FakeWorker, *names: str) -> None:
    for name in names:
        body = {"model_name": f"{name}@llm", "host": "127.0.0.1", "port": worker.port}
        assert httpx.post(f"{controller.url}/api/controller/models", json=body).json() is True


@pytest.mark.parametrize("sent", RECORDS.values(), ids=RECORDS)
def test_many_large_records_at_once_need_little_memory(serve: Serve, workers: list[FakeWorker], sent: bytes) -> None:
    """Before, the lists took 916 MB."""
    controller = serve()
    for worker in workers:
        register(controller, worker, "qwen")
        worker.answers[STREAM] = stream(sent)
    done = measured("models", "ping", "--all", "--timeout", "2m", "-o", "json", "-a", controller.url)
    assert done.code == 5, done
    assert {each["result"] for each in json.loads(done.out)} <= {"not-a-worker", "empty"}
    assert done.peak <= LARGEST_BYTES


@pytest.mark.parametrize("command", [["models", "ping", "--all", "--timeout", "0.5s"], ["doctor", "--ping=metadata"]])
def test_one_worker_that_says_nonsense_keeps_no_other_from_its_result(
    serve: Serve, workers: list[FakeWorker], command: list[str]
) -> None:
    controller = serve()
    nonsense = (
        b"HTTP/1.1 301 Moved\r\nlocation: http://xn--a/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 302 Moved\r\nlocation: http://[\r\ncontent-length: 0\r\n\r\n",
        STREAM_HEAD + b'{"content":{"type":[]}}\0',
        STREAM_HEAD + b'{"text":"a","usage":{"completion_tokens":' + b"9" * 4000 + b"}}\0",
        STREAM_HEAD + b'{"text":"a","usage":{"completion_tokens":1e999},"error_code":[]}\0',
    )
    for worker, answer in zip(workers, nonsense, strict=False):
        register(controller, worker, "qwen")
        worker.answers[STREAM if answer.startswith(STREAM_HEAD) else DESCRIPTIONS] = answer
    register(controller, workers[-1], "qwen")
    done = measured(*command, "-a", controller.url)
    assert done.code in {1, 5}, done
    assert "unexpectedly" not in done.err
    assert "Traceback" not in done.err
    assert len(max((done.out + done.err).splitlines(), key=len)) < 1000
    assert STREAM in workers[-1].paths or DESCRIPTIONS in workers[-1].paths


def test_ctrl_c_ends_pings_of_many_names_at_an_address_that_hangs(serve: Serve, workers: list[FakeWorker]) -> None:
    controller = serve()
    register(controller, workers[0], *(f"qwen{number}" for number in range(50)))
    workers[0].answers[DESCRIPTIONS] = workers[0].hangs()
    argv = [*CTL, "models", "ping", "--all", "--timeout", "1h", "-a", controller.url]
    with subprocess.Popen(argv, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not workers[0].requests:
            assert process.poll() is None
            sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert b"interrupted: 50 of 50 have no result yet" in said
