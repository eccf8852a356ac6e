"""A controller that answers as the test says, and remembers what it was asked. A real server on loopback."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = "Fri, 02 Jan 2026 12:00:00 GMT"


@dataclass
class FakeController:
    """What all calls but health get: `status`, `body` as JSON (bytes as they are), `headers`; `date` None: no Date.

    While `body` is a list it is DB-GPT's own controller, which has nothing below /api/v1, no console, and no model
    none@ctl.
    """

    url: str = ""
    status: int = 200
    body: Any = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    date: str | None = NOON
    health: int = 200
    requests: list[str] = field(default_factory=list)
    """`METHOD path?query`, in the order of their coming."""

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.startswith("/api/health"):
            return self.health, json.dumps({"status": "ok"} if self.health == 200 else {"detail": "leaving"}).encode()
        if path.startswith(("/api/v1", "/console")) and isinstance(self.body, list) and self.status == 200:
            return 404, b'{"detail": "Not Found"}'
        if "model_name=none%40ctl" in path and isinstance(self.body, list) and self.status == 200:
            others = [each for each in self.body if not (isinstance(each, dict) and "model_name" in each)]
            return 200, json.dumps(others).encode()
        return self.status, self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@contextmanager
def fake_controller(**answer: Any) -> Iterator[FakeController]:
    fake = FakeController(**answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.requests.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = fake.answer(self.path)
            self.send_response_only(status)
            for name, value in fake.headers.items():
                self.send_header(name, value)
            if fake.date is not None:
                self.send_header("Date", fake.date)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def do_DELETE(self) -> None:
            self.do_GET()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


def listed(model_name: str, host: str = "10.0.0.4", port: int = 8001, **facts: Any) -> dict[str, Any]:
    """An object of a list, with all nine keys."""
    return {
        "model_name": model_name,
        "host": host,
        "port": port,
        "weight": 1.0,
        "check_healthy": True,
        "healthy": True,
        "enabled": True,
        "prompt_template": None,
        "last_heartbeat": "2026-01-02T11:59:48+00:00",
        **facts,
    }
