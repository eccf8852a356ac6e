"""Options before the verb, and that each command is built alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fake_controller import fake_controller, listed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

NOBODY = "http://127.0.0.1:1"
LIST = ["models", "list", "-o", "name"]
SHOWN = "qwen@llm/10.0.0.4:8001\n"


@pytest.fixture
def other() -> Iterator[FakeController]:
    with fake_controller(body=[listed("qwen@llm")]) as controller:
        yield controller


@pytest.fixture(autouse=True)
def home(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place for contexts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_address_stands_before_between_or_after_the_verbs(run: Run, other: FakeController, place: int) -> None:
    line = [*LIST[:place], "-a", other.url, *LIST[place:]]
    assert run(*line).out == SHOWN


def test_addresses_at_one_place_add_up(run: Run, other: FakeController) -> None:
    for line in (["-a", NOBODY, "-a", other.url, *LIST], [*LIST, "-a", NOBODY, "-a", other.url]):
        done = run(*line, "-v")
        assert done.out == SHOWN
        assert done.err.startswith(f"ctl: GET {NOBODY}/")


@pytest.mark.parametrize("before", [1, 0])
def test_addresses_after_the_verb_replace_those_before_it(run: Run, other: FakeController, before: int) -> None:
    outer, inner = LIST[:before], LIST[before:]
    done = run("-a", NOBODY, *outer, *inner, "-a", other.url, "-v")
    assert NOBODY not in done.err
    assert run("-a", other.url, *LIST, "-a", NOBODY, expect=3).out == ""


def test_the_option_that_is_nearer_to_the_verb_wins(run: Run, other: FakeController) -> None:
    assert run("-a", NOBODY, "models", "-a", other.url, "list", "-o", "name").out == SHOWN


def test_every_shared_option_works_before_the_verb(run: Run, other: FakeController, tmp_path: Path) -> None:
    (tmp_path / "some.env").write_text(f"CONTROLLER_ADDRESS={other.url}\n")
    assert run("--env-file", "some.env", *LIST).out == SHOWN
    assert "--request-timeout 'soon'" in run("--request-timeout", "soon", *LIST, expect=2).err
    run("context", "set", "prod", "-a", other.url)
    assert run("--context", "prod", *LIST).out == SHOWN
    assert run("-v", "--context", "prod", *LIST).err.startswith(f"ctl: GET {other.url}/")
    assert run("-q", "--context", "prod", "models", "list", "absent").err == ""


def test_an_empty_value_before_the_verb_counts(run: Run, other: FakeController, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"CONTROLLER_ADDRESS={NOBODY}\n")
    run("context", "set", "prod", "-a", other.url)
    run("context", "use", "prod")
    assert run("--env-file", "", *LIST).out == SHOWN
    assert run("--context", "", *LIST, expect=3).out == ""


@pytest.mark.parametrize(
    "line",
    [
        ["-a", NOBODY, "serve", "--show-config"],
        ["-q", "completion", "bash"],
        ["--context", "prod", "context", "list"],
        ["-a", NOBODY, "context", "set", "prod", "--token-file", "t"],
        ["--request-timeout", "5s", "db", "check"],
    ],
)
def test_a_verb_refuses_an_option_that_it_would_ignore(run: Run, line: list[str]) -> None:
    done = run(*line, expect=2)
    assert done.out == ""
    assert " before the verb: leave it out\n" in done.err
    assert done.err.startswith("ctl: `ctl ")


def test_the_help_of_such_a_verb_is_shown_all_the_same(run: Run) -> None:
    assert run("-a", NOBODY, "serve", "--help").out == run("serve", "--help").out


def test_an_env_file_before_serve_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "some.env").write_text("CONTROLLER_PORT=8123\n")
    assert "CONTROLLER_PORT in some.env" in run("--env-file", "some.env", "serve", "--show-config").out


def test_help_shows_no_address_that_is_given(run: Run) -> None:
    done = run("-a", "http://me:s3cr3t@127.0.0.1:1", "models", "list", "--help")
    assert done.out == run("models", "list", "--help").out


def test_a_context_keeps_all_addresses(run: Run) -> None:
    run("context", "set", "prod", "-a", "http://a:1", "-a", "http://b:2,http://c:3")
    assert "http://a:1,http://b:2,http://c:3" in run("context", "list").out
