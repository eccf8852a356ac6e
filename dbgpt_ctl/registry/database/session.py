"""Transactions on one database: repeated after a conflict, bounded in time, with errors that a person understands."""

from __future__ import annotations

import logging
import time
from random import Random
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.errors import RegistryError
from dbgpt_ctl.registry.contract import NO_OBSERVER, RegistryHealth
from dbgpt_ctl.registry.database.dialects import dialect_of
from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts, cause_of
from dbgpt_ctl.registry.database.host_failover import DatabaseHosts, failures_of, try_hosts
from dbgpt_ctl.registry.database.tables.schema import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import URL, Connection, Engine

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.databases import DatabaseHost
    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.registry.contract import RegistryObserver

_LOG = logging.getLogger(__name__)
DAMAGE_SECS = 60.0
"""Every part of a controller has used its tables again by then."""
MAX_DAMAGES = 8
"""Of more texts than these the newest are kept."""
_FIRST_BACKOFF_SECS = 0.004
_LAST_BACKOFF_SECS = 0.128

K = TypeVar("K")
T = TypeVar("T")


def batches(keys: Sequence[K], size: int) -> Iterator[Sequence[K]]:
    """The keys in their order, up to `size` at a time."""
    return (keys[start : start + size] for start in range(0, len(keys), size))


