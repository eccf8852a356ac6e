"""The rules over several settings: what a registry needs, what excludes what, what is warned of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.settings.schema import LOOPBACK_HOSTS, ControllerSettings
from dbgpt_ctl.settings.warnings import secret_warnings, warnings_of
from tests.settings.loading import SECRET, came_from, controller, load, refused

if TYPE_CHECKING:
    from pathlib import Path


def test_all_that_a_mysql_registry_lacks_is_named_at_once() -> None:
    assert refused(flags={"registry_type": "database"}) == (
        "a mysql registry needs registry_db_host (CONTROLLER_REGISTRY_DB_HOST), registry_db_user "
        "(CONTROLLER_REGISTRY_DB_USER), registry_db_password (CONTROLLER_REGISTRY_DB_PASSWORD) or "
        "registry_db_password_file (CONTROLLER_REGISTRY_DB_PASSWORD_FILE): set the variables or give the flags"
    )
    given = {"CONTROLLER_REGISTRY_DB_HOST": "db", "CONTROLLER_REGISTRY_DB_PASSWORD": SECRET}
    message = refused(flags={"registry_type": "database"}, environ=given)
    assert "needs registry_db_user (CONTROLLER_REGISTRY_DB_USER):" in message
    blank = {"registry_type": "database", "registry_db_host": "", "registry_db_user": "", "registry_db_password": "x"}
    assert "needs registry_db_host (CONTROLLER_REGISTRY_DB_HOST), registry_db_user (" in refused(flags=blank)


def test_a_mysql_registry_with_all_it_needs() -> None:
    loaded = controller(registry_type="database", registry_db_host="db", registry_db_user="u", registry_db_password="p")
    assert (loaded.registry_db_name, loaded.registry_db_port) == ("dbgpt", None)
    without = controller(registry_type="database", registry_db_host="db", registry_db_user="u", registry_db_password="")
    assert without.registry_db_password is None


MYSQL = {"registry_type": "database", "registry_db_host": "db", "registry_db_user": "u"}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_from_a_file(tmp_path: Path, end: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(f" {SECRET} @:/%{end}".encode())
    file.chmod(0o600)
    loaded = controller(**MYSQL, registry_db_password_file=str(file))
    assert loaded.registry_db_password == f" {SECRET} @:/%"
    assert came_from(loaded, "registry_db_password") == f"file {file}"
    assert SECRET not in repr(loaded)
    assert warnings_of(loaded) == []
    environ = {f"CONTROLLER_{name.upper()}": text for name, text in MYSQL.items()}
    environ["CONTROLLER_REGISTRY_DB_PASSWORD_FILE"] = str(file)
    assert load(environ=environ).registry_db_password == f" {SECRET} @:/%"


@pytest.mark.parametrize(("mode", "shown"), [(0o644, "0644"), (0o440, "0440"), (0o604, "0604")])
def test_a_password_file_that_others_can_read_is_warned_of(tmp_path: Path, mode: int, shown: str) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET)
    file.chmod(mode)
    loaded = controller(**MYSQL, registry_db_password_file=str(file))
    assert warnings_of(loaded) == [
        f"registry_db_password_file {file}: others can read it (mode {shown}): chmod 600 {file}"
    ]


def test_a_port_without_a_listener_is_warned_of() -> None:
    assert warnings_of(controller(tls_port="9443")) == ["tls_port without effect: tls_cert and tls_key are not set"]
    over_tls = {"tls_cert": "/no/such.crt", "tls_key": "/no/such.key", "tls_port": "9443"}
    assert warnings_of(controller(**over_tls)) == []
    assert warnings_of(controller(**over_tls, port="9000", no_http="true")) == [
        "port without effect: no_http is set, and TLS has tls_port"
    ]


def test_the_url_of_each_listener() -> None:
    over_tls = {"tls_cert": "/no/such.crt", "tls_key": "/no/such.key"}
    assert controller().urls("ctl-1") == ["http://ctl-1:8000"]
    assert controller(**over_tls).urls("[::1]") == ["http://[::1]:8000", "https://[::1]:8443"]
    assert controller(**over_tls, no_http="true").urls("ctl-1") == ["https://ctl-1:8443"]


def test_a_password_file_without_use_is_warned_of() -> None:
    sqlite = {"registry_type": "database", "registry_db_type": "sqlite", "registry_db_name": "/x.db"}
    unused = {"registry_db_password_file": "/no/such", "registry_db_host": "db"}
    assert warnings_of(controller(**sqlite, **unused)) == [
        "registry_db_host, registry_db_password_file without effect: sqlite is a file, not a server"
    ]
    assert warnings_of(controller(**sqlite, registry_db_pool_size=3)) == []


def test_a_password_file_may_be_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, f"{SECRET}\n".encode())
    os.close(writing)
    try:
        loaded = controller(**MYSQL, registry_db_password_file=f"/dev/fd/{reading}")
        assert loaded.registry_db_password == SECRET
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (SECRET.encode() + b"\xff", "is not UTF-8 text"),
        (SECRET.encode() * 1000, "cannot be read: it is larger than 8 KiB"),
    ],
)
def test_a_password_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    flags = {**MYSQL, "registry_db_password_file": str(file)}
    assert refused(flags=flags) == f"registry_db_password_file {file}: {problem}"


def test_a_password_file_that_is_a_directory(tmp_path: Path) -> None:
    flags = {**MYSQL, "registry_db_password_file": str(tmp_path)}
    assert refused(flags=flags) == f"registry_db_password_file {tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize("password", ["", SECRET])
def test_a_password_and_a_password_file_are_one_too_many(tmp_path: Path, password: str) -> None:
    flags = {**MYSQL, "registry_db_password_file": str(tmp_path / "no-such"), "registry_db_password": password}
    message = "registry_db_password and registry_db_password_file are both set: leave one of them out"
    assert refused(flags=flags) == message
    if password:
        del flags["registry_db_password"]
        assert refused(flags=flags, environ={"CONTROLLER_REGISTRY_DB_PASSWORD": password}) == message


def test_a_mark_of_the_byte_order_is_not_part_of_the_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n")
    assert controller(**MYSQL, registry_db_password_file=str(file)).registry_db_password == SECRET


def test_a_password_file_is_not_read_without_a_mysql_registry(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such")
    both = controller(registry_db_password_file=missing, registry_db_password=SECRET)
    assert both.registry_db_password == SECRET
    assert warnings_of(controller(registry_db_password_file=missing)) == [
        "registry_db_password_file without effect: registry_type is embedded; add --registry database"
    ]


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        (
            {"registry_db_password": SECRET},
            ["--registry-db-password", "--registry-db-password-file or the variable CONTROLLER_REGISTRY_DB_PASSWORD"],
        ),
        (
            {"remote_addr": f"https://u:{SECRET}@c:1"},
            ["--remote-addr", "--remote-token-file or the variable CONTROLLER_REMOTE_ADDR"],
        ),
        ({"remote_addr": "http://c:1"}, []),
        ({"registry_db_password": ""}, []),
    ],
)
def test_a_secret_in_a_flag_is_warned_of(flags: dict[str, object], warned: list[str]) -> None:
    expected = (
        [f"other users of this machine can read {warned[0]} in the process list: use {warned[1]}"] if warned else []
    )
    assert secret_warnings(controller(**flags)) == expected
    variables = {f"CONTROLLER_{name.upper()}": str(text) for name, text in flags.items()}
    assert secret_warnings(load(environ=variables)) == []


PLAIN = "{} in plain text, and who reads the traffic can use it: write https://"


@pytest.mark.parametrize(
    ("remote_addr", "token_file", "warned"),
    [
        (f"http://u:{SECRET}@c:1,http://d:1", None, ["a token goes to http://c:1"]),
        ("http://c:1,https://d:1,http://127.0.0.1:1,http://e", "t", ["tokens go to http://c:1, http://e"]),
        ("https://c:1", "t", []),
        ("http://localhost:1", "t", []),
        ("http://c:1", None, []),
    ],
)
def test_a_token_in_plain_text_to_another_machine_is_warned_of(
    remote_addr: str, token_file: str | None, warned: list[str]
) -> None:
    variables = {"CONTROLLER_REMOTE_ADDR": remote_addr}
    if token_file is not None:
        variables["CONTROLLER_REMOTE_TOKEN_FILE"] = token_file
    assert warnings_of(load(environ=variables)) == [PLAIN.format(line) for line in warned]


def test_files_for_the_controllers_to_forward_to_need_an_address() -> None:
    assert warnings_of(controller(remote_ca_file="ca.pem", remote_token_file="t")) == [
        "remote_token_file, remote_ca_file without effect: remote_addr is not set"
    ]


def test_one_token_for_the_controllers_to_forward_to() -> None:
    flags = {"remote_addr": f"https://a,https://u:{SECRET}@c:1", "remote_token_file": "t"}
    assert refused(flags=flags) == (
        "remote_addr holds a token, and remote_token_file is set: leave one of the tokens out"
    )


def test_a_sqlite_registry_needs_a_path_and_knows_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/test")
    sqlite = {"registry_type": "database", "registry_db_type": "sqlite"}
    message = refused(flags=sqlite)
    assert message.startswith("a sqlite registry needs registry_db_name (CONTROLLER_REGISTRY_DB_NAME):")
    assert controller(**sqlite, registry_db_name="~/a/b.db").registry_db_name == "/home/of/test/a/b.db"
    assert controller(registry_db_name="~x").registry_db_name == "~x"
    assert refused(flags=sqlite | {"registry_db_name": "~nobody-of-this-name/x"}) == (
        "~nobody-of-this-name/x: the home directory that ~ stands for is not known"
    )


def test_a_controller_has_one_registry() -> None:
    message = refused(flags={"registry_type": "database", "remote_addr": "http://c:1"})
    assert message == (
        "remote_addr and registry_type database are both set: a controller has one registry; leave one of them out"
    )


@pytest.mark.parametrize(
    ("timeout", "interval", "warned"),
    [
        ("60", "20", []),
        ("21", "20", []),
        (
            "20",
            "10",
            ["heartbeat_timeout_secs 20 is too short for DB-GPT: WorkerManager@service sends a heartbeat every 20 s"],
        ),
        ("60", "90", ["heartbeat_timeout_secs 60 is below heartbeat_interval_secs 90: live workers expire"]),
    ],
)
def test_a_short_heartbeat_timeout_is_warned_of(timeout: str, interval: str, warned: list[str]) -> None:
    assert warnings_of(controller(heartbeat_timeout_secs=timeout, heartbeat_interval_secs=interval)) == warned


def test_database_settings_without_a_database_are_warned_of() -> None:
    assert warnings_of(controller(registry_db_host="db")) == [
        "registry_db_host without effect: registry_type is embedded; add --registry database"
    ]
    assert warnings_of(controller(registry_db_host="db", remote_addr="http://c:1")) == [
        "registry_db_host without effect: remote_addr is set"
    ]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("LocalHost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("controller", False), ("127.1", True), ("localhost.", True), ("::ffff:127.0.0.1", True),
     ("::ffff:10.0.0.1", False)],
)  # fmt: skip
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert ControllerSettings(host=host).is_loopback is loopback


@pytest.mark.parametrize(
    ("settings", "patterns"),
    [
        ({}, [*LOOPBACK_HOSTS, "127.0.0.1"]),
        ({"host": "10.0.0.1"}, ["*"]),
        ({"allowed_hosts": "a,*.b"}, [*LOOPBACK_HOSTS, "127.0.0.1", "a", "*.b"]),
        ({"host": "ctl-1", "allowed_hosts": "a"}, [*LOOPBACK_HOSTS, "ctl-1", "a"]),
    ],
)
def test_by_which_hosts_it_may_be_called(settings: dict[str, Any], patterns: list[str]) -> None:
    assert list(ControllerSettings(**settings).host_patterns) == patterns


ENDPOINT = "otel_exporter_otlp_traces_endpoint"
OTLP = "OTEL_EXPORTER_OTLP_"


@pytest.mark.parametrize(
    ("name", "protocol", "endpoint"),
    [
        ("ENDPOINT", "http/protobuf", "http://h:4318/base/v1/traces"),
        ("ENDPOINT", "grpc", "http://h:4318/base/"),
        ("TRACES_ENDPOINT", "http/protobuf", "http://h:4318/base/"),
    ],
)
def test_the_endpoint_for_all_signals_is_a_base_over_http(name: str, protocol: str, endpoint: str) -> None:
    variables = {OTLP + name: "http://h:4318/base/", f"{OTLP}PROTOCOL": protocol, "TRACER_TO_OPEN_TELEMETRY": "true"}
    assert load(environ=variables).otel_exporter_otlp_traces_endpoint == endpoint


def test_settings_of_an_export_that_is_off_are_warned_of() -> None:
    loaded = load(environ={f"CONTROLLER_{ENDPOINT.upper()}": "http://h:4317"})
    assert warnings_of(loaded) == [f"{ENDPOINT} without effect: tracer_to_open_telemetry is off"]
