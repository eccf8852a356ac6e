"""The contract of all registries.

They are `embedded` (in memory), `database` (see `databases`) and `remote` (behind another controller). One test
suite in tests/registry checks the contract for each of them. A registry takes plain arguments and a clock; it knows
neither settings nor FastAPI.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import EVERYTHING, OPERATOR, WORKER, EventQuery
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.model_counts import CountsByModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from dbgpt_ctl.domain.controllers import Check, ControllerRecord
    from dbgpt_ctl.domain.events import Actor, Change, EventFilter, EventPage
    from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey, ListedInstance, Registration
    from dbgpt_ctl.domain.registry_outage import Hold


class RegistryObserver:
    """Ignores everything; a subclass counts. Any thread may call the methods. They return at once and raise nothing."""

    def changes_written(self, changes: Sequence[Change]) -> None:
        """The changes are stored, in a database after the commit. Of all registries that share a database, the one that
        wrote a change tells it, once. Nobody tells a change whose commit took place without a confirmation.
        """

    def committed(self, calls: int, seconds: float) -> None:
        """A batch of so many calls that change facts is done, after so many seconds with its commit."""

    def failed(self, kind: str) -> None:
        """The storage failed. `kind` is conflict (the transaction is tried again), connection (there is none, it was
        lost, or there was no answer in time), damage (a table is not as this release made it, or a read left out rows
        that cannot be read), or unavailable (the other controller of a registry that forwards).
        """


NO_OBSERVER = RegistryObserver()
"""Ignores everything. The default of all registries."""


MAX_EVENTS = 10_000
MAX_EVENT_AGE = timedelta(days=7)
"""The limits of what workers, time and the registry itself did; some time later, more is forgotten. Beyond MAX_EVENTS
the oldest event goes of the model that has most of them, but none of the newest RECENT_EVENTS.
"""
RECENT_EVENTS = 5_000
"""They stay whatever model they are of, so that a reader who follows all events gets each of them."""
MAX_OPERATOR_EVENTS = 100_000
MAX_OPERATOR_EVENT_AGE = timedelta(days=30)
"""The same limits of what operators did. Beyond MAX_OPERATOR_EVENTS the oldest go."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Listing:
    """An answer to `list`. It is immutable: while nothing changes, many calls may get the same object.

    `entries` are in order of identity. `stale_since` is None, or the time from which on changes may be missing because
    the storage cannot be read (rule 10).
    """

    entries: tuple[ListedInstance, ...]
    stale_since: datetime | None = None
    held_until: datetime | None = None
    """At least one instance counts as alive only because the registry itself was away; the instances have until then to
    send a heartbeat (rule 8).
    """
    time: datetime | None = None
    """The time of the answer, by the registry's clock; None where that is this process's clock too (rule 7)."""
    heartbeat_timeouts_secs: tuple[float, ...] = ()
    """Those of the controllers that share the registry, the shortest first, where they differ: the others may give
    other states. Else empty.
    """


@dataclass(frozen=True, slots=True)
class Lookup:
    """One instance as `get`, `drain`, `undrain` and a register that drains return it.

    The other facts are as in a `Listing`.
    """

    entry: ListedInstance
    time: datetime | None = None
    held_until: datetime | None = None
    heartbeat_timeouts_secs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistryHealth:
    """`ready`: lists can be answered. `checks`: the parts on which that depends, and the parts in which something can
    be wrong while the registry is ready. `stale_since`: that of the next list, as far as it is known without I/O.
    """

    ready: bool
    checks: tuple[Check, ...] = ()
    stale_since: datetime | None = None

    @property
    def reason(self) -> str | None:
        """What is wrong, in one line, also while the registry is ready but degraded; None when nothing is wrong."""
        return "; ".join(check.detail for check in self.checks if check.detail is not None) or None

    def with_checks(self, *checks: Check) -> RegistryHealth:
        """The same with more parts."""
        return replace(self, checks=(*self.checks, *checks))


@dataclass(frozen=True, slots=True)
class RegistryInfo:
    """`kind` is one of `databases.REGISTRIES`. `place` is where the facts are stored, without secrets; None for memory.
    `durable`: the facts outlive this process.
    """

    kind: str
    place: str | None
    durable: bool


@dataclass(frozen=True, slots=True)
class RegistryFigures:
    """Numbers of a registry. None: it does not know, because it was not read yet, the database is away, or another
    controller keeps it.

    `instances` counts what counts toward `max_instances`: instances and tombstones. `waiting_calls`: heartbeats and
    other calls that change instances, and wait for a transaction. `clock_offset_secs`: the registry's clock minus the
    clock of this machine (rule 7), while the database is away the last one that was measured.
    """

    instances: int | None = None
    max_instances: int | None = None
    waiting_calls: int = 0
    clock_offset_secs: float | None = None


