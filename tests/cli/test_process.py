"""What only a process of its own shows: pipes, terminals, signals, and what is imported."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from dbgpt_ctl import __version__
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.fake_controller import FakeController, fake_controller, listed
from tests.support.process import CTL, ROOT, UnexpectedExit, ctl, environment, start
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = "a-team/" + "long-name-" * 9
BODY = [listed("qwen@llm"), listed(f"{LONG}@llm", healthy=False), listed("glm@llm", enabled=False)]
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def fake() -> Iterator[FakeController]:
    with fake_controller(body=BODY) as controller:
        yield controller


def on_terminal(*args: str, columns: int, **env: str) -> list[str]:
    child = pexpect.spawn(
        CTL[0],
        [*CTL[1:], *args],
        env=environment({"TERM": "xterm-256color", **env}),
        dimensions=(24, columns),
        encoding="utf-8",
        timeout=60,
    )
    shown = child.read()
    child.close()
    assert child.exitstatus == 0, shown
    return str(shown).splitlines()


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_version() -> None:
    assert ctl("--version").out == f"ctl {__version__}\n"


def test_the_helper_does_not_let_an_error_pass() -> None:
    with pytest.raises(UnexpectedExit, match="exit 2, not 0"):
        ctl("bogus")


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_gets_colour_and_a_table_that_fits(fake: FakeController, columns: int) -> None:
    lines = on_terminal("models", "list", "-a", fake.url, columns=columns)
    assert max(len(plain(line)) for line in lines) <= columns
    text = "\n".join(lines)
    for state, code in (("healthy", 32), ("unhealthy", 31), ("healthy,drained", 33)):
        assert f"\x1b[{code}m{state}\x1b[0m" in text
    assert (len(lines) == 7) == (columns == 200)  # a frame of three lines, the header, three instances


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_when_unwanted(fake: FakeController, env: dict[str, str]) -> None:
    lines = on_terminal("models", "list", "-a", fake.url, columns=80, **env)
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) <= 80


def test_columns_is_obeyed_on_a_terminal(fake: FakeController) -> None:
    assert len(on_terminal("models", "list", "-a", fake.url, columns=80, COLUMNS="200")) == 7


@pytest.mark.parametrize("env", [{}, {"COLUMNS": "20"}, {"FORCE_COLOR": "1"}])
def test_a_pipe_gets_whole_lines_without_colour(fake: FakeController, env: dict[str, str]) -> None:
    done = ctl("models", "list", "-a", fake.url, env=env)
    assert len(done.lines) == 4
    assert LONG in done.lines[2]
    assert "\x1b" not in done.out


def test_a_closed_pipe_is_quiet(fake: FakeController) -> None:
    fake.body = BODY * 2000
    process = start("models", "list", "-a", fake.url)
    assert process.stdout
    assert process.stderr
    with process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_closed_stderr_changes_no_exit_code() -> None:
    process = start("models", "list", "-a", NOBODY)
    assert process.stderr
    with process:
        process.stderr.close()
    assert process.returncode == 3


def test_a_full_disk_is_reported(fake: FakeController) -> None:
    with Path("/dev/full").open("w") as full:
        done = ctl("models", "list", "-a", fake.url, stdout=full, expect=1)
    assert done.err == "ctl: cannot write the output: No space left on device\n"


def test_a_closed_stdout_is_reported(fake: FakeController) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *CTL, "models", "list", "-a", fake.url]
    done = subprocess.run(
        command, env=environment({}), capture_output=True, text=True, timeout=60, cwd=ROOT / "tests", check=False
    )
    assert (done.returncode, done.stderr) == (1, "ctl: cannot write the output: standard output is closed\n")


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv", "name"])
def test_a_terminal_that_knows_no_unicode_gets_escapes(fake: FakeController, form: str) -> None:
    fake.body = [listed("深度@llm")]
    done = ctl("models", "list", "-a", fake.url, "-o", form, env={"PYTHONIOENCODING": "ascii"})
    assert "\\u6df1\\u5ea6" in done.out.lower()


def test_no_controller_is_one_line_and_3() -> None:
    for args in (["list"], ["register", "a/h:1"], ["deregister", "a/h:1"], ["heartbeat", "a/h:1"]):
        done = ctl("models", *args, "-a", NOBODY, expect=3)
        assert done.out == ""
        assert done.err.count("\n") == 1
        assert NOBODY in done.err


def test_an_unexpected_error_is_one_line_and_the_way_to_more(fake: FakeController) -> None:
    breaks = (
        "import sys, dbgpt_ctl.cli.framework.session as module; from dbgpt_ctl.__main__ import main\n"
        "def client(*args, **more): raise RuntimeError('boom')\n"
        "module.Session.client = client; sys.argv = ['ctl', 'models', 'list']; main()"
    )
    for debug in ("", "1"):
        command = [sys.executable, "-c", breaks]
        done = subprocess.run(
            command, env=environment({"CTL_DEBUG": debug}), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "ctl: failed unexpectedly: RuntimeError: boom (CTL_DEBUG=1 shows where)"
        assert ("Traceback" in done.stderr) == bool(debug)


def test_settings_come_from_flag_environment_and_file(fake: FakeController, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"CONTROLLER_ADDRESS={fake.url}\n")
    assert ctl("health", "-o", "csv", "--env-file", ".env", cwd=tmp_path).lines[1].startswith(fake.url)
    assert ctl("health", "-o", "csv", "--env-file", f"{tmp_path}/.env").lines[1].startswith(fake.url)
    beside = ["health", "--env-file", f"{tmp_path}/.env"]
    assert ctl(*beside, env={"CONTROLLER_ADDRESS": NOBODY}, expect=3).lines[1].startswith(NOBODY)
    ctl("health", "--address", fake.url, env={"CONTROLLER_ADDRESS": NOBODY})


def test_ctrl_c_ends_a_heartbeat() -> None:
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    with (
        running_controller(registry) as url,
        start("models", "heartbeat", "a/h:1", "--every", "50ms", "-a", url) as process,
    ):
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "a@llm/h:1 heartbeat accepted\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert process.stderr.read() == ""


def test_an_outage_does_not_end_a_heartbeat(fake: FakeController) -> None:
    fake.body = True
    with start("models", "heartbeat", "a/h:1", "--every", "20ms", "-a", fake.url) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "a@llm/h:1 heartbeat accepted\n"
        fake.status = 503
        assert "trying again every 0.02s" in process.stderr.readline()
        fake.status = 200
        assert "answers again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT


LOADED = "import sys; from dbgpt_ctl.cli import app\ntry: app({args!r})\nfinally: print(*sys.modules, file=sys.stderr)"


@pytest.mark.parametrize(
    ("args", "unwanted"),
    [
        (["--help"], {"httpx", "rich", "yaml", "csv", "dotenv", "asyncio", "json"}),
        (["--version"], {"httpx", "rich", "yaml", "csv", "dotenv", "asyncio", "json"}),
        (["serve", "--help"], {"httpx", "rich", "yaml", "csv", "dotenv", "asyncio"}),
        (["models", "list", "-o", "table"], {"yaml", "csv", "dotenv", "asyncio"}),
        (["models", "list", "-o", "json"], {"yaml", "csv", "dotenv", "asyncio"}),
        (["models", "register", "a/h:1", "b/h:2", "--weight", "2"], {"yaml", "csv", "dotenv", "asyncio"}),
        (["health"], {"yaml", "csv", "dotenv", "asyncio"}),
    ],
)
def test_a_command_imports_only_what_it_needs(fake: FakeController, args: list[str], unwanted: set[str]) -> None:
    """Not even pydantic, through which Typer takes values."""
    fake.body = True if "register" in args else BODY
    command = [sys.executable, "-c", LOADED.format(args=args)]
    env = environment({"CONTROLLER_ADDRESS": fake.url})
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT / "tests", check=True)
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not loaded & (unwanted | {"pydantic", "fastapi", "starlette", "uvicorn", "sqlalchemy", "pymysql"})


@pytest.mark.parametrize("args", [["status"], ["events"], ["models", "get", "a/h:1"]])
def test_a_command_that_needs_more_of_a_controller_imports_no_more(args: list[str]) -> None:
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    with running_controller(registry) as url:
        ctl("models", "register", "a/h:1", "-a", url)
        command = [sys.executable, "-c", LOADED.format(args=args)]
        env = environment({"CONTROLLER_ADDRESS": url})
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT / "tests", check=True)
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not loaded & {"rich", "yaml", "csv", "dotenv", "asyncio", "pydantic", "fastapi", "uvicorn", "sqlalchemy"}


@pytest.mark.parametrize("args", [["--version"], ["models", "list"], ["health"]])
def test_other_commands_are_not_even_imported(fake: FakeController, args: list[str]) -> None:
    command = [sys.executable, "-c", LOADED.format(args=args)]
    env = environment({"CONTROLLER_ADDRESS": fake.url})
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT / "tests", check=True)
    others = {
        "apply",
        "db",
        "doctor",
        "events",
        "help",
        "wait",
        "models.register",
        "models.drain",
        "serve",
        "status",
        "why",
    }
    assert not set(done.stderr.split()) & {f"dbgpt_ctl.cli.commands.{each}" for each in others}


def test_the_module_is_the_command() -> None:
    assert ctl("--help").out.startswith("Usage: ctl [OPTIONS] COMMAND")
