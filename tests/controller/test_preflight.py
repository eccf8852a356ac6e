"""`ctl serve --check`: it finds what would end a start, and leaves no trace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.controller.bootstrap import open_databases
from dbgpt_ctl.controller.preflight import check_start
from dbgpt_ctl.errors import CtlError, RegistryUnavailable, RegistryUnusable, UsageError
from dbgpt_ctl.registry.database.tables.schema import SCHEMA_VERSION
from tests.settings.loading import SECRET, controller

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.database_server import PrivateDatabase

START = "all checks passed: http://127.0.0.1:8000, auth off, "


def refused(error: type[CtlError], **flags: object) -> str:
    with pytest.raises(CtlError) as caught:
        check_start(controller(**flags))
    assert type(caught.value) is error
    assert SECRET not in str(caught.value)
    return str(caught.value)


def of(database: PrivateDatabase, **changed: object) -> dict[str, object]:
    return {
        "registry_type": "database",
        **{f"registry_db_{name}": value for name, value in database.settings.items()},
        **changed,
    }


def prepare(database: PrivateDatabase) -> None:
    """Creates the tables, as the start of a controller does."""
    with open_databases(controller(**of(database))) as (opened,):
        opened.prepare()


def test_a_registry_in_memory() -> None:
    assert check_start(controller()) == f"{START}registry in memory only"


def test_a_registry_behind_another_controller() -> None:
    flags = {"remote_addr": f"http://me:{SECRET}@c:1", "host": "::1", "port": 80}
    assert check_start(controller(**flags)) == (
        "all checks passed: http://[::1]:80, auth off, registry of http://********@c:1, which was not asked"
    )


def test_the_files_for_another_controller_are_read(tmp_path: Path) -> None:
    token, missing = tmp_path / "token", tmp_path / "missing"
    token.write_text(SECRET)
    token.chmod(0o600)
    behind = {"remote_addr": "https://c:1", "remote_token_file": token}
    assert check_start(controller(**behind)).endswith("registry of https://c:1, which was not asked")
    assert refused(UsageError, **behind, remote_ca_file=missing) == f"ca_file {missing}: no such file"
    assert refused(UsageError, **behind, remote_ca_file=token).startswith(f"ca_file {token}: holds no certificates")
    token.chmod(0o640)
    assert refused(UsageError, **behind) == (
        f"remote_token_file {token}: others can read or write it (mode 0640): chmod 600 {token}"
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("log_file", "log file {} cannot be written: {}"),
        ("tracer_file", "tracer_file {} cannot be written: {}"),
        ("audit_log_file", "audit_log_file {} cannot be written: {}"),
    ],
)
def test_a_file_that_cannot_be_written(tmp_path: Path, setting: str, message: str) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "x"
    assert refused(UsageError, **{setting: below}) == message.format(below, "Not a directory")
    assert refused(UsageError, **{setting: tmp_path}) == message.format(tmp_path, "Is a directory")


def test_a_trace_file_is_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    message = f"tracer_file {tmp_path}/pipe cannot be written: it is not a regular file"
    assert refused(UsageError, tracer_file=tmp_path / "pipe") == message


def test_nothing_is_created(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    database = {"registry_type": "database", "registry_db_type": "sqlite", "registry_db_name": folder / "ctl.db"}
    line = check_start(controller(**database, log_file=folder / "log", tracer_file=folder / "traces"))
    assert line == f"{START}registry in database {folder}/ctl.db, no tables yet: the start creates them"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "ctl.db"
    file.write_text("no database " * 100)
    flags = {"registry_type": "database", "registry_db_type": "sqlite", "registry_db_name": file}
    assert "name another file" in refused(RegistryUnusable, **flags)
    assert refused(RegistryUnusable, **{**flags, "registry_db_name": tmp_path}) == (
        f"database {tmp_path} cannot be written: Is a directory"
    )


def test_an_export_of_traces_is_checked(tmp_path: Path) -> None:
    certificate = tmp_path / "none.pem"
    flags = {"tracer_to_open_telemetry": "true", "otel_exporter_otlp_traces_certificate": certificate}
    assert refused(UsageError, **flags) == (
        f"otel_exporter_otlp_traces_certificate {certificate} cannot be read: No such file or directory"
    )


def test_a_database_with_and_without_tables(database: PrivateDatabase) -> None:
    place = f"registry in database {database.server.host}:{database.server.port}/{database.name}"
    assert check_start(controller(**of(database))) == (
        f"{START}{place}, no tables yet: the start creates them, if its user may"
    )
    assert database.tables() == []
    prepare(database)
    assert check_start(controller(**of(database))) == f"{START}{place}, tables of schema version {SCHEMA_VERSION}"


@pytest.mark.parametrize(
    "rights", ["SELECT", "SELECT, INSERT, UPDATE", "SELECT, INSERT, DELETE", "SELECT, UPDATE, DELETE"]
)
def test_a_right_that_is_missing(database: PrivateDatabase, rights: str) -> None:
    prepare(database)
    before = database.execute("SELECT * FROM ctl_pulse")
    database.server.create_user("limited", SECRET, database.name, rights)
    limited = of(database, registry_db_user="limited", registry_db_password=SECRET)
    assert "denied" in refused(RegistryUnusable, **limited)
    database.server.create_user("limited", SECRET, database.name, "SELECT, INSERT, UPDATE, DELETE")
    assert check_start(controller(**limited)).endswith(f"tables of schema version {SCHEMA_VERSION}")
    assert database.execute("SELECT * FROM ctl_pulse") == before
    database.server.drop_user("limited", database.name)


def test_tables_of_a_newer_release(database: PrivateDatabase) -> None:
    prepare(database)
    database.execute("UPDATE ctl_schema SET version = 99, readable_by = 99")
    assert "schema version 99" in refused(RegistryUnusable, **of(database))


def test_a_database_that_is_away_or_refuses(database: PrivateDatabase) -> None:
    assert "onnection refused" in refused(RegistryUnavailable, **of(database, registry_db_port=1))
    wrong = of(database, registry_db_password=SECRET)  # MySQL asks an unknown user for any login
    assert "check user, password and " in refused(RegistryUnusable, **wrong)
    assert "registry_db_ssl_ca /none cannot be used" in refused(UsageError, **of(database, registry_db_ssl_ca="/none"))
