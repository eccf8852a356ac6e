"""The one seam of this package: where instances are kept.

A `ModelRegistry` has three kinds of home, `embedded` (in memory), `database` (SQLite, MySQL, MariaDB) and `remote`
(behind another controller). All keep the same promises, and one contract suite in tests/registry holds them to it. A
registry takes plain arguments and a clock; it knows neither settings nor FastAPI.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import OPERATOR, WORKER

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Self

    from dbgpt_ctl.domain.events import Actor, EventPage
    from dbgpt_ctl.domain.instance import InstanceKey, ListedInstance, Registration

__all__ = ["MAX_EVENTS", "MAX_EVENT_AGE_DAYS", "Listing", "Lookup", "ModelRegistry", "RegistryHealth", "RegistryInfo"]

MAX_EVENTS = 10_000
MAX_EVENT_AGE_DAYS = 7
"""Events beyond either are forgotten, the oldest first, some time after."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Listing:
    """An answer to `list`, immutable; the same object may answer many calls while nothing changes.

    `entries` are in order of identity. `stale_since` is None, or the time from which on the answer may miss changes
    because the registry itself could not be asked (rule 10).
    """

    entries: tuple[ListedInstance, ...]
    stale_since: datetime | None = None
    held_until: datetime | None = None
    """Some are listed as alive only because the registry itself was away: until then they may beat again (rule 8)."""
    time: datetime | None = None
    """When it was made, by the registry's clock; None where that is this process's clock too (rule 7)."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """One instance as `get`, `drain` and `undrain` return it.

    `time` is when the state was evaluated, by the registry's clock; None where that is this process's clock too (rule
    7). `held_until`: the instance counts as alive only because the registry itself was away, and has until then to
    send a heartbeat (rule 8); else None.
    """

    entry: ListedInstance
    time: datetime | None = None
    held_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RegistryHealth:
    """`ready`: lists can be answered. `reason`: one line on what is wrong, also while it is ready but degraded; else
    None.
    """

    ready: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryInfo:
    """What kind of registry it is: embedded, sqlite, mysql, mariadb or remote.

    `place`: where it keeps its facts, without secrets; None for memory. `durable`: whether they outlive this process.
    """

    kind: str
    place: str | None
    durable: bool


class ModelRegistry(ABC):
    """Where the facts of all instances are kept. Not bound to threads: one event loop uses one registry.

    Every method may raise RegistryUnavailable (try again) and, before anything is stored, RegistryUnusable (a person
    must act). Every wait is bounded. Each call is atomic per instance: of concurrent calls for one identity, one row
    results, and each call sees the facts either before or after any other.
    """

    @abstractmethod
    async def open(self) -> None:
        """Connects and prepares storage; afterwards `health().ready`. Repeatable after RegistryUnavailable. No other
        call needs it to have succeeded: they raise RegistryUnavailable.
        """

    @abstractmethod
    async def register(self, sent: Registration, *, actor: Actor = WORKER) -> None:
        """Stores a new instance as sent, or updates weight, prompt template and beat of a known one, and revives it
        (rules 4 and 5).

        When it returns, the instance is stored (rule 9). Raises RegistryFull for a new instance beyond `max_instances`.
        """

    @abstractmethod
    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        """Marks the instance deregistered, or with `remove` takes it out of every list; it refuses late beats (rule 4).

        True for what is or was known, False for what never was. Repeating it is safe. Stored when it returns.
        """

    @abstractmethod
    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        """Notes a beat; registers what is unknown. Of a known instance no other fact changes (rule 5).

        False, and nothing revived, when the instance is deregistered or removed (rule 4). Stored when it returns.
        Raises RegistryFull for an unknown instance beyond `max_instances`.
        """

    @abstractmethod
    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        """All instances, or those whose `model_name` equals the one given, with their states now, in order of identity.

        `healthy_only` means routable: healthy, not drained, not deregistered (rule 3). Holds every write acknowledged
        before the call.
        """

    @abstractmethod
    async def get(self, key: InstanceKey) -> Lookup | None:
        """One instance with its state now; also a removed one, for as long as it is remembered. None: it is unknown.

        Holds every write acknowledged before the call.
        """

    @abstractmethod
    async def drain(self, key: InstanceKey, *, reason: str | None = None, actor: Actor = OPERATOR) -> Lookup | None:
        """Keeps requests from the instance until `undrain`, whatever its worker sends meanwhile (rules 3 and 5).

        Returns the instance as it is afterwards; None: it is in no list. Repeating it is safe. Stored when it returns.
        """

    @abstractmethod
    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        """Ends a drain. Returns, and may be repeated, as `drain`."""

    @abstractmethod
    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        """Forgets what has been unhealthy or deregistered for longer than that, never what is drained; tells which, in
        order of identity.

        Nothing while states are held (rule 8). With `dry_run` it only tells. Atomic per instance, not as a whole.
        """

    @abstractmethod
    async def events(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        key: InstanceKey | None = None,
        limit: int = 1000,
    ) -> EventPage:
        """Changes of state, in order of their ids: the first `limit` whose id is beyond `after`; without it the last
        `limit`. Only those from `since` on, and only of `key`, where given.

        Holds every change that a call acknowledged before made; an expiry, after the next `announce`. `missed` tells
        that some beyond `after` are forgotten, or that `after` is of another numbering: it is beyond the newest.
        """

    @abstractmethod
    async def announce(self) -> None:
        """Tells what time alone has changed: an event for each beat that got too old (not while states are held).

        Runs every second by itself where absence is watched. An event's time is when the beat got too old.
        """

    @abstractmethod
    def describe(self) -> RegistryInfo:
        """What it is, without asking anybody."""

    @abstractmethod
    def health(self) -> RegistryHealth:
        """Whether lists can be answered, without asking anybody."""

    @abstractmethod
    async def close(self) -> None:
        """Finishes what was begun, lets go of connections. Repeatable; other calls then raise RegistryUnavailable."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
