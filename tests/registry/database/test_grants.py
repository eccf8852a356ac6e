"""The SQL of the documents gives the user of a controller all rights that it needs, and no others: run as it stands
there in a real server of each kind, before a controller that does everything.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.controllers import ControllerIdentity
from dbgpt_ctl.domain.events import DRAIN_ENDED, EXPIRED, Cause
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnusable
from dbgpt_ctl.registry.database.dialects import mysql_connection
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.tables.schema import TABLE_NAMES
from tests.support.database_server import DatabaseServer, private_server
from tests.support.documents import blocks
from tests.support.process import ROOT
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import URL

    from tests.support.postgresql_server import PostgreSQLServer

OPERATING = ROOT / "docs" / "operating.md"
TIMEOUT = timedelta(seconds=1)
DRIVEN, SILENT, LEFT = (InstanceKey("qwen@llm", f"10.0.0.{number}", 8001) for number in (4, 5, 6))


def statements(document: Path) -> list[list[str]]:
    """Those of each SQL block of a document."""
    found = [block.text for block in blocks(document) if block.kind == "sql"]
    return [[line.strip() for line in text.split(";\n") if line.strip()] for text in found]


GRANTS, REVOKES, OWNER, SERVING = statements(OPERATING)


@pytest.fixture(params=("mariadb", "mysql"))
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Its administrator has another name than the user of the documents."""
    with private_server(type(request.getfixturevalue(f"{request.param}_server")), user="admin") as server:
        yield server


def run(server: DatabaseServer, *lines: str, database: str | None = None) -> None:
    for line in lines:
        server.execute(line, database)


def url_of_the_documents(server: DatabaseServer) -> URL:
    return server.url("dbgpt").set(username="ctl", password="a password of yours")


def test_the_documented_rights_are_enough_in_postgresql(
    postgresql_server: PostgreSQLServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with private_server(type(postgresql_server), user="admin") as server:
        run(server, *OWNER)
        url = url_of_the_documents(server)
        do_everything(url)
        run(server, *SERVING, database="dbgpt")
        url = url.set(username="serving", password="another password of yours")
        do_everything(url)
        assert [record.getMessage() for record in caplog.records if record.name.startswith("dbgpt_ctl.registry")] == []
        run(server, "DROP TABLE ctl_controller, ctl_schema", database="dbgpt")
        with pytest.raises(RegistryUnusable, match="a user who may create tables"):
            asyncio.run(sweep(url))


def registry_of(url: URL) -> DatabaseModelRegistry:
    return DatabaseModelRegistry(
        url,
        heartbeat_timeout=TIMEOUT,
        watch_absence=True,
        remove_after=timedelta(microseconds=1),
        identity=ControllerIdentity("one", "0.1.0", "http://10.0.0.1:8000"),
    )


def do_everything(url: URL) -> None:
    """All that a controller does, also by itself."""
    registry = registry_of(url)
    with running_controller(registry) as address, ControllerClient(address) as client:
        before = client.events().last_id
        for key in (DRIVEN, SILENT, LEFT):
            client.register(Registration(key))
        assert client.heartbeat(Registration(DRIVEN))
        client.drain(DRIVEN)
        client.undrain(DRIVEN)
        client.drain(DRIVEN, reason="new drivers", duration=timedelta(seconds=1))
        assert client.deregister(LEFT)
        assert not client.heartbeat(Registration(LEFT))
        announced: set[Cause] = set()
        while not {EXPIRED, DRAIN_ENDED} <= announced:
            assert client.heartbeat(Registration(DRIVEN))
            announced |= {event.change.cause for event in client.events(after=before).events}
        client.drain(DRIVEN)
        assert client.get(SILENT).flaps == 1
        assert SILENT in client.prune(timedelta(microseconds=1))
        assert [known.key for known in client.inventory().instances if known.drain] == [DRIVEN]
        assert client.deregister(DRIVEN, remove=True)
        assert client.list().objects == []
        assert client.status().registry.ready
    asyncio.run(sweep(url))


async def sweep(url: URL) -> None:
    async with registry_of(url) as registry:
        await registry.tick()
        await registry.announce()
        await registry.refresh()
        await registry.sweep()
        assert registry.health().reason is None


def test_every_table_is_named() -> None:
    assert [line.split()[8].removeprefix("dbgpt.") for line in GRANTS if line.startswith("GRANT")] == [*TABLE_NAMES]
    assert [line.split()[4].removeprefix("dbgpt.") for line in REVOKES] == [*TABLE_NAMES]


def test_the_documented_rights_are_enough(server: DatabaseServer, caplog: pytest.LogCaptureFixture) -> None:
    """For the first controller, which makes the tables, and without CREATE and ALTER for the next ones."""
    caplog.set_level(logging.WARNING)
    caplog.set_level(logging.ERROR, mysql_connection.log.name)  # MySQL's login on a connection without TLS is no matter
    url = url_of_the_documents(server)
    run(server, *GRANTS)
    do_everything(url)
    run(server, *REVOKES)
    do_everything(url)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("dbgpt_ctl.registry")] == []
    run(server, "DROP TABLE dbgpt.ctl_controller, dbgpt.ctl_schema")
    with pytest.raises(RegistryUnusable, match="a user who may create tables"):
        asyncio.run(sweep(url))
