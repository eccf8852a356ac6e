"""Where the settings say that the database is. `ctl db` needs no more of the controller than this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.database_hosts import DatabaseHost, parse_hosts

if TYPE_CHECKING:
    from sqlalchemy import URL

    from dbgpt_ctl.settings.schema import ControllerSettings


def database_url(settings: ControllerSettings) -> URL:
    """Where the database registry is, as SQLAlchemy wants it said."""
    from sqlalchemy import URL

    if settings.registry_db_type == "sqlite":
        return URL.create("sqlite", database=settings.registry_db_name)
    return URL.create(
        "mysql+pymysql",
        username=settings.registry_db_user,
        password=settings.registry_db_password,
        database=settings.registry_db_name,
        query={"charset": "utf8mb4"},
    )


def database_hosts(settings: ControllerSettings) -> tuple[DatabaseHost, ...]:
    """The hosts of a MySQL registry; none for SQLite."""
    if settings.registry_db_type == "sqlite" or settings.registry_db_host is None:
        return ()
    return parse_hosts(settings.registry_db_host, settings.registry_db_port)
