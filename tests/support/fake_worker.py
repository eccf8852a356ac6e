"""A worker on loopback that behaves as a test says: its own API over real sockets, in any state of failure."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from dbgpt_ctl.domain.instance import InstanceKey
from tests.client.servers import behaving, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer: TypeAlias = bytes | Callable[[socket.socket], None]
"""What is sent, or what writes to the connection."""

DESCRIPTIONS, METADATA, STREAM, EMBEDDINGS = "parameter/descriptions", "model_metadata", "generate_stream", "embeddings"
NO_QUERY = json.dumps({"detail": [{"type": "missing", "loc": ["query", "model"], "msg": "Field required"}]}).encode()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\nconnection: close\r\n\r\n"
FRAME = "**LLMServer Generate Error, Please CheckErrorInfo.**: "


def status(code: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Something\r\ncontent-length: %d\r\n\r\n" % (code, len(body)) + body


def record(text: str | None = "Hello", *, kind: str = "text", error_code: int = 0, **more: Any) -> bytes:
    """One record of `generate_stream`, with its NUL."""
    content = None if text is None else {"type": kind, "object": {"data": text, "format": "text"}}
    return json.dumps({"content": content, "error_code": error_code, "usage": None, **more}).encode() + b"\0"


def stream(*records: bytes) -> bytes:
    return STREAM_HEAD + b"".join(records)


@dataclass
class FakeWorker:
    """Serves the models of `served`. `answers` replace those of a living worker, by path."""

    answers: dict[str, Answer] = field(default_factory=dict)
    served: set[tuple[str, str]] = field(
        default_factory=lambda: {("qwen", "llm"), ("bge", "text2vec"), ("rank", "reranker"), ("paint", "image")}
    )
    """Name and type."""
    port: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    """The path and query of each request, and all of its bytes."""
    over: Event = field(default_factory=Event)
    """Set when the test is over, for an answer that waits."""

    def key(self, model_name: str = "qwen@llm") -> InstanceKey:
        return InstanceKey(model_name, "127.0.0.1", self.port)

    @property
    def paths(self) -> list[str]:
        """The paths that were asked, below /api/worker and without queries."""
        return [urlsplit(target).path.removeprefix("/api/worker/") for target, _ in self.requests]

    def serve(self, connection: socket.socket, _number: int) -> None:
        received = _whole_request(connection)
        if not received:
            return
        target = received.split(b" ", 2)[1].decode()
        self.requests.append((target, received))
        answer = self._answer(target, received)
        if callable(answer):
            answer(connection)
        else:
            connection.sendall(answer)

    def hangs(self, sent: bytes = b"") -> Callable[[socket.socket], None]:
        """Sends this much and then nothing."""

        def answer(connection: socket.socket) -> None:
            connection.sendall(sent)
            self.over.wait()

        return answer

    def repeats(self, head: bytes, chunk: bytes, pause: float) -> Callable[[socket.socket], None]:
        """Sends the chunk again and again until the caller has gone."""

        def answer(connection: socket.socket) -> None:
            connection.sendall(head)
            while not self.over.wait(pause):
                connection.sendall(chunk)

        return answer

    def _answer(self, target: str, received: bytes) -> Answer:
        parts = urlsplit(target)
        path = parts.path.removeprefix("/api/worker/")
        if path in self.answers:
            return self.answers[path]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if path == DESCRIPTIONS:
            if not query:
                return status(422, NO_QUERY)
            return reply(b"[]") if (query["model"], query["worker_type"]) in self.served else status(500, b"Internal")
        body = json.loads(received.partition(b"\r\n\r\n")[2])
        return {
            METADATA: reply(b'{"context_length": 4096}'),
            STREAM: stream(record("Hel"), record("Hello")),
            EMBEDDINGS: reply(b"[[0.5]]" if body.get("worker_type") == "reranker" else b"[[0.1, 0.2]]"),
        }.get(path, status(404))


@contextmanager
def fake_worker() -> Iterator[FakeWorker]:
    """A living worker, until the test changes its `answers`."""
    worker = FakeWorker()
    with behaving(worker.serve) as url:
        worker.port = int(url.rpartition(":")[2])
        try:
            yield worker
        finally:
            worker.over.set()


def _whole_request(connection: socket.socket) -> bytes:
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        lengths = [
            line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        if end and len(body) >= int(lengths[0] if lengths else 0):
            return received
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        received += chunk
