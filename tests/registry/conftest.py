from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.registry.backends import DATABASES, KINDS, Backend
from tests.support.database_server import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.clock import ManualClock


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind in turn."""
    return str(request.param)


@pytest.fixture(params=DATABASES)
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    return str(request.param)


@pytest.fixture
async def backend(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """Opens registries of the kind."""
    backend = Backend(kind, tmp_path, request.getfixturevalue(kind).url if kind in SERVERS else None)
    async with backend.stack:
        yield backend


@pytest.fixture
def clock(backend: Backend) -> ManualClock:
    return backend.clock
