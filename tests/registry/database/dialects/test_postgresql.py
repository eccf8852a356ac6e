"""PostgreSQL: TLS, logins, what its errors mean, and databases that cannot be used."""

from __future__ import annotations

import asyncio
import builtins
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import trustme
from sqlalchemy import URL
from sqlalchemy.exc import OperationalError

from dbgpt_ctl.databases import DatabaseHost
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable, UsageError
from dbgpt_ctl.registry.database.dialects.postgresql import PostgreSQL
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT, sent, states
from tests.registry.database.support import check_message, error_of, registry_at
from tests.support.database_server import PrivateDatabase, private_server
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgresql_server import PostgreSQLServer

DIALECT = PostgreSQL()


@dataclass
class Secured:
    database: PrivateDatabase
    ca: Path
    foreign_ca: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, postgresql_server: PostgreSQLServer) -> Iterator[Secured]:
    """A server of its own that takes only encrypted connections; `postgresql_server` sees to it that there is one."""
    folder = tmp_path_factory.mktemp("tls")
    ours, foreign = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    foreign.cert_pem.write_to_path(folder / "foreign.pem")
    with private_server(type(postgresql_server)) as server:
        database = PrivateDatabase(server, "ctl")
        database.create()
        server.encrypt(ours.issue_cert("127.0.0.1"))
        yield Secured(database, folder / "ca.pem", folder / "foreign.pem")


def registry_of(secured: Secured, ca: Path, host: str = "127.0.0.1") -> DatabaseModelRegistry:
    hosts = [DatabaseHost(host, secured.database.server.port)]
    return DatabaseModelRegistry(secured.database.url, heartbeat_timeout=TIMEOUT, hosts=hosts, ssl_ca=str(ca))


@pytest.mark.anyio
async def test_connections_are_encrypted_to_whom_it_trusts(secured: Secured) -> None:
    async with registry_of(secured, secured.ca) as registry:
        await registry.register(sent())
        assert len(await states(registry)) == 1
        with registry._database.engine.connect() as connection:
            of_this_connection = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert connection.exec_driver_sql(of_this_connection).scalar() is True


@pytest.mark.anyio
@pytest.mark.parametrize(("ca", "host"), [("foreign_ca", "127.0.0.1"), ("ca", "localhost")])
async def test_nobody_else_is_spoken_to(secured: Secured, ca: str, host: str) -> None:
    """A certificate of another authority, and one that is made out to another name."""
    registry = registry_of(secured, getattr(secured, ca), host)
    with pytest.raises(RegistryUnavailable, match=r"(?i)certificate"):
        await registry.open()
    await registry.close()


@pytest.mark.anyio
async def test_a_server_without_tls_is_not_spoken_to_where_a_certificate_is_asked_for(
    secured: Secured, postgresql: PrivateDatabase
) -> None:
    error = await error_of(registry_of(Secured(postgresql, secured.ca, secured.ca), secured.ca))
    assert "server does not support SSL" in str(error)


@pytest.mark.anyio
async def test_a_wrong_password(postgresql: PrivateDatabase) -> None:
    error = await error_of(registry_at(postgresql.url.set(password="s3cret-but-wrong")))
    assert isinstance(error, RegistryUnusable)
    place = f"127.0.0.1:{postgresql.server.port}/{postgresql.name}"
    said = 'password authentication failed for user "ctl"; check user, password and pg_hba.conf'
    assert str(error) == f"database {place}: {said}"


