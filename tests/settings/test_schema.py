"""Every knob from every source, precedence, what is refused and how, and secrets that stay secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.load import Knob, knobs_of
from dbgpt_ctl.settings.schema import ClientSettings, ControllerSettings

if TYPE_CHECKING:
    from dbgpt_ctl.settings.load import Settings

SECRET = "s3cr3t-of-the-test"

# A value for each knob that is not its default: the text and what it becomes. A new knob needs a line here.
GIVEN: dict[str, tuple[str, Any]] = {
    "host": (" [::1] ", "::1"),
    "port": (" 8123 ", 8123),
    "registry_type": ("Embedded", "embedded"),
    "registry_db_type": ("SQLite", "sqlite"),
    "registry_db_name": (" /var/lib/ctl.db ", "/var/lib/ctl.db"),
    "registry_db_host": (" db1,db2:3307,[::1]:3308 ", "db1,db2:3307,[::1]:3308"),
    "registry_db_port": ("3307", 3307),
    "registry_db_user": ("ctl", "ctl"),
    "registry_db_password": (f" {SECRET} @:/%", f" {SECRET} @:/%"),
    "registry_db_password_file": ("~/password", str(Path("~/password").expanduser())),
    "registry_db_ssl_ca": ("~/ca.pem", str(Path("~/ca.pem").expanduser())),
    "registry_db_pool_size": ("1", 1),
    "registry_db_max_overflow": ("0", 0),
    "heartbeat_interval_secs": ("2.5", 2.5),
    "heartbeat_timeout_secs": ("61", 61.0),
    "remove_after_secs": ("0", 0.0),
    "snapshot_file": ("/var/lib/ctl.snapshot", "/var/lib/ctl.snapshot"),
    "shutdown_grace_secs": ("1.5", 1.5),
    "max_instances": ("5", 5),
    "remote_addr": ("http://a:1,https://b/prefix", "http://a:1,https://b/prefix"),
    "log_level": ("DEBUG", "debug"),
    "tracer_file": ("~/traces.jsonl", str(Path("~/traces.jsonl").expanduser())),
    "tracer_storage_cls": ("package.module:Class", "package.module:Class"),
    "tracer_sample_ratio": ("0.25", 0.25),
    "tracer_to_open_telemetry": (" True ", True),
    "otel_exporter_otlp_traces_protocol": ("HTTP/protobuf", "http/protobuf"),
    "otel_exporter_otlp_traces_endpoint": ("http://collector:4317", "http://collector:4317"),
    "otel_exporter_otlp_traces_insecure": ("no", False),
    "otel_exporter_otlp_traces_certificate": ("~/ca.pem", str(Path("~/ca.pem").expanduser())),
    "otel_exporter_otlp_traces_headers": (f"authorization={SECRET}", f"authorization={SECRET}"),
    "otel_exporter_otlp_traces_timeout": ("2.5", 2.5),
    "otel_exporter_otlp_traces_compression": ("GZIP", "gzip"),
    "log_file": ("~/ctl.log", str(Path("~/ctl.log").expanduser())),
    "address": (f"http://user:{SECRET}@c:9", f"http://user:{SECRET}@c:9"),
    "request_timeout": ("0.5", 0.5),
}
KNOBS = [(settings, knob) for settings in (ControllerSettings, ClientSettings) for knob in knobs_of(settings)]
each_knob = pytest.mark.parametrize(("settings", "knob"), KNOBS, ids=[knob.name for _, knob in KNOBS])


def load(
    settings: type[Settings] = ControllerSettings,
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    env_file: str | None = "",
) -> Any:
    return settings.load(flags or {}, environ or {}, env_file)


def refused(settings: type[Settings] = ControllerSettings, **sources: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(settings, **sources)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def controller(**flags: object) -> ControllerSettings:
    loaded = load(flags=flags)
    assert isinstance(loaded, ControllerSettings)
    return loaded


def came_from(loaded: Settings, name: str) -> str:
    return next(each.origin for each in loaded.effective() if each.knob.name == name)


@each_knob
def test_without_any_source_a_knob_is_at_its_default(settings: type[Settings], knob: Knob) -> None:
    loaded = load(settings)
    assert getattr(loaded, knob.name) == knob.default
    assert came_from(loaded, knob.name) == "default"


@each_knob
def test_a_knob_from_its_flag(settings: type[Settings], knob: Knob) -> None:
    text, value = GIVEN[knob.name]
    loaded = load(settings, flags={knob.name: text}, environ={knob.variable: "overridden"})
    assert getattr(loaded, knob.name) == value
    assert came_from(loaded, knob.name) == f"flag {knob.flag}"


@each_knob
@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title])
def test_a_knob_from_the_environment(settings: type[Settings], knob: Knob, spell: Any) -> None:
    text, value = GIVEN[knob.name]
    loaded = load(settings, environ={spell(knob.variable): text, "PORT": "1", "HOST": "x"})
    assert getattr(loaded, knob.name) == value
    assert came_from(loaded, knob.name) == f"environment {spell(knob.variable)}"


@each_knob
@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_a_knob_from_a_file(settings: type[Settings], knob: Knob, spell: Any, tmp_path: Path) -> None:
    text, value = GIVEN[knob.name]
    file = tmp_path / "prod.env"
    file.write_text(f"# a comment\nexport {spell(knob.variable)}='{text}'  # another\n")
    loaded = load(settings, env_file=str(file))
    assert getattr(loaded, knob.name) == value
    assert came_from(loaded, knob.name) == f"{spell(knob.variable)} in {file}"


@each_knob
def test_the_environment_wins_over_a_file_and_empty_variables_are_none(
    settings: type[Settings], knob: Knob, tmp_path: Path
) -> None:
    text, value = GIVEN[knob.name]
    file = tmp_path / "env"
    file.write_text(f"{knob.variable}=overridden\n")
    loaded = load(settings, environ={knob.variable: "", knob.variable.lower(): text}, env_file=str(file))
    assert getattr(loaded, knob.name) == value
    file.write_text(f"{knob.variable}=\n{knob.variable.lower()}\n")
    assert load(settings, environ={knob.variable: ""}, env_file=str(file)) == load(settings)


@each_knob
def test_all_values_are_shown_but_secrets(settings: type[Settings], knob: Knob) -> None:
    text, value = GIVEN[knob.name]
    loaded = load(settings, flags={knob.name: text})
    shown = next(each.shown for each in loaded.effective() if each.knob.name == knob.name)
    assert SECRET not in repr(loaded)
    assert SECRET not in str(shown)
    if knob.kind.secret and SECRET in text:
        assert "********" in shown
        assert "********" in repr(loaded)
    else:
        assert shown == value
        assert f"{knob.name}={shown!r}" in repr(loaded)


@each_knob
def test_an_empty_flag_is_none_where_that_is_the_default_and_wrong_elsewhere(
    settings: type[Settings], knob: Knob
) -> None:
    sources: dict[str, Any] = {"flags": {knob.name: ""}, "environ": {knob.variable: GIVEN[knob.name][0]}}
    if knob.default is None:
        assert getattr(load(settings, **sources), knob.name) is None
    else:
        assert refused(settings, **sources).startswith(f"{knob.name}")


def test_a_file_in_this_folder_is_read_unless_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(env_file=None).port == 8000
    Path(".env").write_text("\ufeffCONTROLLER_PORT=1111\n", encoding="utf-8")
    Path("other").write_text("CONTROLLER_HOST=other\n")
    loaded = load(env_file=None)
    assert (loaded.port, came_from(loaded, "port")) == (1111, "CONTROLLER_PORT in .env")
    assert (load(env_file="other").port, load(env_file="other").host) == (8000, "other")
    assert load(env_file="").port == 8000


def test_a_folder_named_env_is_no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").mkdir()
    assert load(env_file=None) == ControllerSettings()
    assert refused(env_file=".env") == ".env: cannot be read: Is a directory"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert refused(env_file="no/such") == "--env-file no/such: no such file"
    binary = tmp_path / "binary"
    binary.write_bytes(b"CONTROLLER_HOST=\xff\xfe")
    assert refused(env_file=str(binary)) == f"{binary}: not a .env file: it is not UTF-8 text"


def test_an_env_file_may_be_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"CONTROLLER_PORT=2222\n")
    os.close(writing)
    try:
        assert load(env_file=f"/dev/fd/{reading}").port == 2222
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("port", "70000", "port 70000 is not a whole number from 1 to 65535"),
        ("port", "0", "port 0 is not a whole number from 1 to 65535"),
        ("port", "-1", "port -1 is not a whole number from 1 to 65535"),
        ("port", "http", "port http is not a whole number from 1 to 65535"),
        ("port", "8000.5", "port 8000.5 is not a whole number from 1 to 65535"),
        ("port", "٨", "port '\\u0668' is not a whole number from 1 to 65535"),
        ("port", "1" * 5000, f"port {'1' * 57}... is not a whole number from 1 to 65535"),
        ("registry_db_port", "x\x1b[31m", "registry_db_port 'x\\x1b[31m' is not a whole number from 1 to 65535"),
        ("registry_db_pool_size", "0", "registry_db_pool_size 0 is not a whole number from 1 to 1000"),
        ("registry_db_max_overflow", "-1", "registry_db_max_overflow -1 is not a whole number from 0 to 1000"),
        ("max_instances", "0", "max_instances 0 is not a whole number from 1 to 1000000000"),
        *(
            (name, text, f"{name} {text} is not a number of seconds above 0 and at most 31536000")
            for name in ("heartbeat_timeout_secs", "heartbeat_interval_secs")
            for text in ("0", "-1", "nan", "inf", "1e300", "soon")
        ),
        ("registry_type", "redis", "registry_type redis is not one of embedded, database"),
        ("registry_db_type", "oracle", "registry_db_type oracle is not one of mysql, sqlite"),
        ("log_level", "loud", "log_level loud is not one of debug, info, warning, error, critical"),
        ("host", " ", "host is empty"),
        ("host", "[]", "host [] is empty"),
        ("host", "a b", "host 'a b' is not a host name or address: give it without scheme, path or spaces"),
        ("host", "0.0.0.0:8000", "host 0.0.0.0:8000 is not a host name or address: the port is a setting of its own"),
        (
            "registry_db_host",
            f"mysql://root:{SECRET}@db/x",
            ("registry_db_host mysql://********@db/x is not a host, or a list of hosts as in db1,db2:3307,[::1]:3308"),
        ),
        ("registry_db_user", "a\nb", "registry_db_user 'a\\nb' holds control or invisible characters"),
        (
            "remote_addr",
            f"ftp://u:{SECRET}@c",
            "remote_addr: controller address 'ftp://********@c' cannot be used: its scheme is neither http nor https",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_knob_and_source(name: str, text: str, message: str) -> None:
    knob = next(knob for _, knob in KNOBS if knob.name == name)
    assert refused(flags={name: text}) == f"{message} (flag {knob.flag})"
    assert refused(environ={knob.variable: text}) == f"{message} (environment {knob.variable})"


def test_all_wrong_values_are_in_one_message() -> None:
    message = refused(flags={"port": "0"}, environ={"controller_log_level": "loud"})
    assert message == (
        "port 0 is not a whole number from 1 to 65535 (flag --port); "
        "log_level loud is not one of debug, info, warning, error, critical (environment controller_log_level)"
    )


def test_a_port_that_kubernetes_set_is_explained() -> None:
    message = refused(environ={"CONTROLLER_PORT": "tcp://10.0.0.1:8000"})
    assert message == (
        "port tcp://10.0.0.1:8000 is not a whole number from 1 to 65535: Kubernetes sets this for a Service named "
        "controller (enableServiceLinks: false stops it) (environment CONTROLLER_PORT)"
    )


def test_all_that_a_mysql_registry_lacks_is_named_at_once() -> None:
    assert refused(flags={"registry_type": "database"}) == (
        "a mysql registry needs registry_db_host (CONTROLLER_REGISTRY_DB_HOST), registry_db_user "
        "(CONTROLLER_REGISTRY_DB_USER), registry_db_password (CONTROLLER_REGISTRY_DB_PASSWORD): "
        "set the variables or give the flags"
    )
    given = {"CONTROLLER_REGISTRY_DB_HOST": "db", "CONTROLLER_REGISTRY_DB_PASSWORD": SECRET}
    message = refused(flags={"registry_type": "database"}, environ=given)
    assert "needs registry_db_user (CONTROLLER_REGISTRY_DB_USER):" in message
    blank = {"registry_type": "database", "registry_db_host": "", "registry_db_user": "", "registry_db_password": "x"}
    assert "needs registry_db_host (CONTROLLER_REGISTRY_DB_HOST), registry_db_user (" in refused(flags=blank)


def test_a_mysql_registry_with_all_it_needs() -> None:
    loaded = controller(registry_type="database", registry_db_host="db", registry_db_user="u", registry_db_password="p")
    assert (loaded.registry_db_name, loaded.registry_db_port) == ("dbgpt", 3306)
    without = controller(registry_type="database", registry_db_host="db", registry_db_user="u", registry_db_password="")
    assert without.registry_db_password is None


MYSQL = {"registry_type": "database", "registry_db_host": "db", "registry_db_user": "u"}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_from_a_file(tmp_path: Path, end: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(f" {SECRET} @:/%{end}".encode())
    loaded = controller(**MYSQL, registry_db_password_file=str(file))
    assert loaded.registry_db_password == f" {SECRET} @:/%"
    assert came_from(loaded, "registry_db_password") == f"file {file}"
    assert SECRET not in repr(loaded)
    assert loaded.warnings() == []
    environ = {f"CONTROLLER_{name.upper()}": text for name, text in MYSQL.items()}
    environ["CONTROLLER_REGISTRY_DB_PASSWORD_FILE"] = str(file)
    assert load(environ=environ).registry_db_password == f" {SECRET} @:/%"


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
        (SECRET.encode() * 1000, "is larger than 8192 bytes"),
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
def test_a_password_and_a_password_file_exclude_each_other(tmp_path: Path, password: str) -> None:
    flags = {**MYSQL, "registry_db_password_file": str(tmp_path / "no-such"), "registry_db_password": password}
    message = "registry_db_password and registry_db_password_file exclude each other: give one of them"
    assert refused(flags=flags) == message
    if password:
        del flags["registry_db_password"]
        assert refused(flags=flags, environ={"CONTROLLER_REGISTRY_DB_PASSWORD": password}) == message


def test_a_password_file_is_not_read_without_a_mysql_registry(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such")
    assert controller(registry_db_password_file=missing).warnings() == [
        "registry_db_password_file without effect: registry_type is embedded; add --registry database"
    ]


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        (
            {"registry_db_password": SECRET},
            ["--registry-db-password", "--registry-db-password-file or the variable CONTROLLER_REGISTRY_DB_PASSWORD"],
        ),
        ({"remote_addr": f"http://u:{SECRET}@c:1"}, ["--remote-addr", "the variable CONTROLLER_REMOTE_ADDR"]),
        ({"remote_addr": "http://c:1"}, []),
        ({"registry_db_password": ""}, []),
    ],
)
def test_a_secret_in_a_flag_is_warned_of(flags: dict[str, object], warned: list[str]) -> None:
    expected = (
        [f"other users of this machine can read {warned[0]} in the process list: use {warned[1]}"] if warned else []
    )
    assert controller(**flags).secret_flag_warnings() == expected
    variables = {f"CONTROLLER_{name.upper()}": str(text) for name, text in flags.items()}
    assert load(environ=variables).secret_flag_warnings() == []


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
    assert message == "remote_addr and registry_type database exclude each other: a controller has one registry"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://a:1", "http://a:1"),
        (f"http://{SECRET}@a", "http://********@a"),
        (f"https://u:{SECRET}@a/p,http://b,http://{SECRET}:@c", "https://********@a/p,http://b,http://********@c"),
        (f"u:{SECRET}@a:1", "********@a:1"),
        (f"http://u:x,{SECRET}@a", "http://********@a"),
    ],
)
def test_an_address_is_shown_without_user_and_token(address: str, shown: str) -> None:
    for settings in (ClientSettings(address=address), ControllerSettings(remote_addr=address)):
        assert SECRET not in repr(settings)
        assert shown in repr(settings)


def test_a_password_is_in_no_error_whatever_else_is_wrong() -> None:
    message = refused(flags={"registry_type": "database", "registry_db_password": SECRET, "port": "x"})
    assert message == "port x is not a whole number from 1 to 65535 (flag --port)"


def test_a_typo_in_a_variable_is_told() -> None:
    loaded = load(environ={"CONTROLLER_REGISTRY_DB_PASWORD": SECRET, "CONTROLLER_QQQ": SECRET, "controller_prt": "1"})
    assert loaded.warnings() == [
        (
            "environment CONTROLLER_REGISTRY_DB_PASWORD is not known and ignored; "
            "did you mean CONTROLLER_REGISTRY_DB_PASSWORD?"
        ),
        "environment CONTROLLER_QQQ is not known and ignored",
        "environment controller_prt is not known and ignored; did you mean CONTROLLER_PORT?",
    ]


def test_a_spelling_that_loses_is_told(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("CONTROLLER_PORT=1\n")
    environ = {"Controller_Port": "2", "controller_port": "3", "CONTROLLER_PORT": "4"}
    loaded = load(environ=environ, env_file=str(file))
    assert loaded.port == 4
    assert loaded.warnings() == [
        "controller_port is ignored: it differs from environment CONTROLLER_PORT",
        "Controller_Port is ignored: it differs from environment CONTROLLER_PORT",
    ]
    assert load(environ={"controller_port": "3", "CONTROLLER_PORT": "3"}).warnings() == []


def test_what_others_set_is_not_a_typo() -> None:
    names = ["SERVICE_HOST", "SERVICE_PORT", "PORT_8000_TCP_ADDR", "NAME", "ADDRESS", "REQUEST_TIMEOUT"]
    assert load(environ={f"CONTROLLER_{name}": "x" for name in names}).warnings() == []


def test_a_client_does_not_judge_the_variables_of_a_controller() -> None:
    loaded = load(ClientSettings, environ={"CONTROLLER_PRT": "x", "CONTROLLER_PORT": "70000"})
    assert loaded == ClientSettings()
    assert loaded.remarks == ()


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
def test_a_short_heartbeat_timeout_is_warned_of_no_more(timeout: str, interval: str, warned: list[str]) -> None:
    assert controller(heartbeat_timeout_secs=timeout, heartbeat_interval_secs=interval).warnings() == warned


def test_database_knobs_without_a_database_are_told() -> None:
    assert controller(registry_db_host="db").warnings() == [
        "registry_db_host without effect: registry_type is embedded; add --registry database"
    ]
    assert controller(registry_db_host="db", remote_addr="http://c:1").warnings() == [
        "registry_db_host without effect: remote_addr is set"
    ]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("LocalHost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("controller", False)],
)  # fmt: skip
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert ControllerSettings(host=host).is_loopback is loopback


def test_loading_for_a_client_is_light() -> None:
    code = (
        "import os, sys; from dbgpt_ctl.settings.schema import ClientSettings; ClientSettings.load({}, os.environ, '');"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"dotenv", "difflib", "sqlalchemy", "fastapi", "httpx", "typer", "asyncio", "logging"}
    assert not heavy & set(done.stdout.split())


ENDPOINT = "otel_exporter_otlp_traces_endpoint"
OTLP = "OTEL_EXPORTER_OTLP_"


def test_the_standard_names_count_while_the_export_is_on() -> None:
    environ = {f"{OTLP}TRACES_ENDPOINT": "http://t:1", f"{OTLP}ENDPOINT": "http://all:1", f"{OTLP}TIMEOUT": "3"}
    off = load(environ=environ)
    assert (off.otel_exporter_otlp_traces_endpoint, off.otel_exporter_otlp_traces_timeout) == (None, 10.0)
    assert off.warnings() == []
    on = load(environ=environ | {"TRACER_TO_OPEN_TELEMETRY": "true"})
    assert on.tracer_to_open_telemetry is True
    assert (on.otel_exporter_otlp_traces_endpoint, on.otel_exporter_otlp_traces_timeout) == ("http://t:1", 3.0)
    assert came_from(on, ENDPOINT) == f"environment {OTLP}TRACES_ENDPOINT"
    ours = load(environ=environ | {"CONTROLLER_TRACER_TO_OPEN_TELEMETRY": "1", f"CONTROLLER_{ENDPOINT.upper()}": "h:2"})
    assert ours.otel_exporter_otlp_traces_endpoint == "h:2"


def test_the_standard_names_count_in_an_env_file_too(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(f"TRACER_TO_OPEN_TELEMETRY=true\n{OTLP}HEADERS=authorization={SECRET}\n")
    loaded = load(env_file=str(file))
    assert loaded.otel_exporter_otlp_traces_headers == f"authorization={SECRET}"
    assert SECRET not in repr(loaded)


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


def test_a_wrong_standard_name_is_wrong_only_while_the_export_is_on() -> None:
    wrong = {f"{OTLP}PROTOCOL": "http/json", f"{OTLP}TIMEOUT": "10000"}
    assert load(environ=wrong) == ControllerSettings()
    message = refused(environ=wrong | {"TRACER_TO_OPEN_TELEMETRY": "true"})
    assert (
        f"otel_exporter_otlp_traces_protocol http/json is not one of grpc, http/protobuf (environment {OTLP}P"
        in message
    )
    assert "otel_exporter_otlp_traces_timeout 10000 is not a number of seconds" in message


def test_knobs_of_an_export_that_is_off_are_told() -> None:
    loaded = load(environ={f"CONTROLLER_{ENDPOINT.upper()}": "http://h:4317"})
    assert loaded.warnings() == [f"{ENDPOINT} without effect: tracer_to_open_telemetry is off"]


@pytest.mark.parametrize("text", [SECRET, f"={SECRET}", f"a={SECRET},{SECRET}", ","])
def test_headers_that_are_none_are_refused_and_not_shown(text: str) -> None:
    assert "is not a list of name=value" in refused(flags={"otel_exporter_otlp_traces_headers": text})


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "half"])
def test_a_ratio_is_from_0_to_1(text: str) -> None:
    assert "is not a number from 0 to 1" in refused(flags={"tracer_sample_ratio": text})
