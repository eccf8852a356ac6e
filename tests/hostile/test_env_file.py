"""A folder of a stranger, whose ./.env names addresses of the stranger's choice: no secret goes there (rule 15).

Each command runs as a process of its own in that folder, with a token, a database password and headers for a collector
in its environment.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.support.dbgpt_process import Process, until
from tests.support.ports import free_port
from tests.support.process import CTL, ctl, environment
from tests.support.stranger import Stranger, stranger_listening
from tests.support.verbs import command_of, commands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.process import Finished

SECRET = "s3cr3t-of-the-user"
NOBODY = "http://127.0.0.1:1"
UNREAD = (
    "ctl: ./.env holds CONTROLLER_ADDRESS, which is not read: --env-file .env reads it, --env-file '' hides this line"
)
NAME_IT = "if you trust that file, name it: --env-file .env\n"
PASSWORD = {"CONTROLLER_REGISTRY_DB_PASSWORD": SECRET}
HEADERS = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}"}
VERBS = [verbs for verbs in commands() if not hasattr(command_of(verbs), "commands")]
each_verb = pytest.mark.parametrize("verbs", VERBS, ids=" ".join)
ENDS: dict[tuple[str, ...], list[str]] = {("wait",): ["--timeout", "1s"]}
"""What ends a command that would go on while no controller answers."""
_NAMES_A_PLACE = ("-a", "--address", "--context", "--env-file", "--registry-db-host", "--registry-db-user")


class Folder:
    """The folder of the stranger, and a user who stands in it, with a context of their own where nobody answers."""

    def __init__(self, path: Path, stranger: Stranger) -> None:
        self.path = path
        self.stranger = stranger
        home = path / "home"
        config = home / "dbgpt-ctl" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'current = "prod"\n[context.prod]\naddress = "{NOBODY}"\n')
        self.env = {"XDG_CONFIG_HOME": str(home), "HOME": str(home), "CTL_TOKEN": SECRET, "MY_SECRET": SECRET}

    def holds(self, *lines: str) -> None:
        """Writes ./.env; <port> is that of the stranger."""
        text = "".join(f"{line}\n" for line in lines).replace("<port>", str(self.stranger.port))
        (self.path / ".env").write_text(text)

    def ctl(self, *args: str, env: dict[str, str] | None = None, expect: int | None = None) -> Finished:
        """Runs a command there. `expect` None accepts every exit code. Its output has no secret."""
        done = ctl(*args, env=self.env | (env or {}), cwd=self.path, expect=expect)
        assert SECRET not in done.out + done.err
        return done

    def complete(self, shell: str, *words: str) -> Finished:
        """What a shell gets at TAB after these words, as its script asks."""
        asked = [f"ctl {' '.join(words)} ", ""] if shell == "bash" else [*words, ""]
        return self.ctl(*asked, env={"_CTL_COMPLETE": f"complete_{shell}"}, expect=0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with stranger_listening() as stranger:
        yield Folder(tmp_path, stranger)


@pytest.fixture
def hostile(folder: Folder) -> Folder:
    """With a ./.env that asks for everything, and the files that the examples of the commands name."""
    folder.holds(
        "CONTROLLER_ADDRESS=http://x:${CTL_TOKEN}@127.0.0.1:<port>/${MY_SECRET}",
        "CONTROLLER_REMOTE_ADDR=http://127.0.0.1:<port>/${MY_SECRET}",
        "CONTROLLER_REGISTRY_TYPE=database",
        "CONTROLLER_REGISTRY_DB_HOST=127.0.0.1",
        "CONTROLLER_REGISTRY_DB_PORT=<port>",
        "CONTROLLER_REGISTRY_DB_USER=${MY_SECRET}",
        "CONTROLLER_TOKENS_FILE=${MY_SECRET}",
    )
    for name in ("instances.yaml", "models.yaml", "embeddings.yaml"):
        (folder.path / name).write_text(f"instances: [{{model: qwen, host: h, port: {len(name)}}}]\n")
    folder.env |= PASSWORD | HEADERS
    return folder


@each_verb
def test_no_command_calls_an_address_of_the_folder(hostile: Folder, verbs: tuple[str, ...]) -> None:
    done = hostile.ctl(*_example(verbs), *ENDS.get(verbs, []))
    assert hostile.stranger.connections == 0
    calls_a_controller = "env_file" in _options(verbs) and "address" in _options(verbs)
    assert done.err.splitlines().count(UNREAD) == calls_a_controller
    if not calls_a_controller and "env_file" in _options(verbs):
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith(NAME_IT)


@each_verb
def test_tab_asks_no_address_of_the_folder(hostile: Folder, verbs: tuple[str, ...]) -> None:
    done = hostile.complete("zsh", *verbs)
    assert hostile.stranger.connections == 0
    assert done.err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("words", [["models", "list"], ["models", "get"], ["models", "list", "--context"]])
def test_tab_in_each_shell(hostile: Folder, shell: str, words: list[str]) -> None:
    done = hostile.complete(shell, *words)
    assert hostile.stranger.connections == 0
    assert ("prod" in done.out) == ("--context" in words)


def test_a_file_that_is_named_is_trusted(hostile: Folder) -> None:
    hostile.holds("CONTROLLER_ADDRESS=http://${MY_USER}:${MY_SECRET}@127.0.0.1:<port>")
    done = hostile.ctl(
        "models", "list", "--env-file", ".env", "--request-timeout", "2s", env={"MY_USER": "me"}, expect=3
    )
    assert UNREAD not in done.err
    assert any(b"\r\nAuthorization: Basic " in heard for heard in hostile.stranger.heard)


def test_the_line_is_said_only_where_the_address_would_have_counted(hostile: Folder) -> None:
    list_ = ["models", "list"]
    for args, env in (
        (["-a", NOBODY], {}),
        (["--context", "prod"], {}),
        (["--env-file", ""], {}),
        (["-q"], {}),
        ([], {"CONTROLLER_ADDRESS": NOBODY}),
        ([], {"CTL_CONTEXT": "prod"}),
    ):
        assert UNREAD not in hostile.ctl(*list_, *args, env=env, expect=3).err
    hostile.holds("#CONTROLLER_ADDRESS=http://127.0.0.1:<port>", "CONTROLLER_ADDRESS=", "CONTROLLER_ADDRESS=''  # none")
    assert UNREAD not in hostile.ctl(*list_, expect=3).err
    hostile.holds("A=1", "  export controller_address = 'http://127.0.0.1:<port>'")
    assert UNREAD in hostile.ctl(*list_, expect=3).err


REFUSED = {
    "database": (
        ["CONTROLLER_REGISTRY_DB_HOST=127.0.0.1:<port>", "CONTROLLER_REGISTRY_DB_USER=x"],
        PASSWORD,
        (
            "registry_db_host (CONTROLLER_REGISTRY_DB_HOST in .env) may not come from ./.env while "
            "registry_db_password (environment CONTROLLER_REGISTRY_DB_PASSWORD) does not"
        ),
    ),
    "own password beside that of the environment": (
        ["CONTROLLER_REGISTRY_DB_HOST=127.0.0.1:<port>", "CONTROLLER_REGISTRY_DB_PASSWORD=x"],
        PASSWORD,
        "registry_db_host (CONTROLLER_REGISTRY_DB_HOST in .env) may not come from ./.env while",
    ),
    "port": (
        ["CONTROLLER_REGISTRY_DB_PORT=<port>"],
        {**PASSWORD, "CONTROLLER_REGISTRY_DB_HOST": "127.0.0.1"},
        "registry_db_port (CONTROLLER_REGISTRY_DB_PORT in .env) may not come from ./.env while",
    ),
    "certificate": (
        ["CONTROLLER_REGISTRY_DB_SSL_CA=ca.pem"],
        {**PASSWORD, "CONTROLLER_REGISTRY_DB_HOST": "127.0.0.1"},
        "registry_db_ssl_ca (CONTROLLER_REGISTRY_DB_SSL_CA in .env) may not come from ./.env while",
    ),
    "password file": (
        ["CONTROLLER_REGISTRY_DB_HOST=127.0.0.1:<port>", "CONTROLLER_REGISTRY_DB_PASSWORD_FILE=~/.ssh/id_ed25519"],
        {},
        "registry_db_password_file (CONTROLLER_REGISTRY_DB_PASSWORD_FILE in .env) may not come from ./.env",
    ),
    "class": (
        ["CONTROLLER_TRACER_STORAGE_CLS=hostile_module:Class"],
        {},
        "tracer_storage_cls (CONTROLLER_TRACER_STORAGE_CLS in .env) may not come from ./.env",
    ),
    "collector": (
        ["TRACER_TO_OPEN_TELEMETRY=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:<port>"],
        HEADERS,
        (
            "otel_exporter_otlp_traces_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT in .env) may not come from ./.env while "
            "otel_exporter_otlp_traces_headers (environment OTEL_EXPORTER_OTLP_HEADERS) does not"
        ),
    ),
    "collector with headers that the library drops": (
        [
            "CONTROLLER_TRACER_TO_OPEN_TELEMETRY=true",
            "CONTROLLER_OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf",
            "CONTROLLER_OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:<port>",
            "CONTROLLER_OTEL_EXPORTER_OTLP_TRACES_HEADERS=é=x",
        ],
        HEADERS,
        "otel_exporter_otlp_traces_endpoint (CONTROLLER_OTEL_EXPORTER_OTLP_TRACES_ENDPOINT in .env) may not come from",
    ),
    "plain text to the collector": (
        ["TRACER_TO_OPEN_TELEMETRY=true", "OTEL_EXPORTER_OTLP_INSECURE=true"],
        {**HEADERS, "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
        "otel_exporter_otlp_traces_insecure (OTEL_EXPORTER_OTLP_INSECURE in .env) may not come from ./.env while",
    ),
}


@pytest.mark.parametrize("command", [["serve"], ["serve", "--check"], ["serve", "--show-config"], ["db", "check"]])
@pytest.mark.parametrize(("lines", "env", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_lead_a_secret_there_is_refused(
    folder: Folder, command: list[str], lines: list[str], env: dict[str, str], message: str
) -> None:
    (folder.path / "hostile_module.py").write_text("open('imported', 'w').close()\nclass Class: pass\n")
    folder.holds("CONTROLLER_REGISTRY_TYPE=database", *lines)
    done = folder.ctl(*command, env=env, expect=2)
    assert done.out == ""
    assert done.err.startswith(f"ctl: {message}")
    assert done.err.endswith(NAME_IT)
    assert done.err.count("\n") == 1
    assert folder.stranger.connections == 0
    assert not (folder.path / "imported").exists()


@pytest.mark.parametrize("setting", ["LOG_FILE", "TRACER_FILE", "REGISTRY_DB_NAME"])
@pytest.mark.parametrize("path", ["{home}/.profile", "../home/.profile", "~/.profile", "link"])
def test_a_file_outside_of_the_folder_is_not_written(folder: Folder, setting: str, path: str) -> None:
    """A log with a worker named `$(...)` in a script of the shell would be code."""
    profile = folder.path / "home" / ".profile"
    profile.write_text("true\n")
    inner = folder.path / "stranger"
    inner.mkdir()
    (inner / "link").symlink_to(profile)
    text = path.format(home=folder.path / "home")
    (inner / ".env").write_text(f'CONTROLLER_{setting}="{text}"\n')
    done = ctl("serve", "--check", "--registry-db-type", "sqlite", env=folder.env, cwd=inner, expect=2)
    assert f"(CONTROLLER_{setting} in .env) may not come from ./.env, because" in done.err
    assert "is outside of this folder; " in done.err
    assert profile.read_text() == "true\n"


def test_a_database_that_the_folder_names_with_its_password_is_used(folder: Folder) -> None:
    folder.holds(
        "CONTROLLER_REGISTRY_DB_HOST=127.0.0.1:<port>",
        "CONTROLLER_REGISTRY_DB_USER=them",
        "CONTROLLER_REGISTRY_DB_PASSWORD=theirs",
    )
    folder.ctl("db", "check", expect=3)
    assert folder.stranger.connections > 0


def test_a_database_in_a_file_that_is_named_gets_the_password(folder: Folder) -> None:
    folder.holds("CONTROLLER_REGISTRY_DB_HOST=127.0.0.1:<port>", "CONTROLLER_REGISTRY_DB_USER=${MY_USER}")
    folder.ctl("db", "check", "--env-file", ".env", env={**PASSWORD, "MY_USER": "me"}, expect=3)
    assert folder.stranger.connections > 0


def test_a_controller_to_forward_to_learns_no_variable(folder: Folder) -> None:
    folder.holds("CONTROLLER_REMOTE_ADDR=http://u:${MY_SECRET}@127.0.0.1:<port>/${MY_SECRET}")
    args = [*CTL, "serve", "--port", str(free_port())]
    process = Process("serve", args, environment(folder.env | PASSWORD | HEADERS), folder.path)
    try:
        until("a call", lambda: folder.stranger.heard, process)
        shown = process.tail()
    finally:
        process.kill()
    assert all(SECRET.encode() not in heard for heard in folder.stranger.heard)
    assert folder.stranger.heard[0].startswith(b"GET /$%7BMY_SECRET%7D/api/")
    assert "CONTROLLER_REMOTE_ADDR in .env holds ${...}, which is replaced only in a file that is named" in shown


@pytest.mark.parametrize("kind", ["pipe", "huge", "binary", "folder", "blank"])
def test_a_client_looks_at_a_strange_file_without_harm(folder: Folder, kind: str) -> None:
    file = folder.path / ".env"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "huge":
        with file.open("wb") as stream:
            stream.truncate(10 * 1024**3)
    elif kind == "binary":
        file.write_bytes(b"\xff\x00" * 1000)
    elif kind == "blank":
        file.write_bytes(b"\n" * 1024**2)
    else:
        file.mkdir()
    assert ".env" not in folder.ctl("models", "list", expect=3).err


def _example(verbs: tuple[str, ...]) -> list[str]:
    """The words of the first example of a command, without the options that say where to find what it calls."""
    line = command_of(verbs).sections.examples[0]
    part = next(part for part in line.split(" | ") if f"ctl {' '.join(verbs)}" in part)
    words = shlex.split(part.replace("<(", "").removesuffix(")"))
    kept, rest = [], iter(words[words.index("ctl") + 1 :])
    for word in rest:
        if word in _NAMES_A_PLACE and verbs[0] != "context":
            next(rest)
        else:
            kept.append(word)
    return kept


def _options(verbs: tuple[str, ...]) -> set[str]:
    return {param.name for param in command_of(verbs).params}
