"""A steady stream of chats with API servers of DB-GPT, each answer checked."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import httpx

from tests.support.dbgpt_openai import MODEL, answer_to
from tests.support.dbgpt_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 2
"""How many clients chat at the same time."""
PAUSE_SECONDS = 0.1
"""The pause of a client between two chats."""
TIMEOUT_SECONDS = 30


def chat(api: str, question: str, *, stream: bool = False) -> str | None:
    """One chat over a connection of its own. None if it was answered, else what went wrong."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "stream": stream}
    try:
        reply = httpx.post(f"{api}/chat/completions", json=body, trust_env=False, timeout=TIMEOUT_SECONDS)
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {error}"
    if reply.status_code != 200:
        return f"{reply.status_code} {reply.text}"
    try:
        answer = _streamed(reply.text) if stream else reply.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError):
        return f"no answer of a chat: {reply.text}"
    return None if answer == answer_to(question) else f"a wrong answer: {answer}"


def _streamed(text: str) -> str:
    events = re.findall(r"^data: (.+)$", text, re.MULTILINE)
    pieces = [json.loads(event)["choices"][0]["delta"].get("content") for event in events if event != "[DONE]"]
    return "".join(piece for piece in pieces if piece)


@dataclass
class Chats:
    """CLIENTS threads that chat in turn with the API servers in service, every second answer streamed.

    `failed` has a line for each chat that was not answered; it may only grow.
    """

    failed: list[str] = field(default_factory=list)
    answered: int = 0
    _servers: tuple[str, ...] = ()
    _in_progress: set[int] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=count)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def number(self) -> int:
        """How many chats have ended."""
        return self.answered + len(self.failed)

    def put_into_service(self, *apis: str) -> None:
        """From now on these API servers get chats too."""
        with self._lock:
            self._servers += apis

    def take_out_of_service(self, api: str) -> None:
        """As a load balancer does before a restart. Returns when the API server has no chat in progress."""
        with self._lock:
            self._servers = tuple(server for server in self._servers if server != api)
        self.wait_for_those_in_progress()

    def wait_for_those_in_progress(self) -> None:
        """Returns when all chats have ended that had begun before the call."""
        with self._lock:
            begun = frozenset(self._in_progress)
        until("end of the chats in progress", lambda: begun.isdisjoint(self._in_progress))

    def wait_for_more(self, number: int) -> None:
        """Returns when this many more chats have ended."""
        goal = self.number + number
        until(f"{number} more chats", lambda: self.number >= goal)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The clients chat until the end of the context. It waits for the chats in progress."""
        clients = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._over.set()
            for client in clients:
                client.join()

    def _run(self) -> None:
        while not self._over.is_set():
            with self._lock:
                number = next(self._numbers)
                api = self._servers[number % len(self._servers)]
                self._in_progress.add(number)
            problem = chat(api, f"chat {number}", stream=number // 2 % 2 == 0)
            with self._lock:
                self._in_progress.remove(number)
                if problem is None:
                    self.answered += 1
                else:
                    self.failed.append(f"chat {number} with {api}: {problem}")
            self._over.wait(PAUSE_SECONDS)
