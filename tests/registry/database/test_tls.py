"""TLS to the database: `ssl_ca` says whom to trust, and nothing else is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme

from dbgpt_ctl.database_hosts import DatabaseHost
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT, sent, states
from tests.support.mariadb import MariaDB, private_mariadb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.mariadb import MariaDBServer


@dataclass
class Secured:
    database: MariaDB
    ca: Path
    foreign_ca: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, mariadb_server: MariaDBServer) -> Iterator[Secured]:
    assert mariadb_server.process, "skips where there is no MariaDB"
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    ours, foreign = trustme.CA(), trustme.CA()
    certificate = ours.issue_cert("127.0.0.1")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    foreign.cert_pem.write_to_path(folder / "foreign.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    options = [f"--ssl-cert={folder / 'cert.pem'}", f"--ssl-key={folder / 'key.pem'}", f"--ssl-ca={folder / 'ca.pem'}"]
    with private_mariadb(options=options) as server:
        database = MariaDB(server, "ctl")
        database.create()
        yield Secured(database, folder / "ca.pem", folder / "foreign.pem")


def registry_of(secured: Secured, ca: Path, host: str = "127.0.0.1") -> DatabaseModelRegistry:
    hosts = [DatabaseHost(host, secured.database.server.port)]
    return DatabaseModelRegistry(secured.database.url, heartbeat_timeout=TIMEOUT, hosts=hosts, ssl_ca=str(ca))


def test_connections_are_encrypted_to_whom_it_trusts(secured: Secured) -> None:
    async def scenario() -> None:
        async with registry_of(secured, secured.ca) as registry:
            await registry.register(sent())
            assert len(await states(registry)) == 1
            with registry._database.engine.connect() as connection:
                (row,) = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Ssl_cipher'").all()
                assert row[1], "this connection has a cipher"

    asyncio.run(scenario())


@pytest.mark.parametrize(("ca", "host"), [("foreign_ca", "127.0.0.1"), ("ca", "localhost")])
def test_nobody_else_is_spoken_to(secured: Secured, ca: str, host: str) -> None:
    """A certificate of another authority, and one that is made out to another name."""

    async def scenario() -> None:
        registry = registry_of(secured, getattr(secured, ca), host)
        with pytest.raises(RegistryUnavailable, match=r"(?i)certificate"):
            await registry.open()
        await registry.close()

    asyncio.run(scenario())
