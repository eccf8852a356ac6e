"""Failover between the hosts of one database: a connection is made to the first host that serves, and left when the
host fails.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.engine import Dialect, ExceptionContext

    from dbgpt_ctl.databases import DatabaseHost
    from dbgpt_ctl.registry.database.dialects.base import DatabaseDialect

_LOG = logging.getLogger(__name__)

AVOIDED_SECS = 10.0
"""For that time a host that failed is tried after all others."""
_HOST = "ctl_host"
"""The attribute of a driver's connection that names its host."""
_FAILURES = "ctl_failures"
"""The attribute of a driver's error that names the hosts which failed, each with its error."""


class DatabaseHosts:
    """All controllers have the same list, so all use the same host while it serves: there is one clock (rule 7).

    `current` is the host that all connections go to, None before the first. Several threads may use this object.
    """

    def __init__(self, hosts: Sequence[DatabaseHost], monotonic: Callable[[], float]) -> None:
        self.all = tuple(hosts)
        self._monotonic = monotonic
        self._failed_at: dict[DatabaseHost, float] = {}
        self.current: DatabaseHost | None = None

    def in_order(self) -> list[DatabaseHost]:
        """As listed, but hosts that failed a short while ago come last, the one that failed first before the others."""
        now = self._monotonic()
        recent = {host: at for host, at in self._failed_at.copy().items() if now - at < AVOIDED_SECS}
        return sorted(self.all, key=lambda host: recent.get(host, float("-inf")))

    def failed(self, host: DatabaseHost) -> bool:
        """Notes that the host could not be reached, or answered that it cannot serve. Returns whether it had served
        until now: each of its connections fails.
        """
        has_served = host == self.current and host not in self._failed_at
        self._failed_at[host] = self._monotonic()
        return has_served

    def worked(self, host: DatabaseHost) -> None:
        """Notes that the host serves; it is the current one from now on."""
        self._failed_at.pop(host, None)
        self.current = host

    def better(self) -> DatabaseHost | None:
        """The host that should be the current one if it serves again; None when that is the current one."""
        best = self.in_order()[0]
        return best if self.current not in {None, best} else None

    def __str__(self) -> str:
        return ",".join(map(str, self.all))


def failures_of(error: BaseException) -> Sequence[tuple[DatabaseHost, BaseException]]:
    """The hosts that a driver's error is about, each with what it said, in the order in which they were tried.

    Empty where there is only one host.
    """
    return getattr(error, _FAILURES, ())


def try_hosts(engine: Engine, hosts: DatabaseHosts, dialect: DatabaseDialect) -> None:
    """Makes `engine` connect to `hosts` instead of the one host in its URL.

    A host that cannot be reached, breaks a connection, or answers that it cannot serve is avoided for a while, and the
    connections to it are given up. All engines that share `hosts` use the same host at a time: two may have two clocks.
    """

    @event.listens_for(engine, "do_connect")
    def connect(driver: Dialect, _record: Any, args: Any, options: dict[str, Any]) -> Any:
        return _connect_to_first(driver, hosts, dialect, args, options)

    @event.listens_for(engine, "checkout")
    def use_current_host(driver: Any, _record: Any, _proxy: Any) -> None:
        if getattr(driver, _HOST, None) != hosts.current:
            raise DisconnectionError("another host serves now")  # the pool connects anew

    @event.listens_for(engine, "handle_error")
    def leave_failed_host(context: ExceptionContext) -> None:
        _leave_failed_host(context, hosts, dialect)


def _leave_failed_host(context: ExceptionContext, hosts: DatabaseHosts, dialect: DatabaseDialect) -> None:
    error, connection = context.original_exception, context.connection
    if dialect.error_code(error) in dialect.cannot_serve:
        context.is_disconnect = True  # the pool then gives up all its connections
    host = None if connection is None else getattr(connection.connection.driver_connection, _HOST, None)
    if host is None:
        return
    setattr(error, _FAILURES, ((host, error),))
    if context.is_disconnect and hosts.failed(host):
        _LOG.info("database host %s is left: %s", host, dialect.text_of(error), extra={"event": "database.host_left"})


def _connect_to_first(
    driver: Dialect, hosts: DatabaseHosts, dialect: DatabaseDialect, args: Any, options: dict[str, Any]
) -> Any:
    failures: list[tuple[DatabaseHost, Exception]] = []
    for host in hosts.in_order():
        try:
            connection = driver.connect(*args, **options | {"host": host.host, "port": host.port})
            dialect.require_member(connection)
        except driver.loaded_dbapi.Error as error:
            failures.append((host, error))
            setattr(error, _FAILURES, tuple(failures))
            if dialect.error_code(error) in dialect.refused_by_all:
                raise
            hosts.failed(host)
        else:
            setattr(connection, _HOST, host)
            if host != hosts.current:
                _LOG.info("database host %s serves from now on", host, extra={"event": "database.host_used"})
            hosts.worked(host)
            return connection
    raise failures[-1][1]
