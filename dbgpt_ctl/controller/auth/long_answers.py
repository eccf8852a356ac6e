"""Answers that take long, such as watches: they end when their caller's token is not valid any more."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dbgpt_ctl.controller.auth.identity import HttpScope
    from dbgpt_ctl.errors import AccessRefused

    RefusalOf = Callable[[HttpScope], AccessRefused | None]
    Drop = Callable[[HttpScope], object]

GRACE_SECS = 0.5
"""A peer that has not taken the last message after this time loses its connection."""


class LongAnswers:
    """The long answers that are being sent now.

    `refusal_of` says why the caller of a request would be refused now; None: it would not be. `drop` ends the
    connection of a request, if that is possible.
    """

    def __init__(self, refusal_of: RefusalOf, drop: Drop) -> None:
        self._refusal_of = refusal_of
        self._drop = drop
        self._open: dict[object, tuple[HttpScope, Callable[[AccessRefused], None]]] = {}
        self._ending: dict[object, HttpScope] = {}

    @contextmanager
    def sent(self, scope: HttpScope, end: Callable[[AccessRefused], None]) -> Iterator[None]:
        """While the block runs, `end` is called, once, when the caller is refused: it sends a last message if it can.
        The connection is dropped if the block runs on after that.
        """
        answer = object()
        self._open[answer] = scope, end
        try:
            self._examine(answer)  # it may have become so since the request was checked
            yield
        finally:
            self._open.pop(answer, None)
            self._ending.pop(answer, None)

    def examine(self) -> None:
        """Ends the answers whose caller is refused now."""
        for answer in tuple(self._open):
            self._examine(answer)

    def _examine(self, answer: object) -> None:
        scope, end = self._open[answer]
        error = self._refusal_of(scope)
        if error is not None:
            del self._open[answer]
            self._ending[answer] = scope
            end(error)
            asyncio.get_running_loop().call_later(GRACE_SECS, self._drop_if_open, answer)

    def _drop_if_open(self, answer: object) -> None:
        if answer in self._ending:
            self._drop(self._ending[answer])
