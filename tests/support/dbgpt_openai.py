"""A fake OpenAI server for a real DB-GPT worker with the provider `proxy/openai`.

It repeats the question, so that an answer proves the way of its question. It also stands in as the HTTP proxy of
all that is not on loopback and refuses it: nothing that DB-GPT would fetch leaves this machine.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "gpt-4o"
"""A name that the `dbgpt` tool knows for the provider proxy/openai: its `model start` accepts no other name."""


def answer_to(question: str) -> str:
    return f"You said: {question}"


class FakeOpenAI(ThreadingHTTPServer):
    """`questions`: the last message of each completion."""

    def __init__(self, port: int = 0, handler: type[Handler] | None = None) -> None:
        super().__init__(("127.0.0.1", port), handler or Handler)
        self.questions: list[str] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def base(self) -> str:
        """The base URL, `api_base` in DB-GPT's configuration."""
        return f"{self.origin}/v1"


@contextmanager
def running_fake_openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Serves what the provider `proxy/openai` asks for."""

    server: FakeOpenAI

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self._refuse()
        card = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}
        return self.reply({"object": "list", "data": [card]})

    def do_POST(self) -> None:
        self.post()

    def post(self) -> None:
        """Answers a chat."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v1/chat/completions":
            return self._refuse()
        body = json.loads(body)
        question = _text_of(body["messages"][-1])
        self.server.questions.append(question)
        if body.get("stream"):
            return self.stream(answer_to(question))
        message = {"role": "assistant", "content": answer_to(question)}
        return self.reply(_completion("chat.completion", message=message, finish_reason="stop") | {"usage": _USAGE})

    def do_CONNECT(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        self.send_error(403)

    def reply(self, body: object, status: int = 200, **headers: str) -> None:
        """The body as JSON; in the names of headers `_` stands for `-`."""
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(encoded)

    def stream(self, text: str) -> None:
        """The words as events of a chat; no words are an empty answer."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._event(_completion("chat.completion.chunk", delta={"role": "assistant", "content": ""}))
        for piece in re.findall(r" ?[^ ]+", text):
            self._event(_completion("chat.completion.chunk", delta={"content": piece}))
        self._event(_completion("chat.completion.chunk", delta={}, finish_reason="stop") | {"usage": _USAGE})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        pass


_USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def _completion(kind: str, *, finish_reason: str | None = None, **choice: Any) -> dict[str, Any]:
    choices = [{"index": 0, "finish_reason": finish_reason, **choice}]
    return {"id": "chatcmpl-fake", "object": kind, "created": 0, "model": MODEL, "choices": choices}


def _text_of(message: dict[str, Any]) -> str:
    """A message's content is a string, or a list of typed parts."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
