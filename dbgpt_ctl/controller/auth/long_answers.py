"""Answers that take long, such as watches: they end when their caller's token is not valid any more."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from dbgpt_ctl.controller.http.callers import HttpScope
    from dbgpt_ctl.errors import AccessRefused

    RefusalOf = Callable[[HttpScope], AccessRefused | None]
    Drop = Callable[[Collection[HttpScope]], object]

GRACE_SECS = 0.5
"""A peer that has not taken the last message after this time loses its connection."""


class LongAnswers:
    """The long answers that are being sent now.

    `refusal_of` says why the caller of a request would be refused now; None: it would not be. `drop` ends the
    connections of these requests, if that is possible.
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
            self._end_refused((answer,))  # it may have become so since the request was checked
            yield
        finally:
            self._open.pop(answer, None)
            self._ending.pop(answer, None)

    def examine(self) -> None:
        """Ends the answers whose caller is refused now."""
        self._end_refused(tuple(self._open))

    def _end_refused(self, answers: Iterable[object]) -> None:
        ended = [answer for answer in answers if self._is_ended(answer)]
        if ended:
            asyncio.get_running_loop().call_later(GRACE_SECS, self._drop_open, ended)

    def _is_ended(self, answer: object) -> bool:
        """Whether its caller is refused; then it was asked to end."""
        scope, end = self._open[answer]
        error = self._refusal_of(scope)
        if error is None:
            return False
        del self._open[answer]
        self._ending[answer] = scope
        end(error)
        return True

    def _drop_open(self, answers: Iterable[object]) -> None:
        """All at once: each look for a connection goes through all connections."""
        scopes = [self._ending[answer] for answer in answers if answer in self._ending]
        if scopes:
            self._drop(scopes)
