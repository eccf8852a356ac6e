"""The help of every command: one style, within 80 columns, and with examples that the commands take."""

from __future__ import annotations

import io
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.cli.framework.session import Session
from dbgpt_ctl.controller import bootstrap
from dbgpt_ctl.errors import CtlError
from tests.support.verbs import COMMAND, command_of, commands

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

NOT_CUT = re.compile(r"(\]|\}|,)\.\.\.")
"""The signs of a repeated argument or value."""


ALL = list(commands())
EXAMPLES = [line for verbs in ALL for line in command_of(verbs).sections.examples]
each_command = pytest.mark.parametrize("verbs", ALL, ids=" ".join)


@pytest.fixture
def text(run: Run, monkeypatch: pytest.MonkeyPatch, verbs: tuple[str, ...]) -> str:
    """The help on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return run(*verbs, "--help").out


@each_command
def test_no_line_is_longer_than_a_terminal(text: str) -> None:
    assert [line for line in text.splitlines() if len(line) > 80] == []


@each_command
def test_no_word_is_cut(text: str, verbs: tuple[str, ...]) -> None:
    assert "..." not in NOT_CUT.sub("", text)
    assert "…" not in text
    assert [line for line in text.splitlines() if re.search(r"\w-$", line)] == []
    command = command_of(verbs)
    words = {word for param in command.params for word in re.findall(r"\S+", getattr(param, "help", None) or "")}
    assert words <= set(text.split())


@each_command
def test_a_command_begins_with_a_short_sentence_of_its_own(text: str, verbs: tuple[str, ...]) -> None:
    summary = command_of(verbs).help.partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^\n]*[^.]\.", summary), summary
    assert f"\n\n  {summary}\n" in text


@each_command
def test_an_option_is_a_sentence_with_its_default_after_it(text: str, verbs: tuple[str, ...]) -> None:
    options = re.findall(r"^  (?:-|[A-Z{<\[]\S*  ).*(?:\n {5,}.*)*", text, re.MULTILINE)
    for option in options:
        assert re.search(r"(?:\.|\]|\.  \[[^\[]+\])$", option), option
    for param in command_of(verbs).params:
        help_text = getattr(param, "help", None)
        assert help_text, param.name
        assert re.match(r"[A-Z]", help_text), help_text
        assert re.search(r"[^.]\.(  \[[^\[]+\])?$", help_text), help_text


@each_command
def test_exit_codes_are_sentences_in_order(text: str, verbs: tuple[str, ...]) -> None:
    codes = command_of(verbs).sections.exit_codes
    assert list(codes) == sorted(codes)
    assert all(meaning.endswith(".") for meaning in codes.values())
    assert "Exits with" not in text
    assert ("\n\nExit codes:\n" in text) == bool(codes)


@each_command
def test_every_help_ends_with_one_to_four_examples(text: str, verbs: tuple[str, ...]) -> None:
    lines = text.partition("\n\nExamples:\n")[2].splitlines()
    assert 1 <= len(lines) <= 4
    assert lines == [f"  {line}" for line in command_of(verbs).sections.examples]
    assert any(" ".join(["ctl", *verbs]) in line for line in lines) or hasattr(command_of(verbs), "commands")


class Reached(CtlError):
    """The command has taken its command line."""

    exit_code = 99


@pytest.fixture
def place(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    """The files that examples name, standard input, and a stop where a command would call a controller, a database or a
    server.
    """

    def stop(*_args: object, **_kwargs: object) -> None:
        raise Reached("reached")

    (tmp_path / "cluster").mkdir()
    for file in ("instances.yaml", "models.yaml", "embeddings.yaml", "cluster/models.yaml"):
        port = len(file)
        (tmp_path / file).write_text(f"instances: [{{model: qwen, host: h, port: {port}}}]\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"instances: []\n")))
    (tmp_path / "prod.token").write_text("token\n")
    (tmp_path / "prod.token").chmod(0o600)
    (tmp_path / "prod.env").write_text("CONTROLLER_REGISTRY_DB_HOST=db1\nCONTROLLER_REGISTRY_DB_USER=ctl\n")
    monkeypatch.setenv("CONTROLLER_REGISTRY_DB_PASSWORD", "secret")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    run("context", "set", "prod", "-a", "http://ctl-1:8000")
    monkeypatch.setenv("CONTROLLER_TOKENS_FILE", str(tmp_path / "tokens.toml"))
    if "token create" not in line:
        run("token", "create", "gpu-east", "--role", "worker", "--tokens-file", "tokens.toml")
    if "--old" in line:
        run("token", "rotate", "gpu-east")
    monkeypatch.setattr(Session, "client", stop)
    monkeypatch.setattr(bootstrap, "run", stop)
    monkeypatch.setattr(bootstrap, "database_hosts", stop)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("line", EXAMPLES)
def test_each_example_is_taken(capfd: pytest.CaptureFixture[str], line: str) -> None:
    """Up to the first call: what follows depends on the cluster."""
    for part in line.split(" | "):
        words = shlex.split(part.replace("<(", "").removesuffix(")"))
        given = words[words.index("ctl") + 1 :]
        if "xargs" in words:
            given.append("qwen2.5@llm/10.0.0.4:8001")
        with pytest.raises(SystemExit) as left:
            COMMAND(given)
        assert left.value.code in (0, Reached.exit_code), capfd.readouterr().err
