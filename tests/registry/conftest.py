from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.registry.backends import KINDS, Backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.clock import ManualClock


@pytest.fixture(params=KINDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """Each kind in turn; a module narrows it with `only_kinds`."""
    url = request.getfixturevalue("mariadb_url") if request.param == "mariadb" else None
    backend = Backend(request.param, tmp_path, url)
    async with backend.stack:
        yield backend


@pytest.fixture
def clock(backend: Backend) -> ManualClock:
    return backend.clock
