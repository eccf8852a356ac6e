"""The result of a ping. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbgpt_ctl.domain.instance import InstanceKey


class PingResult(StrEnum):
    """The outcome of a ping."""

    OK = "ok"
    REFUSED = "refused"
    """Nothing listens at the address."""
    UNREACHABLE = "unreachable"
    """There is no way from here to the address: its host is not known here, or there is no route."""
    CONNECT_TIMEOUT = "connect-timeout"
    NOT_A_WORKER = "not-a-worker"
    """What listens at the address answers otherwise than a worker."""
    NO_ANSWER = "no-answer"
    """The connection was made, and no HTTP answer came: the process is stopped, or its event loop is blocked."""
    NOT_SERVED = "not-served"
    """The worker has not loaded this name and type."""
    MODEL_ERROR = "model-error"
    BUSY = "busy"
    """All slots of the model are taken. No answer was seen, and that is no reason to drain the instance."""
    NO_TOKEN = "no-token"  # noqa: S105 - of a text
    """The answer came and ended, and had no text."""
    STALLED = "stalled"
    """A slot was free, and the backend did not answer in time."""
    EMPTY = "empty"
    """The answer ended without a single record."""
    NOT_ASKED = "not-asked"
    """Nothing was asked, for a reason that says nothing about the worker."""


ANSWERED = frozenset({PingResult.OK})
UNDECIDED = frozenset({PingResult.BUSY, PingResult.NOT_ASKED})
"""No answer was seen, and that does not show that the instance is broken."""


@dataclass(frozen=True, slots=True)
class Ping:
    """One instance and the result of its ping. Times are in seconds; None where it did not come to that."""

    key: InstanceKey
    result: PingResult
    detail: str = ""
    """One line for people, which says what to do. It is escaped. Empty where there is nothing to say."""
    connect: float | None = None
    """The time to make the first connection, the lookup of the host name included."""
    ttft: float | None = None
    """From the begin of the request for text to the first text or thinking."""
    total: float | None = None
    """The whole ping."""
    tokens: int | None = None
    """Generated tokens as the worker reports them; None where it reports none, which is usual."""

    @property
    def answered(self) -> bool:
        """Whether the instance answered as far as it was asked."""
        return self.result in ANSWERED

    @property
    def failed(self) -> bool:
        """Whether the ping shows that requests to the instance fail. A busy instance has not failed."""
        return self.result not in ANSWERED | UNDECIDED
