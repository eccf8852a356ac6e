"""Completion with TAB in real shells on a real terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.cli.completion.scripts import SCRIPTS
from tests.support.fake_controller import FakeController, fake_controller, listed
from tests.support.shells import TAB, real_shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.shells import RealShell

pytestmark = pytest.mark.slow

HOSTILE = "glm $(touch PWNED)`touch PWNED`;touch PWNED&'\"!!#~*?[a]{b,c}%s%B\\n<x>|y"
BODY = [
    listed("qwen@llm"),
    listed("bge-m3@text2vec", "10.0.0.6", 8002),
    listed("v6@llm", "[::1]"),
    listed("深度@llm"),
    listed(f"{HOSTILE}@llm"),
    listed("-rf@llm"),
    listed("two\nlines;touch PWNED@llm"),
    listed("x\x1b[31mred@llm"),
    listed("wide 1 $(touch PWNED)@llm"),
    listed("wide 2 %F{red}`touch PWNED`@llm"),
]
QWEN = "qwen@llm/10.0.0.4:8001"


@pytest.fixture
def controller() -> Iterator[FakeController]:
    with fake_controller(body=BODY) as fake:
        yield fake


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest, controller: FakeController, tmp_path: Path) -> Iterator[RealShell]:
    with real_shell(request.param, SCRIPTS[request.param], tmp_path, {"CONTROLLER_ADDRESS": controller.url}) as shell:
        yield shell
    assert not list(tmp_path.rglob("PWNED"))


def test_verbs_options_and_values(shell: RealShell) -> None:
    assert shell.typed(f"ctl mo{TAB}dereg{TAB}x") == ["models", "deregister", "x"]
    assert shell.typed(f"ctl models list --out{TAB}y{TAB}") == ["models", "list", "--output", "yaml"]
    assert shell.typed(f"ctl models list --output=j{TAB}") == ["models", "list", "--output=json"]
    assert shell.typed(f"ctl models list --type t{TAB}") == ["models", "list", "--type", "text2vec"]
    assert shell.typed(f"ctl serve --registry-type=e{TAB}") == ["serve", "--registry-type=embedded"]
    assert shell.typed(f"ctl completion f{TAB}") == ["completion", "fish"]


def test_files_where_an_option_takes_one(shell: RealShell) -> None:
    assert shell.typed(f"ctl health --env-file ../scr{TAB}") == ["health", "--env-file", "../script"]
    assert shell.typed(f"ctl health --env-file=../scr{TAB}") == ["health", "--env-file=../script"]
    assert shell.typed(f"ctl health ../scr{TAB}") == ["health", "../scr"]


def test_names_and_references_come_from_the_controller(shell: RealShell) -> None:
    wanted = ["models", "list", "qwen"]
    assert shell.completed(f"ctl models list q{TAB}", wanted) == wanted
    for typed in ("q", "qwen@", "qwen@llm/", "qwen@llm/10.0.0.4:", '"qwen@l', "'qw"):
        wanted = ["models", "deregister", QWEN]
        assert shell.completed(f"ctl models deregister {typed}{TAB}", wanted) == wanted
    wanted = ["models", "heartbeat", QWEN, "bge-m3@text2vec/10.0.0.6:8002"]
    assert shell.completed(f"ctl models heartbeat {QWEN} b{TAB}", wanted) == wanted
    for typed, word in (("v", "v6@llm/[::1]:8001"), ("深", "深度@llm/10.0.0.4:8001")):
        wanted = ["models", "deregister", word]
        assert shell.completed(f"ctl models deregister {typed}{TAB}", wanted) == wanted


def test_a_hostile_name_becomes_a_literal_word(shell: RealShell) -> None:
    wanted = ["models", "deregister", f"{HOSTILE}@llm/10.0.0.4:8001"]
    for typed in ("g", "'g", '"g', "glm\\ "):
        assert shell.completed(f"ctl models deregister {typed}{TAB}", wanted) == wanted
    wanted = ["models", "list", HOSTILE]
    assert shell.completed(f"ctl models list g{TAB}", wanted) == wanted


def test_a_name_is_never_an_option_or_two_lines(shell: RealShell) -> None:
    wanted = ["models", "deregister", r"\x2drf@llm/10.0.0.4:8001"]
    assert shell.completed(rf"ctl models deregister \\{TAB}", wanted) == wanted
    for typed in ("-r", "two", "x"):
        assert shell.typed(f"ctl models deregister {typed}{TAB}") == ["models", "deregister", typed]


def test_hostile_names_in_a_menu_are_text(shell: RealShell) -> None:
    """The line goes as far as the names are alike; the terminal lists them."""
    wanted = ["models", "deregister", "wide 1 $(touch PWNED)@llm/10.0.0.4:8001"]
    assert shell.completed(f"ctl models deregister w{TAB}1{TAB}", wanted) == wanted
    shell.shown(f"ctl models deregister w{TAB}{TAB}{TAB}", "1 $(touch PWNED)@llm", "2 %F{red}`touch PWNED`@llm")


def test_silence_when_no_controller_answers(shell: RealShell, controller: FakeController) -> None:
    controller.status = 503
    assert shell.typed(f"ctl models deregister q{TAB}") == ["models", "deregister", "q"]
    assert shell.typed(f"ctl models list -a http://127.0.0.1:1 q{TAB}")[-1] == "q"
    assert shell.typed(f"ctl models list -a ftp://x q{TAB}")[-1] == "q"


def test_zsh_loads_it_from_a_folder(controller: FakeController, tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "_ctl").write_text(SCRIPTS["zsh"])
    with real_shell("zsh", f"fpath+={functions}; compinit -u -d {tmp_path}/dump2", tmp_path, {}) as shell:
        assert shell.typed(f"ctl mo{TAB}l{TAB}") == ["models", "list"]  # the first call loads it
        assert shell.typed(f"ctl hea{TAB}") == ["health"]


@pytest.mark.parametrize("breaks", [r"$' \t\n'", r"$' \t\n\"\'@><=;|&(:/[.'"])
def test_bash_may_break_words_anywhere(controller: FakeController, tmp_path: Path, breaks: str) -> None:
    with real_shell("bash", SCRIPTS["bash"], tmp_path, {"CONTROLLER_ADDRESS": controller.url}) as shell:
        shell.child.send(f"COMP_WORDBREAKS={breaks}\r")
        for typed in ("v6@llm/", "v6@llm/\\[::", "'v6@llm/[:"):
            wanted = ["models", "deregister", "v6@llm/[::1]:8001"]
            assert shell.completed(f"ctl models deregister {typed}{TAB}", wanted) == wanted
        assert shell.typed(f"ctl models list --output=j{TAB}") == ["models", "list", "--output=json"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_ctl_of_the_line_is_called(name: str, tmp_path: Path) -> None:
    """By its path, by ~, and by a name that is an alias or a function."""
    with real_shell(name, SCRIPTS[name], tmp_path, {}) as shell:
        assert shell.typed(f"../bin/ctl hea{TAB}") == ["health"]
        assert shell.typed(f"~/../bin/ctl hea{TAB}") == ["health"]
        shell.child.send("alias ctl='command ctl'\r")
        assert shell.typed(f"ctl hea{TAB}") == ["health"]