class ModelRegistry(ABC):
    """The facts of all instances. One event loop uses one registry.

    Every method may raise RegistryUnavailable (try again) and, before anything is stored, RegistryUnusable (a person
    must act). Every wait is bounded. Each call is atomic per instance: concurrent calls for one identity result in one
    row, and each call sees the facts either before or after any other call.
    """

    @abstractmethod
    async def open(self) -> None:
        """Connects and prepares the storage; afterwards `health().ready` is true. Repeatable after RegistryUnavailable.
        Other calls may come before it has succeeded: they raise RegistryUnavailable.
        """

    @abstractmethod
    async def register(
        self, sent: Registration, *, drain: DrainRequest | None = None, actor: Actor = WORKER
    ) -> Lookup | None:
        """Stores a new instance as sent, or updates weight, prompt template and heartbeat of a known one and revives it
        (rules 4 and 5).

        With `drain` the same call also drains the instance, new or known, as `drain` does: it is never routable in
        between, and one event reports both. `sent.enabled` is not read then. Returns the instance as it is afterwards;
        without `drain` None.

        The instance is stored when it returns (rule 9). Raises RegistryFull for a new instance beyond `max_instances`.
        """

    @abstractmethod
    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        """Marks the instance deregistered, or with `remove` takes it out of every list. Its late heartbeats are refused
        (rule 4).

        True for an instance that is known or remembered, else False. Repeating it is safe. Stored when it returns.
        """

    @abstractmethod
    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        """Records a heartbeat, or registers an unknown instance. No other fact of a known instance changes (rule 5).

        False, without any change of state, when the instance is deregistered or removed (rule 4). Stored when it
        returns. Raises RegistryFull for an unknown instance beyond `max_instances`.
        """

    @abstractmethod
    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        """All instances, or those with the given `model_name`, with their states now, in order of identity.

        `healthy_only` means routable: healthy, not drained, not deregistered (rule 3). The answer holds every write
        that was acknowledged before the call.
        """

    async def count(self) -> CountsByModel:
        """The number of instances by model and state, as a list of all instances now would show them.

        Other calls may be served meanwhile. Raises RegistryUnavailable where such a list would be stale.
        """
        listing = await self.list()
        if listing.stale_since is not None:
            raise RegistryUnavailable(f"the instances are known only as of {listing.stale_since.isoformat()}")
        counts = CountsByModel()
        await counts.add_all(listing.entries)
        return counts

    @abstractmethod
    async def get(self, key: InstanceKey) -> Lookup | None:
        """One instance with its state now; also a removed one, for as long as it is remembered. None: it is unknown.

        The answer holds every write that was acknowledged before the call.
        """

    @abstractmethod
    async def drain(
        self,
        key: InstanceKey,
        *,
        reason: str | None = None,
        duration: timedelta | None = None,
        actor: Actor = OPERATOR,
    ) -> Lookup | None:
        """Keeps requests from the instance for `duration` by the registry's clock, or until `undrain`, whatever its
        worker sends meanwhile (rules 3 and 5).

        Returns the instance as it is afterwards; None: it is in no list. Repeating it is safe: it replaces the end of
        the drain, keeps its begin, and keeps its reason if it gives none. Stored when it returns. No timer ends a
        drain: every list derives the end.
        """

    @abstractmethod
    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        """Ends a drain. Returns, and may be repeated, as `drain`."""

    @abstractmethod
    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, unchecked: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        """Removes the instances that have been unhealthy or deregistered for longer than `older_than`, except drained
        ones. Returns the identities of those that it removed, in order.

        With `unchecked` also those without `check_healthy`, which are healthy for ever: when their last heartbeat is
        older than `older_than` and than the heartbeat timeout.

        Raises StatesHeld while states are held (rule 8). With `dry_run` it removes none. Atomic per instance, not as a
        whole: other calls are served meanwhile, and each instance is evaluated when it is removed.
        """

    async def events(
        self, *, where: EventFilter = EVERYTHING, after: int | None = None, limit: int = 1000
    ) -> EventPage:
        """Changes of state or drain that `where` selects, in order of their ids: the first `limit` with an id greater
        than `after`, or the last `limit` without it.

        The answer holds every change by a call that was acknowledged before, and an expiry after the next `announce`.
        Numbers rise by one with each event, but some of those between are forgotten. `missed`: events after `after`
        are, whether `where` selects them or not; or `after` is beyond the newest id, so it is of another numbering.
        """
        return await self.read_events(EventQuery(after, where, limit))

    @abstractmethod
    async def read_events(self, query: EventQuery) -> EventPage:
        """As `events`, with its arguments in one value."""

    @abstractmethod
    async def announce(self) -> None:
        """Writes an event for each instance whose heartbeat got too old, unless states are held, and for each drain
        whose time is over, which it also removes from the facts.

        A registry that watches its absence does it every second by itself. The event's time is the time of the expiry,
        or the end of the drain.
        """

    @abstractmethod
    def describe(self) -> RegistryInfo:
        """What the registry is, without I/O."""

    @abstractmethod
    def health(self) -> RegistryHealth:
        """Whether lists can be answered, without I/O."""

    def figures(self) -> RegistryFigures:
        """Numbers for metrics, as of the last seconds and without I/O."""
        return RegistryFigures()

    def controllers(self) -> tuple[ControllerRecord, ...]:
        """The living controllers that share the storage, with this one, as of the last second and without I/O. Empty
        where no other controller can share it, or where another controller keeps it.
        """
        return ()

    async def outages(self) -> tuple[Hold, ...]:
        """The outages of the registry that it noticed with a tick, and the hold after each, the newest last; at most
        MAX_OUTAGES, of the last OUTAGES_KEPT_FOR. An outage that goes on while states are held is one.

        As of the last second, also while the storage is away. Empty where absence is not watched. Of several
        controllers that share the storage, one stores an outage, and each returns it.
        """
        return ()

    @property
    def forwarder_id(self) -> str | None:
        """The id of a registry behind another controller, in each request that it sends there; None for any other
        registry. The controller that serves it refuses a request that has this id already: it would have no end.
        """
        return None

    @abstractmethod
    async def close(self) -> None:
        """Finishes calls under way and closes connections. Repeatable; other calls then raise RegistryUnavailable."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
