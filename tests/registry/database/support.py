"""What a database holds; a registry on a database that fails, and what its errors look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import inspect, text

from dbgpt_ctl.errors import RegistryError, RegistryUnavailable
from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT
from tests.support.database_server import PASSWORD

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection


SHORT = DatabaseTimeouts(connect=0.3, io=0.4, lock=1, pool=0.3, retries=1.0)


def registry_at(url: URL, timeouts: DatabaseTimeouts = SHORT) -> DatabaseModelRegistry:
    return DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, timeouts=timeouts)


async def error_of(registry: DatabaseModelRegistry) -> RegistryError:
    """The error of `open`: one line without the password, which health reports too."""
    with pytest.raises(RegistryError) as caught:
        await registry.open()
    check_message(str(caught.value))
    assert not registry.health().ready
    assert registry.health().reason == str(caught.value)
    with pytest.raises(RegistryUnavailable) as refused:
        await registry.list()
    assert str(refused.value) == str(caught.value)
    return caught.value


def check_message(message: str) -> None:
    assert "\n" not in message
    assert PASSWORD not in message
    assert "s3cret" not in message
    assert "SELECT" not in message.replace("SELECT command denied", "").replace("in 'SELECT'", "")
    assert len(message) < 300


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
