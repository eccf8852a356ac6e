"""What a worker's model calls: an OpenAI server that fails on command while the worker runs.

It answers chats (provider `proxy/openai` of an LLM), embeddings (`proxy/openai`) and relevances (`proxy/openapi` of a
reranker).
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from enum import StrEnum, auto
from typing import TYPE_CHECKING

from tests.support.dbgpt_openai import FakeOpenAI, Handler
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_AFTER_SECS = 1


class Fault(StrEnum):
    """What the backend does with every request."""

    NONE = auto()
    DOWN = auto()
    """Its port is closed."""
    HUNG = auto()
    """It accepts a request and never answers, until the fault changes."""
    RATE_LIMITED = auto()
    """429 with Retry-After."""
    WRONG_KEY = auto()
    """401."""
    FAILING = auto()
    """500."""
    HTML = auto()
    """200 with a page, as the login page of a proxy."""
    EMPTY = auto()
    """A well-formed answer without any text or numbers."""


class Backend:
    """A server on one port that survives its own `Fault.DOWN`. `requests`: the paths that were asked for."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: list[str] = []
        self.fault = Fault.DOWN
        self.changed = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base(self) -> str:
        """The base URL, `api_base` in DB-GPT's configuration."""
        return f"http://127.0.0.1:{self.port}/v1"

    def switch(self, fault: Fault) -> None:
        """From now on all requests meet this fault. Those that hang are dropped."""
        self.fault = fault
        self.changed.set()
        self.changed = threading.Event()
        if fault is Fault.DOWN:
            self.close()
        elif self._server is None:
            self._server = _Server(self)
            self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
            self._thread.start()

    def close(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None


class _Server(FakeOpenAI):
    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        super().__init__(backend.port, _Handler)


class _Handler(Handler):
    server: _Server

    def post(self) -> None:
        """Answers, or fails as the backend is told to."""
        backend = self.server.backend
        backend.requests.append(self.path)
        match backend.fault:
            case Fault.NONE:
                self._answer()
            case Fault.HUNG:
                backend.changed.wait()
            case Fault.RATE_LIMITED:
                self.reply(_error("slow down"), 429, Retry_After=str(RETRY_AFTER_SECS))
            case Fault.WRONG_KEY:
                self.reply(_error("incorrect API key provided"), 401)
            case Fault.HTML:
                self._page()
            case Fault.EMPTY:
                self._answer_nothing()
            case _:
                self.reply(_error("the model has a fault"), 500)

    def _answer(self) -> None:
        if self.path == "/v1/chat/completions":
            return super().post()
        asked = json.loads(self._body())
        if self.path == "/v1/embeddings":
            texts = asked["input"]
            return self.reply({"data": [{"index": index, "embedding": [0.1, 0.2]} for index in range(len(texts))]})
        return self.reply({"data": [0.5] * len(asked["documents"])})

    def _answer_nothing(self) -> None:
        self._body()
        if self.path == "/v1/chat/completions":
            return self.stream("")
        return self.reply({"data": []})

    def _page(self) -> None:
        page = b"<!doctype html><title>Log in</title>"
        self._body()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


def _error(message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "tests", "code": None}}


@contextmanager
def running_backend(fault: Fault = Fault.NONE) -> Iterator[Backend]:
    """A backend for as long as the context lasts."""
    backend = Backend()
    try:
        backend.switch(fault)
        yield backend
    finally:
        backend.switch(Fault.DOWN)
