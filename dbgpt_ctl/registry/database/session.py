"""Runs transactions: again when another was in the way, never longer than promised, and with errors that people
understand.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

from dbgpt_ctl.database_hosts import DatabaseHosts
from dbgpt_ctl.errors import RegistryError
from dbgpt_ctl.registry.contract import RegistryHealth
from dbgpt_ctl.registry.database.dialects.base import is_conflict, lost_connection, meaning_of, place_of
from dbgpt_ctl.registry.database.dialects.mysql import DatabaseTimeouts, connect_to, create_file
from dbgpt_ctl.registry.database.schema import prepare

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import URL, Connection

    from dbgpt_ctl.database_hosts import DatabaseHost

__all__ = ["Database"]

_LOG = logging.getLogger(__name__)
_FIRST_BACKOFF_SECS = 0.004
_LAST_BACKOFF_SECS = 0.128

T = TypeVar("T")


class Database:
    """One database and what was last heard of it. Its calls block; several threads may use one."""

    def __init__(
        self,
        url: URL,
        *,
        pool_size: int,
        max_overflow: int,
        timeouts: DatabaseTimeouts,
        randomness: random.Random,
        hosts: Sequence[DatabaseHost] = (),
        ssl_ca: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        several = DatabaseHosts(hosts, time.monotonic) if hosts else None
        self.place = f"{several}/{url.database}" if several else place_of(url)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.health = RegistryHealth(ready=False, reason=f"database {self.place} was not asked yet")
        self.leaving = False
        self._connect = partial(
            connect_to, url, pool_size=pool_size, max_overflow=max_overflow, timeouts=timeouts, ssl_ca=ssl_ca
        )
        self.engine = self._connect(hosts=several)
        self.readers = self._connect(hosts=several, reads=True)
        self._several = several
        self._hosts = max(1, len(hosts))
        self._timeouts = timeouts
        self._random = randomness
        self._sleep = sleep

    @property
    def kind(self) -> str:
        """Sqlite, mysql or mariadb, as the server says; before it was asked, as the URL does."""
        dialect = self.engine.dialect
        return "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name

    def prepare(self) -> None:
        """Creates or upgrades the tables. Raises RegistryUnavailable and RegistryUnusable."""
        self.leaving = False
        self._try(self._prepare)

    def write(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction, and its result once that is committed. It may be called several times.

        Raises RegistryUnavailable and RegistryUnusable; any other error is of what `work` asked for.
        """
        return self._try(lambda: self._write(work))

    def write_in_turns(self, works: Iterable[Callable[[Connection], T]]) -> Iterator[T]:
        """`write` for each. In between it rests as long as the last one took: calls that wait get their turn. Ends
        early when the registry is `leaving`.
        """
        rest = 0.0
        for work in works:
            self._sleep(rest)
            if self.leaving:
                return
            started = time.monotonic()
            yield self.write(work)
            rest = time.monotonic() - started

    def read(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction that writes nothing; it sees all that was committed before. Raises as `write`."""
        return self._try(lambda: self._read(work))

    def write_at_once(self, work: Callable[[Connection], T]) -> T:
        """`work`, each of whose statements is a transaction of its own. Raises as `write`.

        On MySQL it spares the round trip of a commit, and no lock waits for another statement.
        """
        return self._try(lambda: (self._write if self.is_sqlite else self._read)(work))

    def return_to_better_host(self, first: Callable[[Connection], object]) -> None:
        """Goes back to a host that stands before the current one and is well again: there all controllers meet (rule
        7). `first` is done there before anything else: it may have another clock. Raises nothing of the database.
        """
        better = self._several.better() if self._several else None
        if self._several is None or better is None:
            return
        trial = self._connect(hosts=DatabaseHosts([better], time.monotonic))
        try:
            with trial.begin() as connection:
                first(connection)
        except DBAPIError:
            self._several.failed(better)
        else:
            self._several.worked(better)
        finally:
            trial.dispose()

    def dispose(self) -> None:
        """Closes the connections that nobody uses now."""
        self.engine.dispose()
        self.readers.dispose()

    def _prepare(self) -> None:
        if self.is_sqlite:
            create_file(self.engine)
        prepare(self.engine, self.place)

    def _write(self, work: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return work(connection)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self.readers.connect() as connection:
            return work(connection)

    def _try(self, action: Callable[[], T]) -> T:
        started = time.monotonic()
        tries = 0
        while True:
            try:
                result = action()
            except Exception as error:
                tries += 1
                if not self._again(error, time.monotonic() - started):
                    meaning = error if isinstance(error, RegistryError) else meaning_of(error, self.place)
                    if meaning is None:
                        raise
                    self._note(str(meaning))
                    raise meaning from error
            else:
                self._note(None)
                return result
            self._sleep(self._random.uniform(0, min(_FIRST_BACKOFF_SECS * 2**tries, _LAST_BACKOFF_SECS)))

    def _again(self, error: Exception, elapsed: float) -> bool:
        """Repeating is safe: a transaction that failed left nothing, and one whose commit went unheard is repeated
        without harm.
        """
        if is_conflict(error):
            return elapsed < self._timeouts.patience
        # The pool's connections may have died with a server that is back; one that took its time to fail is not back,
        # but there may be another host.
        bound = self._timeouts.connect if self._hosts == 1 else self._timeouts.patience
        return lost_connection(error) and elapsed < bound

    def _note(self, trouble: str | None) -> None:
        if trouble is None and self.health.ready:
            return
        if trouble is None:
            _LOG.info("database %s answers", self.place)
        elif self.health.ready:
            _LOG.warning("%s", trouble)
        self.health = RegistryHealth(ready=trouble is None, reason=trouble)