@pytest.mark.anyio
async def test_a_server_that_asks_for_the_password_itself_does_not_get_it(postgresql: PrivateDatabase) -> None:
    """Whoever listens at the address of the database may ask so."""
    asked: list[bytes] = []

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # for TLS
        writer.write(b"N")
        await reader.readexactly(8)
        writer.write(b"R\0\0\0\x08\0\0\0\x03")  # AuthenticationCleartextPassword
        asked.append(await reader.read())
        writer.close()

    async with await asyncio.start_server(ask, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await error_of(registry_at(postgresql.url.set(port=port)))
    assert isinstance(error, RegistryUnusable)
    assert "server requested a cleartext password; set registry_db_ssl_ca" in str(error)
    assert postgresql.server.password.encode() not in b"".join(asked)


@pytest.mark.anyio
async def test_a_user_who_may_not_log_in(postgresql: PrivateDatabase) -> None:
    """No other host is asked, since all of them have the same users."""
    user = f"{postgresql.name}_user"
    postgresql.execute(f"CREATE ROLE {user} PASSWORD 'x'")
    places = [DatabaseHost("127.0.0.1", port) for port in (postgresql.server.port, free_port())]
    url = postgresql.url.set(username=user, password="x")
    error = await error_of(DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, hosts=places))
    postgresql.execute(f"DROP ROLE {user}")
    assert isinstance(error, RegistryUnusable)
    assert "is not permitted to log in" in str(error)
    assert str(places[1]) not in str(error)


@pytest.mark.anyio
async def test_an_unknown_database(postgresql: PrivateDatabase) -> None:
    error = await error_of(registry_at(postgresql.url.set(database="nowhere")))
    assert isinstance(error, RegistryUnusable)
    assert str(error).endswith('database "nowhere" does not exist; create it (CREATE DATABASE) or name another')


@pytest.mark.anyio
async def test_identities_are_compared_and_ordered_byte_by_byte(postgresql_server: PostgreSQLServer) -> None:
    """Also in a database whose own order is that of a language."""
    postgresql_server.drop("language")
    postgresql_server.execute(
        "CREATE DATABASE language TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
    )
    names = ["a@llm", "B@llm", "A@llm", "\u00e4@llm", "b@llm", "a-b@llm", "ab@llm"]
    async with registry_at(postgresql_server.url("language")) as registry:
        for name in names:
            await registry.register(sent(name))
        listed = [entry.instance.key for entry in (await registry.list()).entries]
    assert listed == sorted(InstanceKey(name, "10.0.0.4", 8001) for name in names)
    postgresql_server.drop("language")


@pytest.mark.anyio
async def test_an_answer_is_durable_on_a_server_that_may_lose_commits(postgresql: PrivateDatabase) -> None:
    postgresql.execute(f"ALTER DATABASE {postgresql.name} SET synchronous_commit = off")
    postgresql.execute(f"ALTER DATABASE {postgresql.name} SET default_transaction_isolation = 'serializable'")
    async with registry_at(postgresql.url) as registry:
        for engine in (registry._database.engine, registry._database.readers):
            with engine.connect() as connection:
                assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "local"
                assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"


@pytest.mark.anyio
async def test_statements_read_only_the_rows_they_name(postgresql: PrivateDatabase) -> None:
    """Also before the server has statistics of the table, as while all workers of a new cluster register."""
    everybody = [sent(f"m{number % 7}@llm", port=number) for number in range(1, 1001)]
    async with registry_at(postgresql.url) as registry:
        await asyncio.gather(*map(registry.register, everybody))
        for keys in ([each.key for each in everybody[5:7]], [each.key for each in everybody[5:505]]):
            condition, values = DIALECT.rows_in(InstanceKey._fields, keys)
            explain = f"EXPLAIN UPDATE ctl_instance SET flaps = 1 WHERE {condition}"
            for engine in (registry._database.engine, registry._database.readers):
                with engine.connect() as connection:
                    plan = "\n".join(connection.exec_driver_sql(explain, values).scalars())
                assert "ctl_instance_pkey" in plan
                assert "Seq Scan" not in plan


# --- the driver ---------------------------------------------------------------------------------------------------


def test_without_psycopg_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'")
        return real_import(name, *args, **options)

    monkeypatch.delitem(sys.modules, "psycopg")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'dbgpt-ctl\[postgresql\]'$"):
        DatabaseModelRegistry(URL.create("postgresql"), heartbeat_timeout=TIMEOUT)


