"""The registry table of DB-GPT's own controller, which does not create it itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    insert,
    inspect,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Engine

NOON = datetime(2026, 1, 2, 12, 0, 0)  # noqa: DTZ001 - naive as all its times
"""DB-GPT's hosts write local time; this one is hours away from UTC."""

TABLE = Table(
    "dbgpt_cluster_registry_instance",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("model_name", String(128), nullable=False),
    Column("host", String(128), nullable=False),
    Column("port", Integer, nullable=False),
    Column("weight", Float, server_default=text("1.0")),
    Column("check_healthy", Boolean, server_default=text("1")),
    Column("healthy", Boolean, server_default=text("0")),
    Column("enabled", Boolean, server_default=text("1")),
    Column("prompt_template", String(128)),
    Column("last_heartbeat", DateTime),
    Column("user_name", String(128)),
    Column("sys_code", String(128)),
    Column("gmt_created", DateTime),
    Column("gmt_modified", DateTime),
    UniqueConstraint("model_name", "host", "port", "sys_code", name="uk_model_instance"),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
)


def row(
    model_name: str, host: str = "10.0.0.4", port: int = 8001, *, beat: float | None = 0, **more: Any
) -> dict[str, Any]:
    """The row of a healthy instance, as DB-GPT writes it. `beat`: seconds after NOON, None for never."""
    at = None if beat is None else NOON + timedelta(seconds=beat)
    plain = {"weight": 1.0, "check_healthy": True, "healthy": True, "enabled": True, "prompt_template": None}
    times = {"last_heartbeat": at, "gmt_created": NOON, "gmt_modified": NOON}
    return {"model_name": model_name, "host": host, "port": port, **plain, **times, **more}


def create_dbgpt_table(engine: Engine, rows: Iterable[dict[str, Any]] = ()) -> None:
    """In the database of `engine`; ids count from 1."""
    with engine.begin() as connection:
        TABLE.create(connection)
        some = list(rows)
        if some:
            connection.execute(insert(TABLE), some)


def dump(connection: Connection) -> dict[str, list[Any]]:
    """The whole content of a database by table, with the columns."""
    inspector = inspect(connection)
    return {
        name: [
            *map(str, inspector.get_columns(name)),
            *sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")).all())),
        ]
        for name in sorted(inspector.get_table_names())
    }
