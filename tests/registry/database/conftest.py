"""Fixtures of the database registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registry.backends import Backend


@pytest.fixture
async def registry(backend: Backend) -> DatabaseModelRegistry:
    registry = await backend.open()
    assert isinstance(registry, DatabaseModelRegistry)
    return registry


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
