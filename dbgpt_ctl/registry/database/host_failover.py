"""Several hosts behind one engine: a connection is made to the first that is well, and one that fails is left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine import Dialect, ExceptionContext

    from dbgpt_ctl.database_hosts import DatabaseHost, DatabaseHosts

__all__ = ["try_hosts"]

_LOG = logging.getLogger(__name__)

_HOST = "ctl_host"
_NOT_READY = 1047
_CANNOT_SERVE = frozenset({_NOT_READY, 1053, 1290, 1836, 1927})
"""Galera: not ready (no quorum, or joining); shutting down; read-only, twice; connection killed."""
_NOT_THE_HOST = frozenset({1044, 1045, 1049, 1698})
"""Wrong user, password or database: no other host would say otherwise."""


def try_hosts(engine: Engine, hosts: DatabaseHosts) -> None:
    """Makes `engine` connect to `hosts` instead of the one host in its URL.

    A host that cannot be reached, breaks a connection, or answers that it cannot serve is avoided for a while, and the
    connections to it are given up. All engines that share `hosts` use the same one at a time: two may have two clocks.
    """

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _record: Any, args: Any, options: dict[str, Any]) -> Any:
        return _first_that_connects(dialect, hosts, args, options)

    @event.listens_for(engine, "checkout")
    def stay_together(driver: Any, _record: Any, _proxy: Any) -> None:
        if getattr(driver, _HOST, None) != hosts.current:
            raise DisconnectionError("another host serves now")  # the pool connects anew

    @event.listens_for(engine, "handle_error")
    def judge(context: ExceptionContext) -> None:
        code = context.original_exception.args[0] if context.original_exception.args else None
        if code in _CANNOT_SERVE:
            context.is_disconnect = True  # the pool then gives up all its connections
        host = _host_of(context)
        if context.is_disconnect and host is not None:
            if host == hosts.current:
                _LOG.info("database host %s is left: %s", host, " ".join(str(context.original_exception).split()))
            hosts.failed(host)


def _first_that_connects(dialect: Dialect, hosts: DatabaseHosts, args: Any, options: dict[str, Any]) -> Any:
    failure: Exception | None = None
    for host in hosts.in_order():
        try:
            connection = dialect.connect(*args, **options | {"host": host.host, "port": host.port})
            _check_membership(connection)
        except dialect.loaded_dbapi.Error as error:
            if error.args and error.args[0] in _NOT_THE_HOST:
                raise
            hosts.failed(host)
            failure = error
        else:
            setattr(connection, _HOST, host)
            if host != hosts.current:
                _LOG.info("database host %s serves from now on", host)
            hosts.worked(host)
            return connection
    assert failure is not None  # noqa: S101 - there is at least one host
    raise failure


def _check_membership(connection: Any) -> None:
    """A node of a Galera cluster that still joins, or has lost the others, takes connections and serves nothing.

    Raises the driver's OperationalError, and closes the connection.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
        if (cursor.fetchone() or ("", ""))[1] != "ON":
            return
        cursor.execute("SHOW STATUS LIKE 'wsrep_ready'")
        ready = cursor.fetchone()[1] == "ON"
    if not ready:
        connection.close()
        raise connection.OperationalError(_NOT_READY, "the node is not part of the cluster")


def _host_of(context: ExceptionContext) -> DatabaseHost | None:
    if context.connection is None:
        return None
    driver = context.connection.connection.driver_connection
    return getattr(driver, _HOST, None)