class Database:
    """One database and its health as of the last transaction. Its methods block; several threads may use it.

    It has not connected yet. `hosts` stand for the host and port in `url`; the password in `url` is in no error or log.
    Raises UsageError for a database that this package cannot use.
    """

    def __init__(
        self,
        url: URL,
        *,
        pool_size: int,
        max_overflow: int,
        timeouts: DatabaseTimeouts | None = None,
        hosts: Sequence[DatabaseHost] = (),
        ssl_ca: str | None = None,
        randomness: Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        observer: RegistryObserver = NO_OBSERVER,
    ) -> None:
        self.dialect = dialect_of(url)
        self.hosts = DatabaseHosts(hosts, monotonic) if hosts else None
        self.place = f"{self.hosts}/{url.database}" if self.hosts else self.dialect.place(url)
        self.health = RegistryHealth(
            ready=False, checks=(Check("database", f"database {self.place} was not asked yet"),)
        )
        self.closing = False
        self._url = url
        self._timeouts = timeouts or DatabaseTimeouts()
        self._pool = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "pool_timeout": self._timeouts.pool,
            # Every transaction is ended by its block before its connection goes back: to reset it costs a round trip.
            "pool_reset_on_return": None,
            "hide_parameters": True,
        }
        self._ssl_ca = ssl_ca
        self.engine = self._connect(self.hosts)
        self.readers = self._connect(self.hosts, reads=True)
        self._random = randomness or Random()  # noqa: S311 - spreads retries, guards nothing
        self._sleep = sleep
        self._monotonic = monotonic
        self._observer = observer
        self._damages: dict[str, float] = {}

    @property
    def used_place(self) -> str:
        """`place`, but of several hosts only the one that is in use."""
        used = self.hosts.current if self.hosts else None
        return f"{used}/{self._url.database}" if used else self.place

    @property
    def kind(self) -> str:
        """One of `databases.REGISTRIES`, as the server reports it; before the first connection, as the URL does."""
        return self.dialect.kind(self.engine)

    @property
    def clock(self) -> Clock | None:
        """This host's clock for a database without one; None: the time is the database's (rule 7)."""
        return SystemClock() if self.dialect.current_time is None else None

    def exists(self) -> bool:
        """False: to connect would create the database."""
        return self.dialect.exists(self._url)

    def prepare(self) -> None:
        """Creates the tables, or adds what older ones lack. Raises RegistryUnavailable and RegistryUnusable."""
        self.closing = False
        self._retry(self._prepare)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction and returns its result after the commit. `work` may run several times.

        Raises RegistryUnavailable and RegistryUnusable; any other error is an error of `work` itself.
        """
        return self._retry(lambda: self._write(work))

    def write_changes(self, work: Callable[[Connection], tuple[T, Sequence[Change]]]) -> T:
        """As `write`, for work that returns with its result the changes that it stored: the observer gets them after
        the commit.

        It gets each change at most once. Only the last try counts, since the other ones left nothing. When the
        connection is lost during a commit, nobody knows whether it took place: the next try finds nothing to change if
        it did, and then the observer does not get the changes.
        """
        result, changes = self.write(work)
        if changes:
            self._observer.changes_written(changes)
        return result

    def in_turns(self, write: Callable[[Sequence[K]], T], keys: Sequence[K], at_once: int) -> list[T]:
        """Calls `write` with each batch of `at_once` keys. After each it rests as long as that took, so that calls that
        wait get their turn. Ends early when the registry is `closing`.
        """
        results: list[T] = []
        rest = 0.0
        for batch in batches(keys, at_once):
            self._sleep(rest)
            if self.closing:
                break
            started = self._monotonic()
            results.append(write(batch))
            rest = self._monotonic() - started
        return results

    def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction that only reads and sees all that was committed before. Raises as `write`."""
        return self._retry(lambda: self._read(work))

    def write_at_once(self, work: Callable[[Connection], T]) -> T:
        """Runs `work`, which needs no transaction around its statements. Raises as `write`.

        Where a database `commits_reads` each statement is a transaction of its own: that saves the round trip of a
        commit, and no lock waits for another statement.
        """
        return self._retry(lambda: (self._read if self.dialect.commits_reads else self._write)(work))

    def return_to_better_host(self, first: Callable[[Connection], object]) -> None:
        """Goes back to a host that stands before the current one in the list and serves again: there all controllers
        meet (rule 7). `first` runs there before anything else: the host may have another clock. Raises nothing of the
        database.
        """
        better = self.hosts.better() if self.hosts else None
        if self.hosts is None or better is None:
            return
        trial = self._connect(DatabaseHosts([better], self._monotonic))
        try:
            with trial.begin() as connection:
                first(connection)
        except DBAPIError:
            self.hosts.failed(better)
        else:
            self.hosts.worked(better)
        finally:
            trial.dispose()

    @property
    def damage(self) -> str | None:
        """What calls of the last DAMAGE_SECS could not do, although the database answers, in one line; else None."""
        return "; ".join(self._recent_damages()) or None

    def note_damage(self, text: str) -> None:
        """Notes that a statement failed by the state of the tables. The log has each text once, until it has been well
        for DAMAGE_SECS: several tables can be missing, and each is used again every second.
        """
        self._observer.failed("damage")
        damages = self._recent_damages()
        if text not in damages:
            _LOG.error("%s", text, extra={"event": "database.damaged"})
            damages = dict(list(damages.items())[1 - MAX_DAMAGES :])
        self._damages = damages | {text: self._monotonic()}

    def _recent_damages(self) -> dict[str, float]:
        """The texts in the order in which they came, with the last time of each. Several threads note damages."""
        begin = self._monotonic() - DAMAGE_SECS
        return {text: at for text, at in self._damages.items() if at > begin}

    def dispose(self) -> None:
        """Closes the connections that are not in use."""
        self.engine.dispose()
        self.readers.dispose()

    def _connect(self, hosts: DatabaseHosts | None, *, reads: bool = False) -> Engine:
        engine = self.dialect.create_engine(self._url, self._pool, self._timeouts, self._ssl_ca, reads=reads)
        if hosts is not None:
            try_hosts(engine, hosts, self.dialect)
        return engine

    def _prepare(self) -> None:
        self.dialect.create_storage(self.engine)
        with self.engine.begin() as connection:
            prepare(connection, self.used_place)

    def _write(self, work: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return work(connection)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self.readers.connect() as connection:
            return work(connection)

    def _retry(self, action: Callable[[], T]) -> T:
        started = self._monotonic()
        tries = 0
        while True:
            try:
                result = action()
            except Exception as error:
                tries += 1
                if not self._is_worth_a_retry(error, tries, self._monotonic() - started):
                    meaning = self._meaning_of(error)
                    if meaning is None:
                        raise
                    if self.health.ready and self.dialect.error_code(cause_of(error)) in self.dialect.damaged:
                        self.note_damage(str(meaning))
                    else:
                        self._note(str(meaning))
                        if meaning is not error:  # a RegistryError of the work itself is no failure of the database
                            self._observer.failed("connection")
                    raise meaning from error
                self._observer.failed("conflict" if self.dialect.is_conflict(error) else "connection")
            else:
                self._note(None)
                return result
            self._sleep(self._random.uniform(0, min(_FIRST_BACKOFF_SECS * 2**tries, _LAST_BACKOFF_SECS)))

    def _meaning_of(self, error: Exception) -> RegistryError | None:
        if isinstance(error, RegistryError):
            return error
        failures = {f"{host}/{self._url.database}": failed for host, failed in failures_of(cause_of(error))}
        return self.dialect.meaning_of(error, self.used_place, failures)

    def _is_worth_a_retry(self, error: Exception, tries: int, elapsed: float) -> bool:
        """A retry is safe: a failed transaction left nothing, and one whose commit was not confirmed can be repeated
        without harm.
        """
        if self.dialect.is_conflict(error):
            return elapsed < self._timeouts.retries
        # The pool may hold dead connections to a server that is back. A server that took long to fail is not back, but
        # another host may serve.
        lost_connection = isinstance(error, DBAPIError) and error.connection_invalidated
        if lost_connection and tries == 1 and not isinstance(cause_of(error).__context__, TimeoutError):
            # The database has ended an idle transaction, because this process stood still: the server took no time.
            return True
        several = self.hosts is not None and len(self.hosts.all) > 1
        return lost_connection and elapsed < (self._timeouts.retries if several else self._timeouts.connect)

    def _note(self, failure: str | None) -> None:
        if failure is None and self.health.ready:
            return
        if failure is None:
            _LOG.info("database %s answers", self.used_place, extra={"event": "registry.available"})
        elif self.health.ready:
            _LOG.warning("%s", failure, extra={"event": "registry.unavailable"})
        self.health = RegistryHealth(ready=failure is None, checks=(Check("database", failure),))
