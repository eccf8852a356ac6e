"""SQLite files that cannot be used, are locked, or were written by an earlier release."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, event
from sqlalchemy.exc import IntegrityError

from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.database.dialects.sqlite import SQLite
from tests.registry.backends import Backend, only, sent, states
from tests.registry.database.support import check_message, error_of, registry_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dbgpt_ctl.registry.contract import ModelRegistry


pytestmark = pytest.mark.anyio


KEY = str(sent().key)


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_sqlite_path_is_a_folder(tmp_path: Path) -> None:
    error = await error_of(registry_at(URL.create("sqlite", database=str(tmp_path))))
    assert isinstance(error, RegistryUnusable)
    assert str(tmp_path) in str(error)


async def test_sqlite_path_is_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    error = await error_of(registry_at(URL.create("sqlite", database=str(path))))
    assert str(error) == f"database {path}: it is not a regular file; name another file"
    assert isinstance(error, RegistryUnusable)


@pytest.mark.parametrize("is_link", [False, True])
async def test_only_the_owner_may_read_new_sqlite_files(tmp_path: Path, is_link: bool) -> None:
    """SQLite gives the files beside it the mode of the file itself."""
    path = tmp_path / "ctl.db"
    if is_link:
        path.symlink_to("target.db")
    before = os.umask(0)
    try:
        async with registry_at(URL.create("sqlite", database=str(path))) as registry:
            await registry.register(sent())
            modes = modes_in(tmp_path)
    finally:
        os.umask(before)
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}, modes


async def test_an_sqlite_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "ctl.db"
    path.touch(0o600)
    path.chmod(0o640)  # for a backup by the group
    async with registry_at(URL.create("sqlite", database=str(path))) as registry:
        await registry.register(sent())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_sqlite_file_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are no tables. " * 100)
    error = await error_of(registry_at(URL.create("sqlite", database=str(path))))
    assert isinstance(error, RegistryUnusable)
    assert "not a database" in str(error)
    assert path.read_text().startswith("These are no tables.")


async def test_sqlite_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = await error_of(registry_at(URL.create("sqlite", database=str(tmp_path / "file" / "sub" / "ctl.db"))))
    assert isinstance(error, RegistryUnusable)
    assert str(tmp_path) in str(error)


async def test_sqlite_file_becomes_read_only(tmp_path: Path) -> None:
    async with registry_at(URL.create("sqlite", database=str(tmp_path / "ctl.db"))) as registry:
        await registry.register(sent())
        registry._database.engine.dispose()
        event.listen(registry._database.engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only = ON"))
        with pytest.raises(RegistryUnusable, match="make the file and its folder writable") as caught:
            await registry.heartbeat(sent())
        check_message(str(caught.value))
        assert await states(registry) == [(KEY, "healthy")]


async def test_sqlite_locked_by_somebody(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "ctl.db"))
    async with registry_at(url) as registry:
        await registry.register(sent())
        with closing(sqlite3.connect(tmp_path / "ctl.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RegistryUnavailable, match="locked"):
                await registry.heartbeat(sent())
            assert not registry.health().ready
            assert await states(registry) == [(KEY, "healthy")]
            other.execute("COMMIT")
        assert await registry.heartbeat(sent())
        assert registry.health().ready


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    backend = Backend("sqlite", tmp_path)
    async with backend.stack:
        yield backend


@pytest.fixture
async def registry(backend: Backend) -> ModelRegistry:
    return await backend.open()


async def test_sqlite_holds_times_as_text_in_utc_with_six_digits(backend: Backend, registry: ModelRegistry) -> None:
    """Written by SQLAlchemy and by the fast path of heartbeats: texts compare as times only in one format."""
    now = backend.clock.now()
    registered = backend.clock.advance(-now.microsecond / 1e6)
    await registry.register(sent())
    backend.clock.advance(60)
    await registry.heartbeat(sent())
    with closing(sqlite3.connect(str(backend.url.database))) as connection:
        (row,) = connection.execute("SELECT registered_at, last_heartbeat, typeof(last_heartbeat) FROM ctl_instance")
    assert row == (f"{registered:%Y-%m-%d %H:%M:%S}.000000", f"{backend.clock.now():%Y-%m-%d %H:%M:%S}.000000", "text")


async def test_a_time_without_fraction_is_read_and_beaten(backend: Backend, registry: ModelRegistry) -> None:
    """So an earlier release wrote a heartbeat at a full second, on Python up to 3.12."""
    await registry.register(sent())
    full_second = backend.clock.now().replace(microsecond=0)
    with closing(sqlite3.connect(str(backend.url.database))) as connection, connection:
        connection.execute("UPDATE ctl_instance SET last_heartbeat = ?", (f"{full_second:%Y-%m-%d %H:%M:%S}",))
    assert (await only(registry)).instance.last_heartbeat == full_second
    assert await registry.heartbeat(sent()) is True
    assert (await only(registry)).instance.last_heartbeat == backend.clock.now()


@pytest.mark.parametrize(
    ("code", "conflict", "meaning"),
    [
        (sqlite3.SQLITE_BUSY, True, RegistryUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True, RegistryUnavailable),
        (sqlite3.SQLITE_READONLY, False, RegistryUnusable),
        (sqlite3.SQLITE_NOTADB, False, RegistryUnusable),
        (sqlite3.SQLITE_FULL, False, RegistryUnavailable),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, False, type(None)),
    ],
)
def test_what_an_error_means(code: int, conflict: bool, meaning: type) -> None:
    raw = sqlite3.OperationalError("a message")
    raw.sqlite_errorcode = code
    for error in (raw, IntegrityError("UPDATE secret", {}, raw)):
        assert SQLite().is_conflict(error) is conflict
        found = SQLite().meaning_of(error, "/ctl.db")
        assert isinstance(found, meaning)
        assert found is None or str(found).startswith("database /ctl.db: a message")
