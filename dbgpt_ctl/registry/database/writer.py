"""How a batch of commands is stored: plain heartbeats with one UPDATE, the rest in one transaction, where facts are
loaded under row locks, the commands make new facts, and what changed is written. A row that cannot be read counts as
none: a register or a heartbeat of its instance writes it anew.

When many workers register for the first time, as in a new cluster, neither that UPDATE nor the locks find a row. So
after a batch of registers of which none was known, the next batch of registers is inserted without a look. The primary
key holds: a row that is there after all is a conflict, and the transaction is tried again with locks.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from dbgpt_ctl.domain.lifecycle import Heartbeat, Register, is_forgotten
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.contract import Lookup
from dbgpt_ctl.registry.database.tables.events import write_events
from dbgpt_ctl.registry.database.tables.instances import (
    count_rows,
    delete_rows,
    found_rows,
    insert_rows,
    locked_rows,
    store_plain_heartbeats,
    update_rows,
)
from dbgpt_ctl.registry.database.tables.schema import INSTANCES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.lifecycle import Command, Evaluation
    from dbgpt_ctl.registry.contract import RegistryObserver
    from dbgpt_ctl.registry.database.damaged_rows import DamagedRows
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.instances import RegisteredValues
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime
    from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow


class Capacity:
    """The limit `max_instances`, tombstones included, and a count that is trusted for a while.

    To count rows and to search for tombstones takes scans. So one controller keeps the limit exactly, and several that
    share a database may exceed it by the number of instances that they all store in KEPT_SECS.
    """

    KEPT_SECS = 10.0
    RECLAIMED_AT_ONCE = 500

    def __init__(self, max_instances: int) -> None:
        self.max_instances = max_instances
        self._remaining = 0
        self._counted_at: datetime | None = None
        self._tombstones: list[ModelInstance] = []
        self._searched_at: datetime | None = None

    def remaining(self, connection: Connection, now: datetime) -> int:
        """Rows that may still be inserted."""
        if not self._is_recent(self._counted_at, now):
            self._remaining = self.max_instances - count_rows(connection)
            self._counted_at = now
        return self._remaining

    def note_inserted(self, rows: int) -> None:
        """Notes how many rows were inserted (negative: deleted)."""
        self._remaining -= rows

    def note_tombstone(self) -> None:
        """Notes that there is a tombstone that the last search did not find."""
        self._searched_at = None

    def reclaim(
        self, connection: Connection, now: datetime, timeout: timedelta, *, keep: Collection[InstanceKey]
    ) -> None:
        """Deletes up to RECLAIMED_AT_ONCE tombstones that are not needed any more (rule 4), except those in `keep`,
        which the transaction holds already.
        """
        if not self._is_recent(self._searched_at, now):
            self._tombstones = found_rows(connection, INSTANCES.c.removed)
            self._searched_at = now
        forgotten = [
            tombstone.key
            for tombstone in self._tombstones
            if is_forgotten(tombstone, now, timeout) and tombstone.key not in keep
        ]
        # Another controller may have revived some since: only locked rows are evaluated.
        locked = locked_rows(connection, forgotten[: self.RECLAIMED_AT_ONCE]) if forgotten else []
        gone = [instance.key for instance in locked if is_forgotten(instance, now, timeout)]
        if gone:
            delete_rows(connection, gone)
            self.note_inserted(-len(gone))
        if forgotten:
            self._searched_at = None

    def _is_recent(self, then: datetime | None, now: datetime) -> bool:
        return then is not None and 0 <= (now - then).total_seconds() <= self.KEPT_SECS


log = logging.getLogger(__name__)

Answer: TypeAlias = bool | Lookup | None
"""The answer of a command; of one that `returns_instance` the instance afterwards, None if it is in no list."""


class Writer:
    """Stores batches, one at a time. It blocks. `observer` learns how many calls a batch had, and how long it took."""

    def __init__(
        self,
        database: Database,
        time: RegistryTime,
        capacity: Capacity,
        unreadable: DamagedRows,
        *,
        observer: RegistryObserver,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._unreadable = unreadable
        self._time = time
        self._capacity = capacity
        self._observer = observer
        self._monotonic = monotonic
        self._must_recount = False
        self._expects_new = False

    def recount(self) -> None:
        """Rows were deleted in another transaction: the next batch counts anew. Any thread may call it."""
        self._must_recount = True

    def store(self, commands: Sequence[Command]) -> Sequence[Answer | Exception]:
        """Stores or refuses each command before it returns; the answers are in the order of the commands.

        An answer may be RegistryFull. Raises RegistryUnavailable and RegistryUnusable for all of them.
        """
        began = self._monotonic()
        done = self._store_plain_heartbeats(commands)
        others = [command for command in commands if command.key not in done]
        answers: Iterator[Answer | Exception] = iter(())
        if others:
            work = partial(self._run_transaction, others)
            stored, self._capacity, self._expects_new = self._database.write_changes(work)
            answers = iter(stored)
        self._observer.committed(len(commands), self._monotonic() - began)
        return [True if command.key in done else next(answers) for command in commands]

    def _store_plain_heartbeats(self, commands: Sequence[Command]) -> set[InstanceKey]:
        """Returns the instances whose commands are done with that."""
        done: set[InstanceKey] = set()
        clock, timeout = self._time.clock, self._time.announcing_timeout
        now = clock.now() if clock else None
        for registered, keys in plain_heartbeats(commands, self._unreadable.keys):
            if registered is not None and self._expects_new:
                continue  # a row that is there is found by its conflict
            work = partial(store_plain_heartbeats, keys=keys, registered=registered, now=now, timeout=timeout)
            done.update(self._database.write_at_once(work))
        return done

    def _run_transaction(
        self, commands: Sequence[Command], connection: Connection
    ) -> tuple[tuple[Sequence[Answer | Exception], Capacity, bool], Sequence[Change]]:
        """The answers, the capacity afterwards, and whether to expect that the next registers are of new names; then
        the changes.
        """
        if self._must_recount:
            self._must_recount, self._capacity = False, Capacity(self._capacity.max_instances)
        # Without a commit, what this transaction counts may not be so: the next one counts anew.
        capacity, self._capacity = self._capacity, Capacity(self._capacity.max_instances)
        expects_new, self._expects_new = self._expects_new, False  # the next try of this transaction looks
        are_registers = self._database.dialect.retries_duplicates and all(
            isinstance(command, Register) for command in commands
        )
        transaction = _Transaction(connection, self._time, capacity)
        answers, changes = transaction.run(commands, expects_new=expects_new and are_registers)
        return (answers, capacity, are_registers and transaction.found_none), changes


def plain_heartbeats(
    commands: Sequence[Command], but: Collection[InstanceKey] = ()
) -> Sequence[tuple[RegisteredValues | None, Collection[InstanceKey]]]:
    """The instances whose commands a plain heartbeat may do, by the values in their registers, None for no register.
    None of `but`.

    At most two groups, the largest: each group takes a statement.
    """
    values_of: dict[InstanceKey, RegisteredValues | None] = {}
    ineligible = set(but)
    for command in commands:
        if isinstance(command, Heartbeat):
            values_of.setdefault(command.key, None)
        elif not isinstance(command, Register) or command.drain is not None:
            ineligible.add(command.key)
        else:
            values = (command.sent.weight, command.sent.prompt_template)
            if (values_of.get(command.key) or values) != values:
                ineligible.add(command.key)
            values_of[command.key] = values
    groups: defaultdict[RegisteredValues | None, list[InstanceKey]] = defaultdict(list)
    for key, registered in values_of.items():
        if key not in ineligible:
            groups[registered].append(key)
    return sorted(groups.items(), key=lambda group: len(group[1]))[-2:]


class _Transaction:
    """The commands of one batch within a transaction of `connection`, which the caller begins and commits."""

    def __init__(self, connection: Connection, time: RegistryTime, capacity: Capacity) -> None:
        self._connection = connection
        self._time = time
        self._capacity = capacity
        self._reclaimed = False
        self._unreadable: set[InstanceKey] = set()
        """Identities whose rows cannot be read."""
        self.found_none = False

    def run(
        self, commands: Sequence[Command], *, expects_new: bool = False
    ) -> tuple[Sequence[Answer | Exception], Sequence[Change]]:
        """The answers and the changes. With `expects_new` no row is read: all instances are inserted, and the database
        refuses one that is there.
        """
        keys = {command.key for command in commands}
        unreadable: list[UnreadableRow] = []
        locked = [] if expects_new else locked_rows(self._connection, keys, unreadable)
        self.found_none = not (locked or unreadable)
        stored = {instance.key: instance for instance in locked}
        evaluation = self._time.announcing(self._connection)
        self._unreadable = {row.key for row in unreadable if row.key is not None}
        # A forgotten tombstone is unknown; its row goes, or serves the instance that registers anew.
        facts = {key: instance for key, instance in stored.items() if not evaluation.is_forgotten(instance)}
        changes: list[Change] = []
        rows = stored.keys() | self._unreadable
        answers = [self._apply(command, evaluation, rows, facts, changes) for command in commands]
        if expects_new and facts.keys() != keys:
            return self.run(commands)  # one was refused, and no row of it shows whether it is new
        self._store(stored, facts)
        write_events(self._connection, changes)
        return answers, changes

    def _apply(
        self,
        command: Command,
        evaluation: Evaluation,
        stored: Collection[InstanceKey],
        facts: dict[InstanceKey, ModelInstance],
        changes: list[Change],
    ) -> Answer | Exception:
        key = command.key
        current = facts.get(key)
        if current is not None:
            current, due = evaluation.announce(current)
            changes += due
            facts[key] = current
        after, answer = command.apply(current, evaluation.now)
        if after is None:
            return None if command.returns_instance else answer
        if current is None and not self._has_capacity(facts, stored, evaluation.now):
            return RegistryFull.refusing(key, self._capacity.max_instances)
        announced, changed = evaluation.announce_command(current, after, command.cause)
        changes += changed
        if announced is None or evaluation.is_forgotten(after):
            facts.pop(key, None)
            return answer
        facts[key] = announced
        return self._time.lookup(announced, evaluation) if command.returns_instance else answer

    def _has_capacity(self, facts: Collection[InstanceKey], stored: Collection[InstanceKey], now: datetime) -> bool:
        """Whether one more than the `facts` of this batch can be stored, of which `stored` have rows."""
        new = len(facts) - len(stored)
        if new >= self._capacity.remaining(self._connection, now) and not self._reclaimed:
            self._capacity.reclaim(self._connection, now, self._time.announcing_timeout, keep=stored)
            self._reclaimed = True
        return new < self._capacity.remaining(self._connection, now)

    def _store(self, stored: Mapping[InstanceKey, ModelInstance], facts: Mapping[InstanceKey, ModelInstance]) -> None:
        new = sorted(facts.keys() - stored.keys())
        gone = stored.keys() - facts.keys() | self._unreadable & facts.keys()
        if gone:
            delete_rows(self._connection, gone)
        if new:
            insert_rows(self._connection, [facts[key] for key in new])
        self._capacity.note_inserted(len(new) - len(gone))
        if any(instance.removed for instance in facts.values()):
            self._capacity.note_tombstone()
        update_rows(self._connection, ((stored[key], facts[key]) for key in stored if key in facts))
