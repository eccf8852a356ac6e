"""MySQL: TLS, what its errors mean, and databases that cannot be used."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pymysql
import pytest
import trustme
from sqlalchemy.exc import OperationalError

from dbgpt_ctl.databases import DatabaseHost
from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.database.dialects.mysql import MySQL
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.tables.schema import READABLE_BY, SCHEMA_VERSION
from tests.registry.backends import TIMEOUT, sent, states
from tests.registry.database.support import error_of, registry_at
from tests.support.database_server import DatabaseServer, PrivateDatabase, private_server
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Secured:
    database: PrivateDatabase
    ca: Path
    foreign_ca: Path


@pytest.fixture(scope="module", params=("mariadb", "mysql"))
def secured(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    ours, foreign = trustme.CA(), trustme.CA()
    certificate = ours.issue_cert("127.0.0.1")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    foreign.cert_pem.write_to_path(folder / "foreign.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    options = [f"--ssl-cert={folder / 'cert.pem'}", f"--ssl-key={folder / 'key.pem'}", f"--ssl-ca={folder / 'ca.pem'}"]
    database_server: DatabaseServer = request.getfixturevalue(f"{request.param}_server")
    with private_server(type(database_server), options=options) as server:
        database = PrivateDatabase(server, "ctl")
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


@pytest.mark.anyio
async def test_wrong_password(mysql_family: PrivateDatabase) -> None:
    database = mysql_family
    error = await error_of(registry_at(database.url.set(password="s3cret-but-wrong")))
    assert isinstance(error, RegistryUnusable)
    assert "Access denied" in str(error)
    assert "check user, password and grants" in str(error)
    assert f"127.0.0.1:{database.server.port}" in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "said", "advice"),
    [
        ("ACCOUNT LOCK", "account is locked", "unlock it (ALTER USER ... ACCOUNT UNLOCK)"),
        ("PASSWORD EXPIRE", "password", "give the user a new password (ALTER USER ... IDENTIFIED BY)"),
    ],
)
async def test_a_user_who_may_not_log_in_now(
    mysql_family: PrivateDatabase, change: str, said: str, advice: str
) -> None:
    """No other host is asked, since all of them have the same users."""
    database = mysql_family
    user = f"{database.name}_user"
    database.execute(f"CREATE USER {user} IDENTIFIED BY 'x'")
    database.execute(f"GRANT ALL ON `{database.name}`.* TO {user}")
    database.execute(f"ALTER USER {user} {change}")
    places = [DatabaseHost("127.0.0.1", port) for port in (database.server.port, free_port())]
    url = database.url.set(username=user, password="x")
    error = await error_of(DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, hosts=places))
    database.execute(f"DROP USER {user}")
    assert isinstance(error, RegistryUnusable)
    assert said in str(error).lower()
    assert advice in str(error)
    assert str(places[1]) not in str(error)


@pytest.mark.anyio
async def test_unknown_database(mysql_family: PrivateDatabase) -> None:
    database = mysql_family
    error = await error_of(registry_at(database.url.set(database="nowhere")))
    assert isinstance(error, RegistryUnusable)
    assert "nowhere" in str(error)
    assert "CREATE DATABASE" in str(error)


@pytest.mark.anyio
async def test_tables_of_somebody_else(database: PrivateDatabase) -> None:
    database.execute("CREATE TABLE ctl_schema (id INT PRIMARY KEY, version INT, readable_by INT)")
    database.execute(f"INSERT INTO ctl_schema VALUES (1, {SCHEMA_VERSION}, {READABLE_BY})")
    error = await error_of(registry_at(database.url))
    assert isinstance(error, RegistryUnusable)
    assert "there is no table ctl_controller" in str(error)


@pytest.mark.anyio
async def test_a_version_table_of_somebody_else(database: PrivateDatabase) -> None:
    database.execute("CREATE TABLE ctl_schema (id INT PRIMARY KEY, version INT)")
    database.execute("INSERT INTO ctl_schema VALUES (1, 1)")
    error = await error_of(registry_at(database.url))
    assert isinstance(error, RegistryUnusable)
    assert "not the tables of this release" in str(error)


# --- what errors mean ---------------------------------------------------------------------------------------------

DIALECT = MySQL()
CHECK_NAME = (
    "check the user name, because MySQL may ask an unknown user for any login; if the user is right and this is your "
    "server, set registry_db_ssl_ca to the certificate of its authority, or give the user the login "
    "caching_sha2_password"
)


def error(code: int, text: str = "a message of the server") -> OperationalError:
    return OperationalError("UPDATE secret", {"secret": 1}, pymysql.err.OperationalError(code, text))


@pytest.mark.parametrize("code", [1020, 1062, 1205, 1213, 1412, 1684])
def test_another_transaction_in_the_way_is_a_conflict(code: int) -> None:
    assert DIALECT.is_conflict(error(code))


@pytest.mark.parametrize("code", [1045, 1049, 1406, 2013, 0])
def test_no_other_error_is_a_conflict(code: int) -> None:
    assert not DIALECT.is_conflict(error(code))


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (1045, "check user, password and grants"),
        (1049, "create it (CREATE DATABASE) or name another"),
        (1142, "grant it, or let a user who may create tables start a controller once"),
        (1146, "these are not the tables of this release"),
        (2061, CHECK_NAME),
        (
            3159,
            "set registry_db_ssl_ca to the certificate of its authority: the server takes only encrypted connections",
        ),
        (3118, "unlock it (ALTER USER ... ACCOUNT UNLOCK) or set registry_db_user to another user"),
        (1862, "give the user a new password (ALTER USER ... IDENTIFIED BY), and set registry_db_password to it"),
    ],
)
def test_an_error_for_a_person_ends_with_advice(code: int, advice: str) -> None:
    meaning = DIALECT.meaning_of(error(code, "first line\nsecond line"), "db1:3306/ctl")
    assert isinstance(meaning, RegistryUnusable)
    assert str(meaning) == f"database db1:3306/ctl: first line second line; {advice}"


def test_each_of_several_hosts_is_named_with_the_advice_for_it() -> None:
    """Advice for several of them stands there once. The last host decides whether the error may pass."""
    refused, gone = pymysql.err.OperationalError(2061, "another login"), pymysql.err.OperationalError(2003, "no answer")
    meaning = DIALECT.meaning_of(error(2003), "db1:3306/ctl", {"db1": refused, "db2": refused, "db3": gone})
    assert isinstance(meaning, RegistryUnavailable)
    assert str(meaning) == (
        f"database db1: another login; database db2: another login; {CHECK_NAME}; database db3: no answer"
    )


def test_any_other_error_of_the_database_may_pass() -> None:
    meaning = DIALECT.meaning_of(error(2013, "Lost connection"), "db1:3306/ctl")
    assert isinstance(meaning, RegistryUnavailable)
    assert str(meaning) == "database db1:3306/ctl: Lost connection"


@pytest.mark.parametrize("code", [1048, 1264, 1366, 1406])
def test_a_value_that_does_not_fit_is_an_error_of_the_call(code: int) -> None:
    assert DIALECT.meaning_of(error(code), "db1:3306/ctl") is None
    assert DIALECT.meaning_of(KeyError("a bug"), "db1:3306/ctl") is None
