"""Every setting from every source: precedence, wrong values and how they are named, typos."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.settings.masking import quote
from dbgpt_ctl.settings.schema import ClientSettings, ControllerSettings
from dbgpt_ctl.settings.warnings import warnings_of
from tests.settings.loading import GIVEN, SECRET, SETTINGS, came_from, each_setting, load, refused

if TYPE_CHECKING:
    from dbgpt_ctl.settings.load import Setting, Settings


ENDPOINT = "otel_exporter_otlp_traces_endpoint"
OTLP = "OTEL_EXPORTER_OTLP_"


@each_setting
def test_without_any_source_a_setting_is_at_its_default(settings: type[Settings], setting: Setting) -> None:
    loaded = load(settings)
    assert getattr(loaded, setting.name) == setting.default
    assert came_from(loaded, setting.name) == "default"


@each_setting
def test_a_setting_from_its_flag(settings: type[Settings], setting: Setting) -> None:
    text, value = GIVEN[setting.name]
    loaded = load(settings, flags={setting.name: text}, environ={setting.variable: "overridden"})
    assert getattr(loaded, setting.name) == value
    assert came_from(loaded, setting.name) == f"flag {setting.flag}"


@each_setting
@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title])
def test_a_setting_from_the_environment(settings: type[Settings], setting: Setting, spell: Any) -> None:
    text, value = GIVEN[setting.name]
    loaded = load(settings, environ={spell(setting.variable): text, "PORT": "1", "HOST": "x"})
    assert getattr(loaded, setting.name) == value
    assert came_from(loaded, setting.name) == f"environment {spell(setting.variable)}"


@each_setting
@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_a_setting_from_a_file(settings: type[Settings], setting: Setting, spell: Any, tmp_path: Path) -> None:
    text, value = GIVEN[setting.name]
    file = tmp_path / "prod.env"
    file.write_text(f"# a comment\nexport {spell(setting.variable)}='{text}'  # another\n")
    loaded = load(settings, env_file=str(file))
    assert getattr(loaded, setting.name) == value
    assert came_from(loaded, setting.name) == f"{spell(setting.variable)} in {file}"


@each_setting
def test_the_environment_wins_over_a_file_and_empty_variables_are_none(
    settings: type[Settings], setting: Setting, tmp_path: Path
) -> None:
    text, value = GIVEN[setting.name]
    file = tmp_path / "env"
    file.write_text(f"{setting.variable}=overridden\n")
    loaded = load(settings, environ={setting.variable: "", setting.variable.lower(): text}, env_file=str(file))
    assert getattr(loaded, setting.name) == value
    file.write_text(f"{setting.variable}=\n{setting.variable.lower()}\n")
    assert load(settings, environ={setting.variable: ""}, env_file=str(file)) == load(settings)


@each_setting
def test_all_values_are_shown_but_secrets(settings: type[Settings], setting: Setting) -> None:
    text, value = GIVEN[setting.name]
    loaded = load(settings, flags={setting.name: text})
    shown = next(each.shown for each in loaded.effective() if each.setting.name == setting.name)
    assert SECRET not in repr(loaded)
    assert SECRET not in str(shown)
    if setting.kind.holds_secret(text) and SECRET in text:
        assert "********" in shown
        assert "********" in repr(loaded)
    else:
        assert shown == value
        assert f"{setting.name}={shown!r}" in repr(loaded)


@each_setting
def test_an_empty_flag_is_none_where_that_is_the_default_and_wrong_elsewhere(
    settings: type[Settings], setting: Setting
) -> None:
    sources: dict[str, Any] = {"flags": {setting.name: ""}, "environ": {setting.variable: GIVEN[setting.name][0]}}
    if setting.default is None:
        assert getattr(load(settings, **sources), setting.name) is None
    else:
        assert refused(settings, **sources).startswith(f"{setting.name}")


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


NO_NETWORK = "holds a value that is no address or range of addresses, as in 10.0.0.5,10.1.0.0/16"
NETWORK_OF_IPV4 = "holds ::ffff:10.0.0.0/104, which is IPv4 within IPv6: write it as IPv4, as in 10.0.0.5"


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
        ("registry_db_type", "oracle", "registry_db_type oracle is not one of mysql, postgresql, sqlite"),
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
        (
            "allowed_hosts",
            "ctl:8000",
            "allowed_hosts ctl:8000 holds a value that is not a host name or address: the port is a setting of its own",
        ),
        ("allowed_hosts", "a,", "allowed_hosts a, holds a value that is empty"),
        (
            "allowed_hosts",
            ".b",
            "allowed_hosts .b holds a pattern that is wrong: write *.example.com for all names below example.com",
        ),
        (
            "allowed_hosts",
            "10.0.0.0/x",
            "allowed_hosts 10.0.0.0/x holds a range of addresses that is wrong: write one as in 10.0.0.0/8",
        ),
        *(
            (
                "trusted_proxies",
                text,
                f"trusted_proxies {shown} {NO_NETWORK}",
            )
            for text, shown in (
                ("10.0.0.5,", "10.0.0.5,"),
                ("proxy.example", "proxy.example"),
                ("*", "*"),
                ("10.0.0.5:80", "10.0.0.5:80"),
                ("10.0.0.0/33", "10.0.0.0/33"),
                ("fe80::1%\x1b[2J", "'fe80::1%\\x1b[2J'"),
            )
        ),
        (
            "trusted_proxies",
            "10.0.0.5,0.0.0.0/0",
            "trusted_proxies 10.0.0.5,0.0.0.0/0 holds 0.0.0.0/0, which is every address: name those of the proxies",
        ),
        (
            "trusted_proxies",
            "::ffff:10.0.0.0/104",
            f"trusted_proxies ::ffff:10.0.0.0/104 {NETWORK_OF_IPV4}",
        ),
        ("registry_db_user", "a\nb", "registry_db_user 'a\\nb' holds control or invisible characters"),
        (
            "remote_addr",
            f"ftp://u:{SECRET}@c",
            "remote_addr: controller address 'ftp://********@c' cannot be used: its scheme is neither http nor https",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_setting_and_source(name: str, text: str, message: str) -> None:
    setting = next(setting for _, setting in SETTINGS if setting.name == name)
    assert refused(flags={name: text}) == f"{message} (flag {setting.flag})"
    assert refused(environ={setting.variable: text}) == f"{message} (environment {setting.variable})"


def test_all_wrong_values_are_in_one_message() -> None:
    message = refused(flags={"port": "0"}, environ={"controller_log_level": "loud"})
    assert message == (
        "port 0 is not a whole number from 1 to 65535 (flag --port); "
        "log_level loud is not one of debug, info, warning, error, critical (environment controller_log_level)"
    )


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


def test_a_typo_in_a_variable_is_warned_of() -> None:
    loaded = load(environ={"CONTROLLER_REGISTRY_DB_PASWORD": SECRET, "CONTROLLER_QQQ": SECRET, "controller_prt": "1"})
    assert warnings_of(loaded) == [
        (
            "environment CONTROLLER_REGISTRY_DB_PASWORD is not known and ignored; "
            "did you mean CONTROLLER_REGISTRY_DB_PASSWORD?"
        ),
        "environment CONTROLLER_QQQ is not known and ignored",
        "environment controller_prt is not known and ignored; did you mean CONTROLLER_PORT?",
    ]


def test_a_spelling_that_loses_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("CONTROLLER_PORT=1\n")
    environ = {"Controller_Port": "2", "controller_port": "3", "CONTROLLER_PORT": "4"}
    loaded = load(environ=environ, env_file=str(file))
    assert loaded.port == 4
    assert warnings_of(loaded) == [
        "controller_port is ignored: it differs from environment CONTROLLER_PORT",
        "Controller_Port is ignored: it differs from environment CONTROLLER_PORT",
    ]
    assert warnings_of(load(environ={"controller_port": "3", "CONTROLLER_PORT": "3"})) == []


def test_a_variable_that_a_platform_sets_is_no_typo() -> None:
    names = ["SERVICE_HOST", "SERVICE_PORT", "PORT_8000_TCP_ADDR", "NAME", "ADDRESS", "REQUEST_TIMEOUT"]
    assert warnings_of(load(environ={f"CONTROLLER_{name}": "x" for name in names})) == []


def test_a_client_does_not_warn_of_the_variables_of_a_controller() -> None:
    loaded = load(ClientSettings, environ={"CONTROLLER_PRT": "x", "CONTROLLER_PORT": "70000"})
    assert loaded == ClientSettings()
    assert loaded.remarks == ()


def test_loading_for_a_client_is_light() -> None:
    code = (
        "import os, sys; from dbgpt_ctl.settings.schema import ClientSettings; ClientSettings.load({}, os.environ, '');"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"dotenv", "difflib", "sqlalchemy", "fastapi", "httpx", "typer", "asyncio", "logging"}
    assert not heavy & set(done.stdout.split())


def test_the_standard_names_count_while_the_export_is_on() -> None:
    environ = {f"{OTLP}TRACES_ENDPOINT": "http://t:1", f"{OTLP}ENDPOINT": "http://all:1", f"{OTLP}TIMEOUT": "3"}
    off = load(environ=environ)
    assert (off.otel_exporter_otlp_traces_endpoint, off.otel_exporter_otlp_traces_timeout) == (None, 10.0)
    assert warnings_of(off) == []
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


def test_a_wrong_standard_name_is_wrong_only_while_the_export_is_on() -> None:
    wrong = {f"{OTLP}PROTOCOL": "http/json", f"{OTLP}TIMEOUT": "10000"}
    assert load(environ=wrong) == ControllerSettings()
    message = refused(environ=wrong | {"TRACER_TO_OPEN_TELEMETRY": "true"})
    assert (
        f"otel_exporter_otlp_traces_protocol http/json is not one of grpc, http/protobuf (environment {OTLP}P"
        in message
    )
    assert "otel_exporter_otlp_traces_timeout 10000 is not a number of seconds" in message


def test_a_named_pipe_in_this_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes to it: opening it would wait for ever."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo(".env")
    assert refused(env_file=None) == ".env: cannot be read: it is a named pipe, not a regular file"


@pytest.mark.parametrize("env_file", [None, "/dev/zero"])
def test_an_endless_env_file_is_refused(env_file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("#" * 2**21)
    assert refused(env_file=env_file) == f"{env_file or '.env'}: cannot be read: it is larger than 1 MiB"


def test_an_env_file_that_a_container_hides_is_no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").symlink_to(os.devnull)
    assert load(env_file=None).origins == {}


GUARDED = [
    (setting, secret) for settings, setting in SETTINGS if settings is ControllerSettings for secret in setting.receives
]
NAME_IT = "if you trust that file, name it: --env-file .env"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_client_reads_nothing_of_the_folder(folder: Path) -> None:
    (folder / ".env").write_text("CONTROLLER_ADDRESS=http://stranger\nCONTROLLER_REQUEST_TIMEOUT=x\n")
    assert load(ClientSettings, env_file=None) == ClientSettings()
    assert load(ClientSettings, flags={"request_timeout": "1"}, env_file=".env").address == "http://stranger"


@each_setting
def test_what_the_folder_may_set(settings: type[Settings], setting: Setting, folder: Path) -> None:
    if settings is not ControllerSettings:
        return
    text, value = GIVEN[setting.name]
    (folder / ".env").write_text(f"{setting.variable}='{text}'\n", encoding="utf-8")
    if setting.trusted_only:
        assert (
            refused(env_file=None) == f"{setting.name} ({setting.variable} in .env) may not come from ./.env; {NAME_IT}"
        )
    elif setting.is_written:
        outside = f"because {quote(text.strip())} is outside of this folder"
        assert refused(env_file=None) == (
            f"{setting.name} ({setting.variable} in .env) may not come from ./.env, {outside}; {NAME_IT}"
        )
    else:
        assert getattr(load(env_file=None), setting.name) == value
    assert getattr(load(env_file=".env"), setting.name) == value
    assert getattr(load(env_file=None, environ={setting.variable: text}), setting.name) == value


@pytest.mark.parametrize(
    ("setting", "secret"), GUARDED, ids=[f"{setting.name}-{secret}" for setting, secret in GUARDED]
)
def test_the_folder_does_not_lead_a_secret_away(setting: Setting, secret: str, folder: Path) -> None:
    theirs = next(other for _, other in SETTINGS if other.name == secret)
    (folder / ".env").write_text(
        f"{setting.variable}='{GIVEN[setting.name][0]}'\n{theirs.variable}='{GIVEN[secret][0]}'\n"
    )
    start = f"{setting.name} ({setting.variable} in .env) may not come from ./.env while {secret} ("
    text = GIVEN[secret][0] if theirs.kind.metavar == "URL" else f"authorization={SECRET}"
    for name in (theirs.variable, *theirs.shared, *theirs.secret_variables):
        environ = {name: text}
        assert refused(environ=environ, env_file=None).startswith(f"{start}environment {name}) does not; ")
        load(environ=environ | {setting.variable: GIVEN[setting.name][0]}, env_file=None)
    assert refused(flags={secret: text}, env_file=None).startswith(f"{start}flag {theirs.flag}) does not; ")
    if not theirs.trusted_only:
        assert getattr(load(env_file=None), setting.name) == GIVEN[setting.name][1]


def test_all_that_the_folder_may_not_set_is_in_one_message(folder: Path) -> None:
    (folder / ".env").write_text(
        "CONTROLLER_REGISTRY_DB_HOST=h\nCONTROLLER_TRACER_STORAGE_CLS=m:C\nCONTROLLER_PORT=x\n"
    )
    assert refused(environ={"CONTROLLER_REGISTRY_DB_PASSWORD": SECRET}, env_file=None) == (
        "registry_db_host (CONTROLLER_REGISTRY_DB_HOST in .env) may not come from ./.env while registry_db_password "
        "(environment CONTROLLER_REGISTRY_DB_PASSWORD) does not; "
        f"tracer_storage_cls (CONTROLLER_TRACER_STORAGE_CLS in .env) may not come from ./.env; {NAME_IT}"
    )


def test_variables_are_replaced_in_a_file_that_is_named_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", SECRET)
    (folder / ".env").write_text("CONTROLLER_LOG_FILE=var/${MINE}\nCONTROLLER_REGISTRY_DB_PASSWORD='a${MINE}'\n")
    loaded = load(env_file=None)
    assert (loaded.log_file, loaded.registry_db_password) == ("var/${MINE}", "a${MINE}")
    assert loaded.remarks == tuple(
        f"{name} in .env holds ${{...}}, which is replaced only in a file that is named: {NAME_IT}"
        for name in ("CONTROLLER_REGISTRY_DB_PASSWORD", "CONTROLLER_LOG_FILE")
    )
    named = load(env_file=".env")
    assert (named.log_file, named.registry_db_password, named.remarks) == (f"var/{SECRET}", f"a{SECRET}", ())
