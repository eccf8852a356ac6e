"""What a ping says of a worker in each state: real sockets on loopback, each with the behaviour of one failure."""

from __future__ import annotations

import gzip
import socket
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.domain.ping_results import Ping, PingResult
from dbgpt_ctl.ping.calls import worker_transport
from dbgpt_ctl.ping.worker import MOST_TIMEOUTS, Level, PingOptions, WorkerProcess
from tests.client.servers import behaving, black_hole, closed_port, reply, resets, unconnectable
from tests.support.fake_worker import (
    DESCRIPTIONS,
    EMBEDDINGS,
    FRAME,
    METADATA,
    STREAM,
    STREAM_HEAD,
    FakeWorker,
    fake_worker,
    record,
    status,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

AMPLE_SECS = 30.0
"""More than any answer takes."""
SHORT_SECS = 1.0
"""The timeout of a ping that has to reach it. A quarter of it is kept for the question about a slot."""
LLM = "qwen@llm"


@pytest.fixture
def worker() -> Iterator[FakeWorker]:
    with fake_worker() as living:
        yield living


def pinged(key: InstanceKey, level: Level = Level.GENERATE, timeout: float = AMPLE_SECS, prompt: str = "hi") -> Ping:
    transport = worker_transport()
    try:
        return WorkerProcess(transport, PingOptions(level=level, timeout=timeout, prompt=prompt)).ping(key)
    finally:
        transport.close()


def at(url: str, model: str = LLM) -> InstanceKey:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return InstanceKey(model, host, int(port))


@pytest.mark.parametrize(
    ("model", "level", "paths"),
    [
        ("qwen@llm", Level.CONNECT, [DESCRIPTIONS]),
        ("qwen@llm", Level.METADATA, [DESCRIPTIONS, METADATA]),
        ("qwen@llm", Level.GENERATE, [DESCRIPTIONS, STREAM]),
        ("bge@text2vec", Level.METADATA, [DESCRIPTIONS]),
        ("bge@text2vec", Level.GENERATE, [DESCRIPTIONS, EMBEDDINGS]),
        ("rank@reranker", Level.GENERATE, [DESCRIPTIONS, EMBEDDINGS]),
        ("paint@image", Level.GENERATE, [DESCRIPTIONS]),
        ("WorkerManager@service", Level.GENERATE, [DESCRIPTIONS]),
    ],
)
def test_what_a_living_worker_is_asked(worker: FakeWorker, model: str, level: Level, paths: list[str]) -> None:
    ping = pinged(worker.key(model), level)
    assert (ping.result, ping.detail) == (PingResult.OK, "")
    assert worker.paths == paths
    assert ping.connect is not None
    assert ping.total is not None
    assert (ping.ttft is not None) == (STREAM in paths)


def test_requests_say_no_more_than_needed(
    worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """No credentials, also not of ~/.netrc; no cookie; the environment's proxy is not used."""
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w") as file:  # noqa: PTH123 - a text is enough
        file.write("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", netrc)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    worker.answers[DESCRIPTIONS] = reply(b"[]", "Set-Cookie: a=b; Path=/")
    pinged(worker.key())
    traces = set()
    for _, request in worker.requests:
        headers = dict(
            line.lower().split(": ", 1) for line in request.decode().partition("\r\n\r\n")[0].split("\r\n")[1:]
        )
        assert headers.keys() <= {
            *{"host", "user-agent", "accept", "accept-encoding", "connection", "content-type", "content-length"},
            *{"traceparent", "db-gpt-trace-span-id"},
        }
        assert headers["accept-encoding"] == "identity"
        trace, _, span = headers["db-gpt-trace-span-id"].partition(":")
        assert (len(trace), len(span)) == (32, 16)
        traces.add(trace)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("answer", "result", "detail"),
    [
        (stream(record(FRAME + "Connection error.", error_code=1)), PingResult.MODEL_ERROR, "'Connection error.'"),
        (stream(record("Hi"), record(FRAME + "late", error_code=1), record("Hi!")), PingResult.MODEL_ERROR, "'late'"),
        (stream(record("out of memory", error_code=2)), PingResult.MODEL_ERROR, "'out of memory'"),
        (stream(record(FRAME + "code 0")), PingResult.MODEL_ERROR, "'code 0'"),
        (stream(record(None, error_code=1)), PingResult.MODEL_ERROR, "an error without a text"),
        (
            stream(record(FRAME + "\x1b[31m\u202ered\nline", error_code=1)),
            PingResult.MODEL_ERROR,
            r"'\x1b[31m\u202ered line'",
        ),
        (stream(record(FRAME + "x" * 5000, error_code=1)), PingResult.MODEL_ERROR, "x" * 200 + "...'"),
        (stream(), PingResult.EMPTY, "web page"),
        (stream(record(""), record(" ")), PingResult.NO_TOKEN, "no text"),
        (stream(record("a.png", kind="image")), PingResult.NO_TOKEN, "no text"),
        (stream(record("hm", kind="thinking")), PingResult.OK, ""),
        (stream(record().rstrip(b"\0")), PingResult.NOT_A_WORKER, "none of a worker's"),
        (stream(b"<html>\0"), PingResult.NOT_A_WORKER, "none of a worker's"),
        (stream(b"<html>welcome</html>"), PingResult.NOT_A_WORKER, "none of a worker's"),
        (stream(b"[" * 100_000 + b"\0"), PingResult.NOT_A_WORKER, "none of a worker's"),
        (stream(b"5\0"), PingResult.NOT_A_WORKER, "none of a worker's"),
        (stream(b'{"text":"a","x":[' + b"[]," * 200_000 + b"[]]}\0"), PingResult.NOT_A_WORKER, "none of a worker's"),
        (stream(record(FRAME + "x" * 400_000, error_code=1)), PingResult.MODEL_ERROR, "x" * 200 + "...'"),
        (status(500, b"Internal Server Error"), PingResult.MODEL_ERROR, "status 500"),
        (status(302), PingResult.MODEL_ERROR, "status 302"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(record(), mtime=0),
            PingResult.NOT_A_WORKER,
            "compressed (gzip)",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nab",
            PingResult.NO_ANSWER,
            "breaks off its answer",
        ),
    ],
)
def test_what_the_model_answers(worker: FakeWorker, answer: bytes, result: PingResult, detail: str) -> None:
    worker.answers[STREAM] = answer
    ping = pinged(worker.key())
    assert ping.result is result
    assert detail in ping.detail
    assert ping.detail.isprintable()
    assert "LLMServer" not in ping.detail


def test_content_may_be_a_list_and_tokens_may_be_known(worker: FakeWorker) -> None:
    parts = [
        {"type": kind, "object": {"data": text, "format": "text"}} for kind, text in (("thinking", "hm"), ("text", ""))
    ]
    worker.answers[STREAM] = stream(record(None, content=parts), record("Hi", usage={"completion_tokens": 7}))
    ping = pinged(worker.key())
    assert (ping.result, ping.tokens) == (PingResult.OK, 7)


@pytest.mark.parametrize("tokens", [None, "7", True, -1, 1.5, 10**10, 10**4000, {}])
def test_tokens_that_are_no_count_are_unknown(worker: FakeWorker, tokens: object) -> None:
    for usage in ({"completion_tokens": tokens}, tokens):
        worker.answers[STREAM] = stream(record("Hi", usage=usage))
        ping = pinged(worker.key())
        assert (ping.result, ping.tokens) == (PingResult.OK, None)


@pytest.mark.parametrize("kind", [["text"], {}, None, 1])
def test_content_of_a_type_that_is_no_text_is_no_text(worker: FakeWorker, kind: Any) -> None:
    worker.answers[STREAM] = stream(record("Hi", kind=kind))
    assert pinged(worker.key()).result is PingResult.NO_TOKEN


def test_a_hung_backend_is_told_from_taken_slots(worker: FakeWorker) -> None:
    worker.answers[STREAM] = worker.hangs(STREAM_HEAD)
    ping = pinged(worker.key(), timeout=SHORT_SECS)
    assert (ping.result, ping.ttft) == (PingResult.STALLED, None)
    assert "a slot is free" in ping.detail
    assert worker.paths == [DESCRIPTIONS, STREAM, METADATA]
    worker.answers[METADATA] = worker.hangs()
    ping = pinged(worker.key(), timeout=SHORT_SECS)
    assert ping.result is PingResult.BUSY
    assert not ping.failed
    assert not ping.answered


def test_taken_slots_at_level_metadata(worker: FakeWorker) -> None:
    worker.answers[METADATA] = worker.hangs()
    assert pinged(worker.key(), Level.METADATA, SHORT_SECS).result is PingResult.BUSY


def test_a_text_that_stops_midway_is_stalled(worker: FakeWorker) -> None:
    worker.answers[STREAM] = worker.hangs(stream(record("Hel")))
    ping = pinged(worker.key(), timeout=SHORT_SECS)
    assert ping.result is PingResult.STALLED
    assert ping.ttft is not None
    assert worker.paths == [DESCRIPTIONS, STREAM]


def test_a_slow_text_is_an_answer(worker: FakeWorker) -> None:
    worker.answers[STREAM] = worker.repeats(STREAM_HEAD, record("Hel"), 0.02)
    ping = pinged(worker.key(), timeout=SHORT_SECS)
    assert ping.result is PingResult.OK
    assert "slow" in ping.detail


@pytest.mark.parametrize("level", Level)
def test_a_frozen_process(level: Level) -> None:
    """The kernel makes the connection for a process that is stopped, or whose event loop is blocked."""
    with black_hole() as url:
        ping = pinged(at(url), level, SHORT_SECS)
    assert ping.result is PingResult.NO_ANSWER
    assert ping.connect is not None
    assert "restart the worker" in ping.detail


def test_a_loop_that_blocks_after_the_first_answer(worker: FakeWorker) -> None:
    worker.answers[STREAM] = worker.hangs()
    assert pinged(worker.key(), timeout=SHORT_SECS).result is PingResult.NO_ANSWER


@pytest.mark.parametrize("level", Level)
def test_no_connection(level: Level) -> None:
    refused = pinged(at(closed_port()), level)
    assert (refused.result, refused.connect) == (PingResult.REFUSED, None)
    with unconnectable() as url:
        dropped = pinged(at(url), level, SHORT_SECS)
    assert (dropped.result, dropped.connect) == (PingResult.CONNECT_TIMEOUT, None)


@pytest.mark.parametrize(
    "host", ["no such host", "user:secret@127.0.0.1", "127.0.0.1/x", "a..b", "x" * 80, "", "::g", "xn--a"]
)
def test_a_host_that_is_none(host: str) -> None:
    ping = pinged(InstanceKey(LLM, host, 8001))
    assert ping.result is PingResult.UNREACHABLE
    assert ping.detail.isprintable()


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    assert pinged(InstanceKey(LLM, "127.0.0.1", port)).result is PingResult.UNREACHABLE


def test_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        ping = pinged(InstanceKey(LLM, "[::1]", server.getsockname()[1]), timeout=SHORT_SECS)
    assert ping.result is PingResult.NO_ANSWER


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (reply(b"<html>hello</html>"), "status 200"),
        (status(404), "status 404"),
        (status(422, b'{"detail": "no"}'), "status 422"),
        (status(422, b'{"detail": [{"loc": ["query", "other"]}]}'), "status 422"),
        (b"HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "status 307"),
        (b"HTTP/1.1 307 Elsewhere\r\nlocation: http://xn--a/\r\ncontent-length: 0\r\n\r\n", "redirects to what is no"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n", "larger than 1 MB"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"[]", mtime=0), "compressed (gzip)"),
    ],
)
@pytest.mark.parametrize("level", Level)
def test_what_is_no_worker(worker: FakeWorker, answer: bytes, detail: str, level: Level) -> None:
    worker.answers[DESCRIPTIONS] = answer
    ping = pinged(worker.key(), level)
    assert ping.result is PingResult.NOT_A_WORKER
    assert detail in ping.detail
    assert len(worker.requests) == 1


def test_a_server_that_fails_is_no_worker(worker: FakeWorker) -> None:
    """A worker answers 500 for what it has not loaded; so does any broken server."""
    worker.answers[DESCRIPTIONS] = status(500)
    assert pinged(worker.key()).result is PingResult.NOT_A_WORKER


def test_a_connection_that_is_reset() -> None:
    with behaving(resets) as url:
        assert pinged(at(url)).result is PingResult.NO_ANSWER


@pytest.mark.parametrize(
    ("head", "chunk", "result"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n", PingResult.NO_ANSWER),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"[", PingResult.NO_ANSWER),
    ],
)
def test_a_trickle_ends_at_the_deadline(worker: FakeWorker, head: bytes, chunk: bytes, result: PingResult) -> None:
    """Each single read is in time."""
    worker.answers[DESCRIPTIONS] = worker.repeats(head, chunk, 0.02)
    assert pinged(worker.key(), timeout=SHORT_SECS).result is result


@pytest.mark.parametrize(
    ("path", "head", "chunk"),
    [
        (DESCRIPTIONS, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (STREAM, STREAM_HEAD, b"x" * 65536),
        (STREAM, STREAM_HEAD, record("x" * 60_000)),
        (EMBEDDINGS, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    ],
)
def test_an_endless_answer_is_not_read_to_its_end(worker: FakeWorker, path: str, head: bytes, chunk: bytes) -> None:
    worker.answers[path] = worker.repeats(head, chunk, 0)
    ping = pinged(worker.key("bge@text2vec" if path == EMBEDDINGS else LLM))
    assert ping.result is PingResult.NOT_A_WORKER


def test_endless_headers(worker: FakeWorker) -> None:
    worker.answers[DESCRIPTIONS] = worker.repeats(b"HTTP/1.1 200 OK\r\n", b"x-header: " + b"x" * 1000 + b"\r\n", 0)
    assert pinged(worker.key()).result is PingResult.NO_ANSWER


def test_a_model_that_is_not_loaded(worker: FakeWorker) -> None:
    for model in ("other@llm", "qwen@text2vec", "qwen@image"):
        for level in (Level.METADATA, Level.GENERATE):
            assert pinged(worker.key(model), level).result is PingResult.NOT_SERVED
        assert pinged(worker.key(model), Level.CONNECT).result is PingResult.OK


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (status(500, b"Internal Server Error"), PingResult.MODEL_ERROR),
        (reply(b"[]"), PingResult.EMPTY),
        (reply(b"<html>"), PingResult.EMPTY),
        (reply(b"{}"), PingResult.EMPTY),
    ],
)
@pytest.mark.parametrize("model", ["bge@text2vec", "rank@reranker"])
def test_what_an_embedding_brings(worker: FakeWorker, model: str, answer: bytes, result: PingResult) -> None:
    worker.answers[EMBEDDINGS] = answer
    assert pinged(worker.key(model)).result is result


@pytest.mark.parametrize("name", ["\ud800", "a\x00\r\nb", "a/b?c#d&e=%41", "{x}%s", "\u202e"])
def test_any_name_can_be_asked_for(worker: FakeWorker, name: str) -> None:
    """A hostile controller may list what no register accepts."""
    assert pinged(worker.key(f"{name}@llm")).result is PingResult.NOT_SERVED


def test_many_names_at_one_address_that_hangs_take_a_few_timeouts(worker: FakeWorker) -> None:
    worker.answers[DESCRIPTIONS] = worker.hangs()
    process = WorkerProcess(worker_transport(), PingOptions(timeout=0.1))
    pings = [process.ping(worker.key(f"qwen{number}@llm")) for number in range(5000)]
    assert len(worker.requests) <= MOST_TIMEOUTS
    assert pings[0].result is PingResult.NO_ANSWER
    assert pings[-1].result is PingResult.NOT_ASKED
    assert not pings[-1].failed
    assert "by its reference" in pings[-1].detail


def test_no_second_embedding_after_a_timeout(worker: FakeWorker) -> None:
    """A dropped call keeps a thread of the worker for a minute."""
    worker.answers[EMBEDDINGS] = worker.hangs()
    process = WorkerProcess(worker_transport(), PingOptions(timeout=SHORT_SECS))
    results = [process.ping(worker.key(model)).result for model in ("bge@text2vec", "rank@reranker", LLM)]
    assert results == [PingResult.BUSY, PingResult.NOT_ASKED, PingResult.OK]
    assert worker.paths.count(EMBEDDINGS) == 1
