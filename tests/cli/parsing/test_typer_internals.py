"""Canaries for what Typer does not document, and what `ctl` does without it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from dbgpt_ctl.cli.framework.options import ReportOutput  # noqa: TC001 - Typer reads it
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing import typer_internals
from dbgpt_ctl.cli.parsing.typer_internals import OPTIONAL_VALUES, value_after_space, with_optional_values
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.settings.value_types import FLAG
from tests.support.fake_controller import fake_controller, listed
from tests.support.process import environment

CHANGED = (
    f"Typer {version('typer')} has changed: {{}}. `ctl` works, but {{}}. "
    "See dbgpt_ctl/cli/parsing/typer_internals.py and the upper pin of typer in pyproject.toml."
)


def params_of(command: Any) -> dict[str, Any]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command)
    return {param.name: param for param in get_command(app).params}


def verb(names: list[str], text: Annotated[str, typer.Option()] = "", output: ReportOutput = OutputFormat.TEXT) -> None:
    pass


def test_typer_converts_values_through_the_attribute_that_is_replaced() -> None:
    for param in params_of(verb).values():
        typer_internals.skip_pydantic(param)
        converter = vars(param).get("_runtime_param")
        assert isinstance(converter, typer_internals._Converter), CHANGED.format("a parameter", "starts slowly")
        used = getattr(param, "get_runtime_param", lambda: None)()
        assert used is converter, CHANGED.format("the conversion of values", "starts slowly")


def test_typer_shows_the_type_of_an_argument_through_the_method_that_is_replaced() -> None:
    param = params_of(verb)["names"]
    context = typer.Context(get_command(typer_app()))
    typer_internals.hide_type(param)
    label, _ = param.get_help_record(context)
    assert "list" not in label, CHANGED.format("the help of an argument", "its help shows <list[str]>")


def typer_app() -> typer.Typer:
    app = typer.Typer()
    app.command()(verb)
    return app


def test_typer_formats_a_help_with_the_class_of_the_context() -> None:
    context = typer.Context(get_command(typer_app()))
    typer_internals.narrow(context, 5)
    formatter = context.make_formatter()
    formatter.write_dl([("short", "text"), ("longer", "text")])
    changed = CHANGED.format("the columns of a help", "its help breaks long names of variables")
    assert formatter.getvalue() == "short  text\nlonger\n       text\n", changed


def test_typer_contains_the_completion_of_click() -> None:
    changed = CHANGED.format("its completion", "TAB offers nothing")
    assert typer_internals.add_completion_class is not None, changed
    for method in ("get_completion_args", "get_completions", "format_completion", "complete"):
        assert hasattr(typer_internals.ShellComplete, method), changed


def test_a_parameter_of_another_typer_is_left_alone() -> None:
    param = SimpleNamespace(type_descriptor=SimpleNamespace(annotation=str))
    before = dict(vars(param))
    typer_internals.adapt([param])
    assert vars(param) == before


WITHOUT = (
    "import sys; from dbgpt_ctl.cli.parsing import typer_internals\n"
    "typer_internals.adapt = lambda params: None\n"
    "from dbgpt_ctl.__main__ import main; sys.argv = ['ctl', *sys.argv[1:]]; main()"
)


@pytest.mark.parametrize(
    ("args", "code", "end"),
    [
        (["models", "list", "-o", "name", "--sort-by", "host"], 0, "qwen@llm/10.0.0.4:8001\n"),
        (["models", "list", "-o", "text"], 2, "'text' is not one of table, wide, json, yaml, csv, name."),
        (["completion", "bash"], 0, "complete -F _ctl ctl\n"),
    ],
)
def test_commands_work_without_it(args: list[str], code: int, end: str) -> None:
    with fake_controller(body=[listed("qwen@llm")]) as fake:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT, *args],
            env=environment({"CONTROLLER_ADDRESS": fake.url}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == code, done.stderr
    assert end in done.stdout + done.stderr


def test_completion_without_it_offers_nothing() -> None:
    code = WITHOUT.replace("adapt = lambda params: None", "add_completion_class = None")
    done = subprocess.run(
        [sys.executable, "-c", code, "models", ""],
        env=environment({"_CTL_COMPLETE": "complete_zsh"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["qwen", "--ping"], ["qwen", "--ping=generate"]),
        (["--ping", "qwen"], ["--ping=generate", "qwen"]),
        (["--ping=metadata", "qwen"], ["--ping=metadata", "qwen"]),
        (["--ping", "--", "--ping"], ["--ping=generate", "--", "--ping"]),
        (["--no-http", "--port", "9"], ["--no-http=true", "--port", "9"]),
        (["--no_http"], ["--no_http=true"]),
        (["--no-http=false"], ["--no-http=false"]),
        (["--no-probe", "-o", "json"], ["--no-probe", "-o", "json"]),
    ],
)
def test_a_bare_option_gets_its_value(given: list[str], expected: list[str]) -> None:
    assert with_optional_values(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["qwen", "--ping", "metadata"], "--ping=metadata"),
        (["--ping", "generate", "qwen"], "--ping=generate"),
        (["--ping", "qwen"], None),
        (["qwen", "--ping"], None),
        (["--ping=metadata", "metadata"], None),
    ],
)
def test_a_value_after_a_space_is_found(given: list[str], expected: str | None) -> None:
    assert value_after_space(given) == expected


def test_the_flag_of_a_switch_may_stand_alone() -> None:
    flags = [setting.flag for setting in declared_settings(ControllerSettings) if setting.kind is FLAG]
    assert flags
    assert {flag: OPTIONAL_VALUES.get(flag) for flag in flags} == dict.fromkeys(flags, ("true", "false"))
