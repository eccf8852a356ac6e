"""Fixtures of the database registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.registry.backends import Backend


@pytest.fixture
async def registry(backend: Backend) -> DatabaseModelRegistry:
    registry = await backend.open()
    assert isinstance(registry, DatabaseModelRegistry)
    return registry


@pytest.fixture
def engine(backend: Backend) -> Iterator[Engine]:
    """A connection of the test's own."""
    engine = Database(backend.url, pool_size=1, max_overflow=0).engine
    yield engine
    engine.dispose()


@pytest.fixture
def statements(registry: DatabaseModelRegistry) -> Iterator[list[str]]:
    """The statements that the database gets, without the ends of transactions."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    engines = registry._database.engine, registry._database.readers
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
