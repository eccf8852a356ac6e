"""How a batch of calls comes into the database: plain beats at once, the rest in one transaction."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dbgpt_ctl.registry.database.tables.instances import beat_plainly
from dbgpt_ctl.registry.database.writer import Transaction, plain_beats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.commands import Command
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.database.capacity import Room
    from dbgpt_ctl.registry.database.lanes import Answer
    from dbgpt_ctl.registry.database.session import Database


class Commits:
    """Blocking; one batch at a time. Each call is stored, or was refused, when `run` returns its answer."""

    def __init__(
        self, database: Database, *, clock: Clock | None, timeout: timedelta, room: Room, watch_absence: bool
    ) -> None:
        self._database = database
        self._clock = clock
        self._timeout = timeout
        self._room = room
        self._watch_absence = watch_absence

    def run(self, calls: Sequence[Command]) -> Sequence[Answer | Exception]:
        """The answers in the order of the calls. Raises RegistryUnavailable and RegistryUnusable for all of them."""
        done = self._beat_plainly(calls)
        others = [call for call in calls if call.key not in done]
        answers = iter(self._settle(others) if others else ())
        return [True if call.key in done else next(answers) for call in calls]

    def _beat_plainly(self, calls: Sequence[Command]) -> set[InstanceKey]:
        """Those for whom that was all there was to do."""
        done: set[InstanceKey] = set()
        now = self._clock.now() if self._clock else None
        for said, keys in plain_beats(calls):
            work = partial(beat_plainly, keys=keys, said=said, now=now, timeout=self._timeout)
            done.update(self._database.write_at_once(work))
        return done

    def _settle(self, calls: Sequence[Command]) -> Sequence[Answer | Exception]:
        answers = self._database.write(partial(self._transact, calls))
        self._room.settle()
        return answers

    def _transact(self, calls: Sequence[Command], connection: Connection) -> Sequence[Answer | Exception]:
        self._room.begin()
        transaction = Transaction(
            connection,
            clock=self._clock,
            timeout=self._timeout,
            room=self._room,
            watch_absence=self._watch_absence,
        )
        return transaction.run(calls)
