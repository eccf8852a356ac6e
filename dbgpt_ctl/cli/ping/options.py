"""How instances are pinged: how far, how long, and how many at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