def test_an_old_libpq_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be told to keep the password from a server that asks for it."""
    monkeypatch.setattr(psycopg.pq, "version", lambda: 15_00_04)
    with pytest.raises(UsageError, match=r"needs libpq 16 or newer, and this is 15: pip install 'psycopg\[binary\]'"):
        DatabaseModelRegistry(URL.create("postgresql"), heartbeat_timeout=TIMEOUT)


# --- what errors mean ---------------------------------------------------------------------------------------------


def error(cause: Exception) -> OperationalError:
    return OperationalError("UPDATE secret", {"secret": 1}, cause)


@pytest.mark.parametrize(
    "name",
    ["DeadlockDetected", "SerializationFailure", "LockNotAvailable", "UniqueViolation", "DuplicateColumn"],
)
def test_another_transaction_in_the_way_is_a_conflict(name: str) -> None:
    assert DIALECT.is_conflict(error(getattr(psycopg.errors, name)()))


@pytest.mark.parametrize("name", ["AdminShutdown", "InvalidPassword", "StringDataRightTruncation", "OperationalError"])
def test_no_other_error_is_a_conflict(name: str) -> None:
    assert not DIALECT.is_conflict(error(getattr(psycopg.errors, name, psycopg.OperationalError)()))


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('role "ctl" does not exist', "check user, password and pg_hba.conf"),
        ('no pg_hba.conf entry for host "10.0.0.1", user "ctl", database "x"', "check user, password and pg_hba.conf"),
        (
            'no pg_hba.conf entry for host "10.0.0.1", user "ctl", database "x", no encryption',
            "set registry_db_ssl_ca to the certificate of its authority: the server takes only encrypted connections",
        ),
        (
            'permission denied for database "x"',
            "grant it, or let a user who may create tables start a controller once",
        ),
    ],
)
def test_a_refused_connection_ends_with_advice_and_without_the_address(said: str, advice: str) -> None:
    text = f'connection failed: connection to server at "10.0.0.7", port 5432 failed: FATAL:  {said}'
    meaning = DIALECT.meaning_of(error(psycopg.OperationalError(text)), "db1:5432/ctl")
    assert isinstance(meaning, RegistryUnusable)
    assert str(meaning) == f"database db1:5432/ctl: {said}; {advice}"


@pytest.mark.parametrize(
    "said", ["the database system is starting up", "session is read-only", "sorry, too many clients already"]
)
def test_a_server_that_cannot_serve_now_may_do_so_later(said: str) -> None:
    text = f'connection failed: connection to server at "10.0.0.7", port 5432 failed: FATAL:  {said}'
    meaning = DIALECT.meaning_of(error(psycopg.OperationalError(text)), "db1:5432/ctl")
    assert isinstance(meaning, RegistryUnavailable)
    assert str(meaning) == f"database db1:5432/ctl: {said}"


@pytest.mark.anyio
async def test_a_server_that_is_away_is_named_once_and_without_a_question(postgresql: PrivateDatabase) -> None:
    port = free_port()
    error = await error_of(registry_at(postgresql.url.set(port=port)))
    assert str(error) == f"database 127.0.0.1:{port}/{postgresql.name}: Connection refused"


@pytest.mark.anyio
async def test_an_error_names_no_statement(postgresql: PrivateDatabase) -> None:
    async with registry_at(postgresql.url) as registry:
        postgresql.execute("DROP TABLE ctl_event")
        with pytest.raises(RegistryUnusable) as caught:
            await registry.register(sent())
    check_message(str(caught.value))
    assert str(caught.value).endswith(': relation "ctl_event" does not exist; these are not the tables of this release')


def test_a_value_that_does_not_fit_is_an_error_of_the_call() -> None:
    assert DIALECT.meaning_of(error(psycopg.errors.StringDataRightTruncation()), "db1:5432/ctl") is None
    assert DIALECT.meaning_of(KeyError("a bug"), "db1:5432/ctl") is None


def test_it_is_named_with_its_port() -> None:
    assert DIALECT.place(URL.create("postgresql", host="10.0.0.7", database="ctl")) == "10.0.0.7:5432/ctl"
