"""What TAB is told, and the scripts that ask. `test_shells` has the real shells."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.completion.protocol import Line, Word, inserted
from dbgpt_ctl.cli.completion.scripts import FILE_NAMES, SCRIPTS
from scripts.generate import COMPLETIONS
from tests.support.fake_controller import FakeController, fake_controller, listed
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

BODY = [listed("qwen@llm"), listed("qwen@reranker", "[::1]"), listed("team/glm@llm"), listed("-o@llm")]


def offered(*words: str, run: Run, monkeypatch: pytest.MonkeyPatch, shell: str = "zsh") -> list[str]:
    """The candidates, without their help."""
    monkeypatch.setenv("_CTL_COMPLETE", f"complete_{shell}")
    monkeypatch.setattr(sys, "argv", ["ctl", *words])
    kind, *lines = run().lines
    return [f"<{kind}>"] if kind == "files" else [line.partition("\t")[0] for line in lines if line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["h"], ["health", "help"]),
        (["help", "mo"], ["models"]),
        (["help", "models", "dr"], ["drain"]),
        (["help", "models", "drain", ""], []),
        (["--env-file", "x"], ["<files>"]),
        (["-q", "models", "-v", "dr"], ["drain"]),
        (["--addr"], ["--address"]),
        (["mo"], ["models"]),
        (["models", ""], ["deregister", "drain", "get", "heartbeat", "list", "ping", "prune", "register", "undrain"]),
        (["models", "list", "--he"], ["--healthy-only", "--help"]),
        (["models", "list", "-o", ""], ["csv", "json", "name", "table", "wide", "yaml"]),
        (["models", "register", "-o", "t"], ["text"]),
        (["models", "list", "--output=j"], ["--output=json"]),
        (["models", "list", "--output=-"], []),
        (["models", "list", "--type", "t"], ["text2vec"]),
        (["models", "list", "--state", ""], ["deregistered", "drained", "healthy", "unhealthy"]),
        (["models", "drain", "--fo"], ["--for", "--force"]),
        (["why", "--pi"], ["--ping"]),
        (["why", "--ping="], ["--ping=generate", "--ping=metadata"]),
        (["why", "--ping", "q"], ["qwen"]),
        (["models", "list", "--env-file", "x"], ["<files>"]),
        (["models", "list", "--env-file=x"], ["<files>"]),
        (["serve", "--registry-type", ""], ["database", "embedded"]),
        (["serve", "--registry_type", "d"], ["database"]),
        (["serve", "--log-file", ""], ["<files>"]),
        (["serve", "--env-file", ""], ["<files>"]),
        (["serve", "--registry_db_type=m"], ["--registry_db_type=mysql"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["health", ""], []),
        (["models", "list", "q"], ["qwen"]),
        (["models", "list", ""], [r"\x2do", "qwen", "team/glm"]),
        (["models", "list", "qwen@"], ["qwen@llm", "qwen@reranker"]),
        (["models", "list", "-o", "name", "t"], ["team/glm"]),
        (["models", "deregister", "q"], ["qwen@llm/10.0.0.4:8001", "qwen@reranker/[::1]:8001"]),
        (["models", "deregister", "qwen@llm/10.0.0.4:8001", "q"], ["qwen@reranker/[::1]:8001"]),
        (["models", "heartbeat", "team/"], ["team/glm@llm/10.0.0.4:8001"]),
        (["models", "register", "\\"], [r"\x2do@llm/10.0.0.4:8001"]),
        (["models", "deregister", "zzz"], []),
        (["models", "drain", "--host", ""], ["10.0.0.4", "[::1]"]),
        (["models", "list", "--host=1"], ["--host=10.0.0.4"]),
        (["export", "--host", "x"], []),
    ],
)
def test_candidates(
    words: list[str], expected: list[str], run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.body = BODY
    assert sorted(offered(*words, run=run, monkeypatch=monkeypatch)) == expected


def test_flag_and_file_name_the_controller(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.body = []
    with fake_controller(body=[listed("other@llm")]) as other:
        assert offered("models", "list", "-a", other.url, "", run=run, monkeypatch=monkeypatch) == ["other"]
        line = ("-a", "http://127.0.0.1:1", "-a", other.url, "models", "list", "")
        assert offered(*line, run=run, monkeypatch=monkeypatch) == ["other"]
        monkeypatch.delenv("CONTROLLER_ADDRESS")
        (tmp_path / "prod.env").write_text(f"CONTROLLER_ADDRESS={other.url}/,http://127.0.0.1:1\n")
        named = ("models", "list", "--env-file", "prod.env", "")
        assert offered(*named, run=run, monkeypatch=monkeypatch) == ["other"]


@pytest.mark.parametrize(
    "answer", [{"body": BODY, "status": 401}, {"body": BODY, "status": 503}, {"body": b"<html>"}, {"body": [{"n": 1}]}]
)
def test_what_is_no_list_gives_no_candidates(answer: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_controller(**answer) as fake:
        assert offered("models", "list", "-a", fake.url, "", run=run, monkeypatch=monkeypatch) == []
        assert fake.requests


def test_the_timeout_holds_for_all_controllers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers nothing until the test is over: that this returns is the proof."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        line = ("models", "list", "-a", f"{url},{url}/again", "")
        assert offered(*line, run=run, monkeypatch=monkeypatch) == []


@pytest.mark.parametrize(
    "env",
    [
        {"CONTROLLER_ADDRESS": "http://127.0.0.1:1"},
        {"CONTROLLER_ADDRESS": "ftp://nowhere"},
        {"CONTROLLER_ADDRESS": "http://user:secret@[:x"},
    ],
)
def test_wrong_settings_and_silence_say_nothing(env: dict[str, str]) -> None:
    for words in (["models", "list", ""], ["models", "deregister", "--env-file", "missing", ""]):
        done = subprocess.run(
            [*CTL, *words],
            env=environment({"_CTL_COMPLETE": "complete_zsh", **env}),
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout.strip(), done.stderr) == ("words", "")


LOADED = "import sys; from dbgpt_ctl.__main__ import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["mod"], {"httpx", "json"}),
        (["models", "list", "-"], {"httpx", "json"}),
        (["models", "list", ""], set()),
    ],
)
def test_tab_imports_only_what_it_needs(words: list[str], unwanted: set[str]) -> None:
    with fake_controller(body=BODY) as fake:
        env = environment({"_CTL_COMPLETE": "complete_zsh", "CONTROLLER_ADDRESS": fake.url})
        done = subprocess.run(
            [sys.executable, "-c", LOADED, *words], env=env, capture_output=True, text=True, check=True
        )
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    heavy = {"rich", "yaml", "dotenv", "asyncio", "pydantic", "fastapi", "sqlalchemy", "uvicorn"}
    assert not loaded & (unwanted | heavy)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_command_prints_what_the_folder_holds(run: Run, shell: str) -> None:
    """Else: make generate."""
    assert run("completion", shell).out == (COMPLETIONS / FILE_NAMES[shell]).read_text()


def test_the_folder_holds_nothing_else() -> None:
    assert sorted(path.name for path in COMPLETIONS.iterdir()) == sorted(FILE_NAMES.values())


def test_typers_own_options_are_off(run: Run) -> None:
    assert "completion " in run("--help").out
    for option in ("--install-completion", "--show-completion"):
        run(option, expect=2)


@pytest.mark.parametrize(
    ("raw", "words", "quote"),
    [
        ("", [""], ""),
        ("ctl", ["ctl"], ""),
        ("ctl ", ["ctl", ""], ""),
        ("ctl  a\\ b 'c d' \"e f\"", ["ctl", "a b", "c d", "e f"], ""),
        ("ctl 'a b", ["ctl", "a b"], "'"),
        ('ctl "a\\$b\\c', ["ctl", "a$b\\c"], '"'),
        ("ctl ''", ["ctl", ""], ""),
        ("ctl '' x", ["ctl", "", "x"], ""),
        ("ctl a\\", ["ctl", "a"], ""),
        ("ctl 'a\\", ["ctl", "a\\"], "'"),
    ],
)
def test_a_line_of_bash(raw: str, words: list[str], quote: str) -> None:
    line = Line.read(raw)
    assert [word.text for word in line.words] == words
    assert line.words[-1].quote == quote


def test_files_of_redirections_are_no_arguments() -> None:
    line = Line.read("ctl models list 2>log >'a b' q")
    assert line.arguments == ["models", "list"]
    assert line.words[-1] == Word("q")
    assert Line.read("ctl models list >o").words[-1].redirection


@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("kept", ["", "a b", "a b$"])
def test_bash_reads_the_inserted_text_as_the_candidate(quote: str, kept: str) -> None:
    odd = "a b$(x)`y`'\"\\!{c,d}*?[e]~#;&|<>^=:@%深"
    rest = inserted(odd, Word(kept, quote))
    assert rest is not None
    start = {"": inserted(kept, Word()), "'": f"'{kept}", '"': '"' + kept.replace("$", "\\$")}[quote]
    done = subprocess.run(
        ["bash", "-c", f"printf %s {start}{rest}{quote}"], capture_output=True, env=environment({}), check=True
    )
    assert done.stdout.decode() == odd
    assert inserted("other", Word("a", quote)) is None
