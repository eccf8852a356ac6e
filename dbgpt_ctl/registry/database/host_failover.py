"""Failover between the hosts of one database: a connection is made to the first host that serves, and left when the
host fails.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine import Dialect, ExceptionContext

    from dbgpt_ctl.database_hosts import DatabaseHosts
    from dbgpt_ctl.registry.database.dialects.base import DatabaseDialect

_LOG = logging.getLogger(__name__)

_HOST = "ctl_host"
"""The attribute of a driver's connection that names its host."""


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
        error = context.original_exception
        if dialect.error_code(error) in dialect.cannot_serve:
            context.is_disconnect = True  # the pool then gives up all its connections
        connection = context.connection
        host = getattr(connection.connection.driver_connection, _HOST, None) if connection is not None else None
        if context.is_disconnect and host is not None:
            if host == hosts.current:
                _LOG.info("database host %s is left: %s", host, " ".join(str(error).split()))
            hosts.failed(host)


def _connect_to_first(
    driver: Dialect, hosts: DatabaseHosts, dialect: DatabaseDialect, args: Any, options: dict[str, Any]
) -> Any:
    failure: Exception | None = None
    for host in hosts.in_order():
        try:
            connection = driver.connect(*args, **options | {"host": host.host, "port": host.port})
            dialect.require_member(connection)
        except driver.loaded_dbapi.Error as error:
            if dialect.error_code(error) in dialect.refused_by_all:
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
