"""One transaction over many calls: facts are loaded under row locks, the rules of `instance` make new ones, what
changed is written.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import insert, update

from dbgpt_ctl.domain.commands import Drain, Heartbeat, Register, Undrain
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.database.lookup import lookup
from dbgpt_ctl.registry.database.schema import INSTANCES
from dbgpt_ctl.registry.database.tables.events import write_events
from dbgpt_ctl.registry.database.tables.instances import FACTS, among, delete_rows, locked_rows
from dbgpt_ctl.registry.database.tables.pulse import moment_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import Any

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.commands import Command
    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.lifecycle import Evaluation
    from dbgpt_ctl.registry.database.capacity import Room
    from dbgpt_ctl.registry.database.lanes import Answer
    from dbgpt_ctl.registry.database.tables.instances import Said

__all__ = ["Transaction", "plain_beats"]


def plain_beats(calls: Sequence[Command]) -> Sequence[tuple[Said | None, Collection[InstanceKey]]]:
    """Those who may do with a plain beat, by what their registers say, None for nothing. At most two groups, the
    largest: each takes a statement.
    """
    said: dict[InstanceKey, Said | None] = {}
    odd: set[InstanceKey] = set()
    for call in calls:
        if isinstance(call, Heartbeat):
            said.setdefault(call.key, None)
        elif not isinstance(call, Register):
            odd.add(call.key)
        else:
            says = (call.sent.weight, call.sent.prompt_template)
            if (said.get(call.key) or says) != says:
                odd.add(call.key)
            said[call.key] = says
    groups: defaultdict[Said | None, list[InstanceKey]] = defaultdict(list)
    for key, says_last in said.items():
        if key not in odd:
            groups[says_last].append(key)
    return sorted(groups.items(), key=lambda group: len(group[1]))[-2:]


class Transaction:
    """What one batch does within a transaction of `connection`, which the caller begins and commits.

    `clock` None means the database's. Answers are in the order of the calls: an `Answer`, or RegistryFull.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Clock | None,
        timeout: timedelta,
        room: Room,
        watch_absence: bool = False,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._timeout = timeout
        self._room = room
        self._watch_absence = watch_absence
        self._left: int | None = None
        self._swept = False

    def run(self, calls: Sequence[Command]) -> Sequence[Answer | Exception]:
        stored = {each.key: each for each in locked_rows(self._connection, {call.key for call in calls})}
        moment = moment_of(self._connection, self._clock, self._timeout, watch_absence=self._watch_absence)
        # A forgotten tombstone is unknown; its row goes, or serves the instance that comes anew.
        facts = {key: each for key, each in stored.items() if not moment.is_forgotten(each)}
        changes: list[Change] = []
        answers = [self._do(call, moment, stored, facts, changes) for call in calls]
        self._store(stored, facts)
        write_events(self._connection, changes)
        return answers

    def _do(
        self,
        call: Command,
        moment: Evaluation,
        stored: Collection[InstanceKey],
        facts: dict[InstanceKey, ModelInstance],
        changes: list[Change],
    ) -> Answer | Exception:
        current = facts.get(call.key)
        if current is not None:
            current, expiry = moment.announce_expiry(current)
            changes += expiry
            facts[call.key] = current
        evolved, answer = call.apply(current, moment.now)
        if evolved is None:
            return None if isinstance(call, Drain | Undrain) else answer
        if current is None and not self._fits(facts, stored, moment.now):
            return self._refusal(call.key)
        announced, told = moment.announce_command(current, evolved, call.cause)
        changes += told
        if announced is None or moment.is_forgotten(evolved):
            facts.pop(call.key, None)
        else:
            facts[call.key] = announced
            if isinstance(call, Drain | Undrain):
                return lookup(announced, moment, self._clock)
        return answer

    def _fits(self, facts: Collection[InstanceKey], stored: Collection[InstanceKey], now: datetime) -> bool:
        """Whether there is room for one more than the `facts` of this batch, of which `stored` have rows."""
        newcomers = len(facts) - len(stored)
        if self._left is None:
            self._left = self._room.left(self._connection, now)
        if newcomers >= self._left and not self._swept:
            self._left = self._room.sweep(self._connection, now, self._timeout, keep=stored)
            self._swept = True
        return newcomers < self._left

    def _refusal(self, key: InstanceKey) -> RegistryFull:
        return RegistryFull(
            f"{key} refused: it would be one more than the {self._room.most} that --max-instances allows; "
            "deregister some with --remove or raise it"
        )

    def _store(self, stored: Mapping[InstanceKey, ModelInstance], facts: Mapping[InstanceKey, ModelInstance]) -> None:
        """Fails, and with it the transaction, when another controller was first to insert."""
        gone, new = stored.keys() - facts.keys(), sorted(facts.keys() - stored.keys())
        if gone:
            delete_rows(self._connection, gone)
        if new:
            rows = [key._asdict() | {name: getattr(facts[key], name) for name in FACTS} for key in new]
            self._connection.execute(insert(INSTANCES), rows)
        self._room.take(len(new) - len(gone))
        if any(each.removed for each in facts.values()):
            self._room.note_tombstone()
        self._update((stored[key], facts[key]) for key in stored if key in facts)

    def _update(self, changes: Iterable[tuple[ModelInstance, ModelInstance]]) -> None:
        """Rows that change in the same way share one statement: upserts take the database ten times as long."""
        alike: defaultdict[tuple[tuple[str, Any], ...], list[InstanceKey]] = defaultdict(list)
        for old, new in changes:
            if new is not old:
                change = tuple((name, getattr(new, name)) for name in FACTS if getattr(new, name) != getattr(old, name))
                alike[change].append(new.key)
        for change, keys in alike.items():
            if change:
                self._connection.execute(update(INSTANCES).where(among(keys)).values(dict(change)))
