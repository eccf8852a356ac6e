"""The requests of one ping to one worker process.

A worker answers plain HTTP at the address that it registered, under `/api/worker`. The address comes from an open
registry, so a stranger may stand there: nothing secret is sent, no redirect is followed, and the size and the time of
every answer are bounded.

    GET  parameter/descriptions   is this a worker, and has it loaded this name and type? Needs no slot
    POST model_metadata           type llm only; waits for a slot, and does not ask the backend
    POST generate_stream          type llm; the headers come before the backend is asked
    POST embeddings               types text2vec and reranker; waits for a slot

`generate` is never called, because a worker keeps the slot of such a call for minutes when the caller is gone. Nor are
`count_token`, which may reach out to the internet, and `models/supports`, whose answer is megabytes long.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from dbgpt_ctl.client.body import BodyReader
from dbgpt_ctl.client.failover import Request
from dbgpt_ctl.client.transport import Transport, client_options
from dbgpt_ctl.domain.fields import MAX_PORT
from dbgpt_ctl.settings.addresses import Address
from dbgpt_ctl.traceparent import TraceContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.client.failover import Outcome
    from dbgpt_ctl.client.responses import Response
    from dbgpt_ctl.client.transport import MakeReader, Observe

API = "/api/worker"
TRACE_HEADER = "DB-GPT-Trace-Span-Id"
MAX_STREAM_BYTES = 4_000_000
"""Of an answer with text. Each record repeats the text so far: 1,000 tokens take about 3 MB."""
CONNECT_SECS = 5.0
"""The longest wait for a connection: a lost packet is sent again after 1 and after 3 s."""
LEAST_SECS = 0.001
"""The timeout of a request that comes too late, so that it ends as any other timeout."""
_HOST = re.compile(r"[\w.\-]+|\[?[0-9A-Fa-f:.]+\]?")


@dataclass(frozen=True)
class WorkerRequest(Request):
    """A request to a worker, which is no controller: its trace has DB-GPT's own header."""

    connect_within: float = CONNECT_SECS
    """A machine that is up accepts a connection at once: one that is down does not keep the others waiting."""

    @property
    def headers(self) -> dict[str, str]:
        """All headers. The connection ends with the answer, as it does for API servers."""
        headers = {**super().headers, "Connection": "close"}
        if self.trace is not None:
            headers[TRACE_HEADER] = f"{self.trace.trace_id}:{self.trace.span_id}"
        return headers


def worker_transport(observe: Observe | None = None) -> Transport:
    """For requests to any workers, from any threads. It obeys no variable of the environment and no ~/.netrc."""
    return Transport(client_options((), trust_env=False), observe=observe)


def address_of_worker(host: str, port: int) -> Address | None:
    """Where API servers call the worker; None for what is no host or port: a host may hold credentials or a path."""
    if not _HOST.fullmatch(host) or type(port) is not int or not 0 < port <= MAX_PORT:
        return None
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return Address(f"http://{bracketed}:{port}")


def is_of_worker(response: Response) -> bool:
    """Whether this answer to `descriptions` without a model is a worker's: a 422 that names the missing query."""
    match response.json() if response.status == HTTPStatus.UNPROCESSABLE_ENTITY else None:
        case {"detail": [*problems]}:
            return any(isinstance(problem, dict) and problem.get("loc") == ["query", "model"] for problem in problems)
    return False


@dataclass(slots=True)
class WorkerCalls:
    """The calls share one deadline and one trace. They may be used in one thread only."""

    transport: Transport
    address: Address
    timeout: float
    """Seconds for all calls together."""
    began: float = field(default_factory=monotonic)
    trace: TraceContext = field(default_factory=TraceContext.new)
    connect: float | None = None
    """Seconds that the first connection took."""

    @property
    def passed(self) -> float:
        """Seconds since the begin."""
        return monotonic() - self.began

    def descriptions(self, model: str | None = None, model_type: str | None = None) -> Outcome:
        """Of one model's parameters; without a model a worker answers that the query is missing."""
        # A hostile controller may list a name that UTF-8 cannot express.
        fields = {"model": model, "worker_type": model_type}
        query = "" if model is None else "?" + urlencode(fields, errors="surrogatepass")
        return self._send(self._request("GET", f"parameter/descriptions{query}"))

    def model_metadata(self, model: str, *, timeout: float | None = None) -> Outcome:
        """Of a model of type llm."""
        return self._send(self._request("POST", "model_metadata", {"model": model}, timeout))

    def generate_stream(
        self, model: str, prompt: str, max_tokens: int, make_reader: MakeReader, *, reserve: float
    ) -> Outcome:
        """An answer that `make_reader` reads. It ends `reserve` seconds before the deadline."""
        body = {
            "model": model,
            "messages": [{"role": "human", "content": prompt}],  # a worker drops the role `user`
            "max_new_tokens": max_tokens,
            "echo": False,
        }
        timeout = self.timeout - reserve - self.passed
        request = replace(self._request("POST", "generate_stream", body, timeout), max_bytes=MAX_STREAM_BYTES)
        return self._send(request, make_reader)

    def embeddings(self, model: str, text: str, **more: str) -> Outcome:
        """The vectors or scores of one text."""
        return self._send(self._request("POST", "embeddings", {"model": model, "input": [text], **more}))

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> WorkerRequest:
        """`timeout` is no longer than what is left of the deadline, which is also the default."""
        left = self.timeout - self.passed
        return WorkerRequest(
            method,
            self.address,
            f"{API}/{path}",
            None if body is None else json.dumps(body).encode(),
            max(left if timeout is None else min(timeout, left), LEAST_SECS),
            trace=self.trace.child(),
        )

    def _send(self, request: WorkerRequest, make_reader: MakeReader = BodyReader) -> Outcome:
        sent = monotonic()
        outcome = self.transport.send(request, make_reader)
        if self.connect is None and self.transport.connected_at is not None:
            self.connect = self.transport.connected_at - sent
        return outcome
