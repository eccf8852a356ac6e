"""`ctl serve` as a person meets it: real processes. That it serves is tested with the controller."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from dbgpt_ctl.cli import app
from dbgpt_ctl.settings.load import Setting, declared_settings
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SECRET = "s3cr3t-of-the-test"
SERVER_LIBRARIES = ["fastapi", "starlette", "uvicorn", "sqlalchemy", "pydantic"]
pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and no variable of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("CONTROLLER_"):
            monkeypatch.delenv(name)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dbgpt_ctl", "serve", *arguments]


def ctl_serve(
    arguments: Sequence[str], environ: Mapping[str, str] | None = None, *, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, which must be `code`. The secret of the test is nowhere in its output."""
    env = {**os.environ, "COLUMNS": "80", **(environ or {})}
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=env, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done


@contextmanager
def serving(*arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A controller that listens, and what it said until then; at the end SIGTERM ends it in good order."""
    process = subprocess.Popen(
        command("--port", str(free_port()), *arguments),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if "listening on http" in line:
                break
        assert process.poll() is None, said
        yield process, said
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=30)[1].splitlines()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert SECRET not in "".join(said)


SHOWN = """\
SETTING                                VALUE             FROM
host                                   127.0.0.1         default
port                                   9001              flag --port
tls_cert                               -                 default
tls_key                                -                 default
tls_port                               8443              default
no_http                                false             default
allowed_hosts                          -                 default
trusted_proxies                        -                 default
deny_loopback_hosts                    false             default
auth                                   off               default
tokens_file                            -                 default
require_auth                           false             default
registry_type                          database          flag --registry-type
registry_db_type                       mysql             default
registry_db_name                       models            CONTROLLER_REGISTRY_DB_NAME in .env
registry_db_host                       db                flag --registry-db-host
registry_db_port                       3307              environment controller_registry_db_port
registry_db_user                       ctl               CONTROLLER_REGISTRY_DB_USER in .env
registry_db_password                   ********          environment CONTROLLER_REGISTRY_DB_PASSWORD
registry_db_password_file              -                 default
registry_db_ssl_ca                     -                 default
registry_db_pool_size                  5                 default
registry_db_max_overflow               10                default
heartbeat_interval_secs                20                default
heartbeat_timeout_secs                 45.5              environment CONTROLLER_HEARTBEAT_TIMEOUT_SECS
remove_after_secs                      604800            default
shutdown_grace_secs                    -                 default
max_instances                          200000            default
max_connections                        -                 default
remote_addr                            -                 default
remote_token_file                      -                 default
remote_ca_file                         -                 default
no_console                             false             default
log_level                              info              default
log_file                               logs_of/ctl1.log  CONTROLLER_LOG_FILE in .env
log_format                             text              default
access_log                             false             default
audit_log_file                         -                 default
tracer_file                            -                 default
tracer_file_max_mb                     100               default
tracer_storage_cls                     -                 default
tracer_sample_ratio                    0                 default
tracer_to_open_telemetry               false             default
otel_exporter_otlp_traces_protocol     grpc              default
otel_exporter_otlp_traces_endpoint     -                 default
otel_exporter_otlp_traces_insecure     -                 default
otel_exporter_otlp_traces_certificate  -                 default
otel_exporter_otlp_traces_headers      -                 default
otel_exporter_otlp_traces_timeout      10                default
otel_exporter_otlp_traces_compression  none              default
"""


def test_show_config_prints_every_value_and_its_source() -> None:
    Path(".env").write_text(
        "CONTROLLER_PORT=1\nCONTROLLER_REGISTRY_DB_NAME='models'\nexport CONTROLLER_REGISTRY_DB_USER=ctl # him\n"
        f'CONTROLLER_LOG_FILE="logs_of/ctl1.log"\nCONTROLLER_REGISTRY_DB_PASSWORD={SECRET}-too\n'
    )
    arguments = ["--show-config", "--port=9001", "--registry", "database", "--registry_db_host", "db"]
    environ = {
        "CONTROLLER_PORT": "2",
        "controller_registry_db_port": "3307",
        "CONTROLLER_REGISTRY_DB_PASSWORD": SECRET,
        "CONTROLLER_HEARTBEAT_TIMEOUT_SECS": "45.5",
    }
    done = ctl_serve(arguments, environ)
    assert (done.stdout, done.stderr) == (SHOWN, "")

    as_json = json.loads(ctl_serve([*arguments, "-o", "json"], environ).stdout)
    assert list(as_json) == [setting.name for setting in declared_settings(ControllerSettings)]
    assert as_json["port"] == {"value": 9001, "from": "flag --port"}
    assert as_json["remote_addr"] == {"value": None, "from": "default"}
    assert as_json["registry_db_password"]["value"] == "********"


def test_show_config_warns_as_a_start_does() -> None:
    done = ctl_serve(["--show-config"], {"CONTROLLER_LOG_LEVL": "debug"})
    assert done.stderr == (
        "ctl: warning: environment CONTROLLER_LOG_LEVL is not known and ignored; did you mean CONTROLLER_LOG_LEVEL?\n"
    )


def test_check_prints_one_line_and_does_not_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = ctl_serve(["--check", "--port", str(port)], {"CONTROLLER_LOG_LEVL": "debug"})
    assert done.stdout == f"all checks passed: http://127.0.0.1:{port}, auth off, registry in memory only\n"
    assert done.stderr.startswith("ctl: warning: environment CONTROLLER_LOG_LEVL is not known")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--port", "x"], 2, "port x is not a whole number"),
        (["--log-file", "/dev/null/log"], 2, "log file /dev/null/log cannot be written: Not a directory"),
        (
            ["--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name", "/dev/null/s"],
            1,
            "database /dev/null/s cannot be written: Not a directory",
        ),
        (["--show-config"], 2, "--show-config and --check are both given: leave one of them out"),
    ],
)
def test_check_ends_with_the_code_of_the_mistake(arguments: list[str], code: int, message: str) -> None:
    done = ctl_serve(["--check", *arguments], code=code)
    assert done.stdout == ""
    assert done.stderr.startswith(f"ctl: {message}")
    assert done.stderr.count("\n") == 1


def test_auth_that_is_off_where_others_can_call_is_warned_of_or_refused() -> None:
    open_to_all = ctl_serve(["--check", "--host", "0.0.0.0"])
    assert open_to_all.stderr.startswith("ctl: warning: auth is off, and other machines can reach this controller")
    assert open_to_all.stderr.count("\n") == 1
    refused = ctl_serve(["--host", "0.0.0.0", "--require-auth"], code=2)
    assert refused.stderr.startswith("ctl: authentication is off, and --require-auth does not allow that")
    assert refused.stderr.count("\n") == 1
    assert ctl_serve(["--check", "--require-auth"]).stderr == ""


def test_check_reads_the_tokens_file() -> None:
    Path("tokens.toml").write_text(f'[token.gpu]\nrole = "worker"\nsha256 = ["{"0" * 64}"]\n')
    Path("tokens.toml").chmod(0o644)
    done = ctl_serve(["--check", "--tokens-file", "tokens.toml", "--auth", "enforce"])
    assert ", auth enforce with 1 token (digest " in done.stdout
    warning = "tokens_file tokens.toml: everybody can read it (mode 0644): chmod 600 tokens.toml"
    assert done.stderr == f"ctl: warning: {warning}\n"
    Path("tokens.toml").write_text("mode = 7\n")
    done = ctl_serve(["--check", "--tokens-file", "tokens.toml"], code=2)
    assert (done.stdout, "tokens.toml" in done.stderr.splitlines()[-1]) == ("", True)
    shown = ctl_serve(["--show-config", "--tokens-file", "tokens.toml"])
    assert "tokens.toml" in shown.stderr.splitlines()[-1]


def test_check_of_a_database_that_is_away_is_3_and_no_secret_is_shown() -> None:
    database = ["--registry", "database", "--registry-db-host", "127.0.0.1:1", "--registry-db-user", "ctl"]
    done = ctl_serve(["--check", *database], {"CONTROLLER_REGISTRY_DB_PASSWORD": SECRET}, code=3)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_show_config_starts_nothing_and_loads_no_server() -> None:
    code = (
        "import sys; sys.argv = ['ctl', 'serve', '--show-config', '-o', 'json']\n"
        "from dbgpt_ctl.__main__ import main\n"
        "try:\n    main()\n"
        f"except SystemExit as end:\n    print(end.code, [name for name in {SERVER_LIBRARIES} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n0 []\n")


def test_help_names_every_flag_variable_and_default_once() -> None:
    text = " ".join(ctl_serve(["--help"]).stdout.split())
    for setting in declared_settings(ControllerSettings):
        default = setting.text(setting.default)
        assert text.count(f"[{setting.variable}{f'; default: {default}' if default else ''}]") == 1
        for flag in (setting.flag, *setting.aliases):
            assert f"{flag} " in text or f"{flag}, " in text
        if "_" in setting.name:
            assert f"--{setting.name}" not in text


@pytest.mark.parametrize("setting", declared_settings(ControllerSettings), ids=lambda setting: setting.name)
def test_every_flag_reaches_its_setting_also_with_underscores(setting: Setting) -> None:
    root = get_command(app)
    serve = root.get_command(root.make_context("ctl", ["serve"]), "serve")  # type: ignore[attr-defined]
    for flag in (setting.flag, "--" + setting.name, *setting.aliases):
        given = serve.make_context("serve", [f"{flag}=text"], parent=root.make_context("ctl", ["serve"])).params
        assert {name: value for name, value in given.items() if value == "text"} == {setting.name: "text"}


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["--port", "70000"], {}, "port 70000 is not a whole number from 1 to 65535 (flag --port)"),
        ([], {"controller_port": "x"}, "port x is not a whole number from 1 to 65535 (environment controller_port)"),
        (["--registry", "redis"], {}, "registry_type redis is not one of embedded, database (flag --registry-type)"),
        (["--host="], {}, "host is empty (flag --host)"),
        (["--env-file", "none.env"], {}, "--env-file none.env: no such file"),
        (
            ["--registry", "database", "--registry-db-password", SECRET],
            {},
            (
                "a mysql registry needs registry_db_host (CONTROLLER_REGISTRY_DB_HOST), registry_db_user "
                "(CONTROLLER_REGISTRY_DB_USER): set the variables or give the flags"
            ),
        ),
        (
            ["--remote-addr", f"http://u:{SECRET}@h:x"],
            {},
            (
                "remote_addr: controller address 'http://********@h:x' cannot be used: its host or port is wrong; an "
                "IPv6 address stands in brackets, as in http://[::1]:8000 (flag --remote-addr)"
            ),
        ),
    ],
)
def test_what_is_wrong_ends_it_with_one_line(arguments: list[str], environ: dict[str, str], message: str) -> None:
    done = ctl_serve(arguments, environ, code=2)
    assert (done.stdout, done.stderr) == ("", f"ctl: {message}\n")


def test_the_snapshot_file_of_release_0_1_ends_a_start_and_the_line_says_how_to_move() -> None:
    Path("ctl.json").write_text("{}")
    message = (
        "CONTROLLER_SNAPSHOT_FILE{} names ctl.json, and this release has no snapshot file: start ctl 0.1 with it and "
        "run `ctl export > instances.yaml`; then unset the variable, start this release with --registry database "
        "--registry-db-type sqlite --registry-db-name FILE, and run `ctl apply -f instances.yaml`\n"
    )
    done = ctl_serve([], {"CONTROLLER_SNAPSHOT_FILE": "ctl.json"}, code=2)
    assert (done.stdout, done.stderr) == ("", f"ctl: environment {message.format('')}")
    Path(".env").write_text("CONTROLLER_SNAPSHOT_FILE=ctl.json\n")
    assert ctl_serve([], code=2).stderr == f"ctl: {message.format(' in .env')}"
    Path(".env").rename("prod.env")
    assert ctl_serve(["--env-file", "prod.env"], code=2).stderr == f"ctl: {message.format(' in prod.env')}"


def test_a_snapshot_file_that_does_not_exist_is_warned_of() -> None:
    warning = "CONTROLLER_SNAPSHOT_FILE is ignored: this release has no snapshot file; unset the variable"
    with serving(CONTROLLER_SNAPSHOT_FILE="none.json") as (_, lines):
        assert f"ctl: warning: environment {warning}\n" in lines


def test_a_start_tells_of_typos_short_timeouts_and_loopback() -> None:
    with serving("--heartbeat-timeout-secs", "20", CONTROLLER_LOG_LEVL="debug") as (_, lines):
        said = "".join(lines)
    assert "environment CONTROLLER_LOG_LEVL is not known and ignored; did you mean CONTROLLER_LOG_LEVEL?" in said
    assert "heartbeat_timeout_secs 20 is too short for DB-GPT" in said
    assert "loopback only: other hosts need --host" in said


def test_a_password_given_as_a_flag_is_warned_of() -> None:
    with serving("--registry-db-password", SECRET) as (_, lines):
        warning = next(line for line in lines if "process list" in line)
    assert warning == (
        "ctl: warning: other users of this machine can read --registry-db-password in the process list: use "
        "--registry-db-password-file or the variable CONTROLLER_REGISTRY_DB_PASSWORD\n"
    )


def test_show_config_reads_the_password_file_and_hides_its_content() -> None:
    Path("password").write_text(f"{SECRET}\n")
    Path("password").chmod(0o600)
    database = ["--registry", "database", "--registry-db-host", "db", "--registry-db-user", "ctl"]
    arguments = [*database, "--registry-db-password-file", "password", "--show-config", "-o", "json"]
    shown = json.loads(ctl_serve(arguments).stdout)
    assert shown["registry_db_password"] == {"value": "********", "from": "file password"}
    assert shown["registry_db_password_file"] == {"value": "password", "from": "flag --registry-db-password-file"}
