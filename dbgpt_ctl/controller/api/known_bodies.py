"""What the bodies of registers and heartbeats say, by their bytes: a worker sends the same bytes each time, and to read
them again is a seventh of the cost of a heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.domain.instance import Registration

MAX_KNOWN_BODY_BYTES = 1024
"""A longer body, which has a long prompt template, is read each time."""
MAX_KNOWN_BODIES = 8192
"""They take 10 MB at most."""


class KnownBodies:
    """Remembers the first `limit` bodies; `parse` reads one that is not known.

    `functools.lru_cache` replaces a body at each miss. With more instances than places in it no body would ever be
    found again, and each heartbeat would pay for it. Here the places stay taken, until as many bodies came that found
    none: those of workers that are gone leave then too.
    """

    def __init__(self, parse: Callable[[bytes], Registration], *, limit: int = MAX_KNOWN_BODIES) -> None:
        self._parse = parse
        self._limit = limit
        self._known: dict[bytes, Registration] = {}
        self._without_place = 0

    def read(self, body: bytes) -> Registration:
        """What the body says. Raises what `parse` raises; such a body is not remembered."""
        known = self._known.get(body)
        if known is not None:
            return known
        parsed = self._parse(body)
        if len(body) <= MAX_KNOWN_BODY_BYTES:
            self._remember(body, parsed)
        return parsed

    def _remember(self, body: bytes, parsed: Registration) -> None:
        if len(self._known) < self._limit:
            self._known[body] = parsed
            return
        self._without_place += 1
        if self._without_place == self._limit:
            self._known.clear()
            self._without_place = 0
