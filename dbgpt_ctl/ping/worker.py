"""Pings the instances of one worker process, and judges what its calls bring."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from dbgpt_ctl.client.responses import NoResponse, Response
from dbgpt_ctl.domain.instance import SERVICE
from dbgpt_ctl.domain.ping_results import Ping, PingResult
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.ping.calls import WorkerCalls, address_of_worker, is_of_worker
from dbgpt_ctl.ping.details import Detail, quoted_cause
from dbgpt_ctl.ping.records import RecordReader
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from dbgpt_ctl.client.failover import Outcome
    from dbgpt_ctl.client.transport import Transport
    from dbgpt_ctl.domain.instance import InstanceKey

TIMEOUT_SECS = 20.0


MAX_TOKENS = 16


PROMPT = "hi"


AT_ONCE = 8


class Level(StrEnum):
    """How far a ping goes. Each level includes those before it."""

    CONNECT = "connect"
    """A worker listens at the address."""
    METADATA = "metadata"
    """The worker has loaded this name and type; one of type llm has a free slot. The backend is not asked."""
    GENERATE = "generate"
    """The model answers: text of type llm, a vector or a score of types text2vec and reranker."""


@dataclass(frozen=True, slots=True)
class PingOptions:
    """How instances are pinged."""

    level: Level = Level.GENERATE
    max_tokens: int = MAX_TOKENS
    """The longest text that a model of type llm is asked for."""
    timeout: float = TIMEOUT_SECS
    """Seconds for each instance, over all that is asked of it."""
    prompt: str = PROMPT
    at_once: int = AT_ONCE
    """How many worker processes are asked at the same time."""


Verdict: TypeAlias = "tuple[PingResult, str]"
"""A result and its detail."""
LLM, RERANKER = "llm", "reranker"
_EMBEDDING_TYPES = frozenset({"text2vec", RERANKER})
SLOT_SECS = 1.0
"""How long a worker has to show that a slot is free."""
_SLOT_SHARE = 0.25
"""The largest part of the timeout that is kept for that."""
_SLOW_SHARE = 0.5
"""A text that went on in the last part of the wait, of this size, is slow; another one is stalled."""
MOST_TIMEOUTS = 5
"""The pings of one process take at most this many timeouts together: a stranger may register thousands of names at an
address that does not answer.
"""
_OK: Verdict = (PingResult.OK, "")
_BY_CAUSE: dict[FailureCause | None, tuple[PingResult, Detail]] = {
    FailureCause.REFUSED: (PingResult.REFUSED, Detail.REFUSED),
    FailureCause.CONNECT_TIMEOUT: (PingResult.CONNECT_TIMEOUT, Detail.CONNECT_TIMEOUT),
    FailureCause.ANSWER_TIMEOUT: (PingResult.NO_ANSWER, Detail.NO_ANSWER),
    FailureCause.RESET: (PingResult.NO_ANSWER, Detail.RESET),
    FailureCause.NOT_A_CONTROLLER: (PingResult.NOT_A_WORKER, Detail.NOT_A_WORKER),
    FailureCause.ANSWER_TOO_LARGE: (PingResult.NOT_A_WORKER, Detail.NOT_A_WORKER),
}
"""What it means that no complete HTTP response came; any other cause: UNREACHABLE."""


class WorkerProcess:
    """One worker process, whose instances are pinged one after the other."""

    def __init__(self, transport: Transport, options: PingOptions) -> None:
        self._transport = transport
        self._options = options
        self._embeddings_hang = False
        """A call of embeddings timed out. Each keeps a thread of the worker until its backend gives up."""
        self._passed = 0.0
        """Seconds of all pings until now."""

    def ping(self, key: InstanceKey) -> Ping:
        """The result of one instance, within the timeout; not asked once the pings before it took too long."""
        address = address_of_worker(key.host, key.port)
        if address is None:
            return Ping(key, PingResult.UNREACHABLE, Detail.NO_ADDRESS)
        if self._passed >= self._options.timeout * (MOST_TIMEOUTS - 1):  # one more may take its whole timeout
            return Ping(key, PingResult.NOT_ASKED, Detail.PROCESS_HANGS.format(passed=self._passed))
        calls = WorkerCalls(self._transport, address, self._options.timeout)
        generation = Generation(calls, self._options)
        result, detail = self._judge(calls, generation, key)
        total = calls.passed
        self._passed += total
        return Ping(key, result, str(detail), calls.connect, generation.ttft, total, generation.tokens)

    def _judge(self, calls: WorkerCalls, generation: Generation, key: InstanceKey) -> Verdict:
        level = Level.CONNECT if key.type == SERVICE else self._options.level
        found = is_worker(calls) if level is Level.CONNECT else is_served(calls, key)
        if found != _OK or level is Level.CONNECT:
            return found
        if key.type == LLM:
            return generation.judge(key.name) if level is Level.GENERATE else has_free_slot(calls, key.name)
        if level is Level.METADATA or key.type not in _EMBEDDING_TYPES:
            return found
        return self._embeds(calls, key)

    def _embeds(self, calls: WorkerCalls, key: InstanceKey) -> Verdict:
        if self._embeddings_hang:
            return PingResult.NOT_ASKED, Detail.EMBEDDINGS_HANG
        more = {"worker_type": RERANKER, "query": self._options.prompt} if key.type == RERANKER else {}
        outcome = calls.embeddings(key.name, self._options.prompt, **more)
        if isinstance(outcome, NoResponse):
            self._embeddings_hang = outcome.cause is FailureCause.ANSWER_TIMEOUT
            return (PingResult.BUSY, Detail.NO_EMBEDDING) if self._embeddings_hang else _without_response(outcome)
        if outcome.status != HTTPStatus.OK:
            return _failed_with(outcome)
        match outcome.json():
            case [_, *_]:
                return _OK
        return PingResult.EMPTY, Detail.NO_VECTOR


class Generation:
    """One call that generates text, and what is known of it."""

    def __init__(self, calls: WorkerCalls, options: PingOptions) -> None:
        self._calls = calls
        self._options = options
        self.ttft: float | None = None
        self.tokens: int | None = None

    def judge(self, model: str) -> Verdict:
        """Whether the model generates text."""
        readers: list[RecordReader] = []

        def make_reader(*response: Any) -> RecordReader:
            readers.append(RecordReader(*response, monotonic=monotonic))
            return readers[0]

        options, sent = self._options, monotonic()
        reserve = min(SLOT_SECS, options.timeout * _SLOT_SHARE)
        outcome = self._calls.generate_stream(model, options.prompt, options.max_tokens, make_reader, reserve=reserve)
        waited = monotonic() - sent
        if isinstance(outcome, Response) and outcome.status != HTTPStatus.OK:
            return _failed_with(outcome)
        if isinstance(outcome, NoResponse) and not readers:  # not even headers
            return _without_response(outcome)
        [reader] = readers
        self.tokens = reader.tokens
        self.ttft = None if reader.first_text_at is None else reader.first_text_at - sent
        if isinstance(outcome, NoResponse) and outcome.cause is FailureCause.ANSWER_TIMEOUT:
            return self._without_end(model, reader, waited)
        return self._ended(outcome, reader)

    def _ended(self, outcome: Outcome, reader: RecordReader) -> Verdict:
        if reader.error is not None:
            return PingResult.MODEL_ERROR, Detail.MODEL_ERROR.format(cause=quoted_cause(reader.error))
        if reader.is_malformed:
            return PingResult.NOT_A_WORKER, Detail.NO_RECORD
        if isinstance(outcome, NoResponse):
            return _without_response(outcome)
        if reader.count == 0:
            return PingResult.EMPTY, Detail.EMPTY
        return _OK if self.ttft is not None else (PingResult.NO_TOKEN, Detail.NO_TEXT)

    def _without_end(self, model: str, reader: RecordReader, waited: float) -> Verdict:
        """The meaning of headers, and of an answer that did not end in time."""
        if self.ttft is not None and reader.last_record_at is not None:
            silent = monotonic() - reader.last_record_at
            if silent > waited * _SLOW_SHARE:
                return PingResult.STALLED, Detail.STALLED_MIDWAY.format(ttft=self.ttft, silent=silent)
            return PingResult.OK, Detail.SLOW.format(waited=waited)
        # The call above is dropped by now, so its own slot is free again.
        outcome = self._calls.model_metadata(model, timeout=SLOT_SECS)
        if isinstance(outcome, Response):
            return PingResult.STALLED, Detail.STALLED.format(waited=waited)
        return PingResult.BUSY, Detail.BUSY


def is_worker(calls: WorkerCalls) -> Verdict:
    """Whether a worker listens."""
    outcome = calls.descriptions()
    if isinstance(outcome, NoResponse):
        return _without_response(outcome)
    return _OK if is_of_worker(outcome) else _not_a_worker(outcome)


def is_served(calls: WorkerCalls, key: InstanceKey) -> Verdict:
    """Whether the worker has loaded this name and type."""
    outcome = calls.descriptions(key.name, key.type)
    if isinstance(outcome, NoResponse):
        return _without_response(outcome)
    if outcome.status == HTTPStatus.OK and isinstance(outcome.json(), list):
        return _OK
    if outcome.status != HTTPStatus.INTERNAL_SERVER_ERROR:
        return _not_a_worker(outcome)
    found = is_worker(calls)  # any server may answer 500; this call shows whether it is a worker
    return (PingResult.NOT_SERVED, Detail.NOT_SERVED) if found == _OK else found


def has_free_slot(calls: WorkerCalls, model: str) -> Verdict:
    """Whether a model of type llm has a free slot."""
    outcome = calls.model_metadata(model)
    if isinstance(outcome, Response):
        return _OK if outcome.status == HTTPStatus.OK else _failed_with(outcome)
    if outcome.cause is FailureCause.ANSWER_TIMEOUT:
        return PingResult.BUSY, Detail.BUSY
    return _without_response(outcome)


def _without_response(outcome: NoResponse) -> Verdict:
    result, detail = _BY_CAUSE.get(outcome.cause, (PingResult.UNREACHABLE, Detail.UNREACHABLE))
    return result, detail.format(what=escaped(outcome.detail))


def _not_a_worker(outcome: Response) -> Verdict:
    what = f"an HTTP server answers there, but not as a worker: status {outcome.status}"
    return PingResult.NOT_A_WORKER, Detail.NOT_A_WORKER.format(what=what)


def _failed_with(outcome: Response) -> Verdict:
    return PingResult.MODEL_ERROR, Detail.FAILED_WITH.format(status=outcome.status)
