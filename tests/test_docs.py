"""What is written down is what the code does."""

from __future__ import annotations

import io
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from dotenv import dotenv_values

from benchmarks import charts
from dbgpt_ctl.cli import app
from dbgpt_ctl.settings.load import declared_settings, setting
from dbgpt_ctl.settings.schema import ClientSettings, ControllerSettings
from dbgpt_ctl.settings.value_types import seconds
from scripts import dashboard, generate, picture
from tests.support.command_lines import unknown_flags
from tests.support.documents import DOCUMENTS, Block, anchors, blocks, links
from tests.support.process import ROOT
from tests.support.promql import problems
from tests.support.walkthrough import comparable, reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.settings.load import Settings

RUN_GENERATE = "run `make generate`"
TABLES = sorted(generate.TABLES)
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
RUN_ELSEWHERE = {
    "moving-from-dbgpt.md": "tests/interop/test_move.py",
    "on-call.md": "tests/story/test_on_call.py",
    "backup.md": "tests/story/test_backup.py",
    "upgrading.md": "tests/story/test_upgrading.py",
}
"""Pages whose commands need more than one controller in memory, and the test that types them."""
SHOWN = [block for document in DOCUMENTS for block in blocks(document)]
RUN = [
    document
    for document in DOCUMENTS
    if document.name not in RUN_ELSEWHERE and any(block.kind == "console" and block.runs for block in blocks(document))
]


def test_env_example_is_up_to_date() -> None:
    assert generate.ENV_EXAMPLE.read_text() == generate.env_example(), RUN_GENERATE


def test_the_dashboard_is_that_of_today() -> None:
    assert generate.DASHBOARD.read_text() == dashboard.text(), RUN_GENERATE


@pytest.mark.parametrize("path", TABLES, ids=[path.name for path in TABLES])
def test_tables_are_those_of_today(path: Path) -> None:
    text = path.read_text()
    assert text == generate.with_tables(path, text), RUN_GENERATE


@pytest.mark.parametrize("settings", [ControllerSettings, ClientSettings])
def test_env_example_uncommented_is_all_defaults(settings: type[Settings]) -> None:
    lines = [line[1:] for line in generate.env_example().splitlines() if line.startswith("#CONTROLLER_")]
    values = dotenv_values(stream=io.StringIO("\n".join(lines)))
    assert [name for name in values if name in {field.variable for field in declared_settings(settings)}] == [
        field.variable for field in declared_settings(settings)
    ]
    loaded = settings.load({}, {name: text or "" for name, text in values.items()}, "")
    assert loaded == settings()
    assert loaded.remarks == ()


def test_a_new_setting_is_one_field_and_needs_new_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, repr=False)
    class Grown(ControllerSettings):
        shutdown_grace_secs: float = setting(12.0, seconds(), "seconds to wait")

    before = generate.env_example(), generate.settings_tables()
    monkeypatch.setitem(generate.SECTIONS, "`ctl serve`", Grown)
    assert "# Seconds to wait (above 0, to 31536000).\n#CONTROLLER_SHUTDOWN_GRACE_SECS=12\n" in generate.env_example()
    row = "| `--shutdown-grace-secs` | `CONTROLLER_SHUTDOWN_GRACE_SECS` | `12` | above 0, to 31536000 | Seconds to wait"
    assert row in generate.settings_tables()
    assert row not in before[1]
    begin, end = "<!-- settings:begin -->", "<!-- settings:end -->"
    page = generate.with_tables(generate.SETTINGS, generate.SETTINGS.read_text())
    assert f"\n{begin}\n\n{generate.settings_tables()}\n\n{end}\n" in page
    assert Grown.load({}, {"CONTROLLER_SHUTDOWN_GRACE_SECS": "3"}, "").shutdown_grace_secs == 3.0


def test_a_page_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="settings:begin"):
        generate.with_tables(generate.SETTINGS, "# ctl\n")


def test_the_page_of_exit_codes_names_every_exit_code() -> None:
    shown = re.findall(r"^\| (\d+) ", (ROOT / "docs" / "exit-codes.md").read_text(), re.MULTILINE)
    assert sorted(set(shown), key=int) == sorted(
        set(re.findall(r"^\| (\d+) ", generate.exit_codes_table(), re.MULTILINE)), key=int
    )


def test_the_readme_is_short_and_names_every_command() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 180
    assert [name for name, _ in COMMANDS_OF_CTL if not _names(text, name)] == []


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All commands with their full names, such as `ctl models list`."""
    below = getattr(command, "commands", None)
    if not below:
        yield name, command
    for word in below or ():
        child = command.get_command(None, word)
        if not child.hidden:
            yield from _commands(child, f"{name} {word}")


COMMANDS_OF_CTL = list(_commands(typer.main.get_command(app), "ctl"))


def _names(text: str, command: str) -> bool:
    """Also as one of several: `ctl context set|use`, with the bar escaped inside a table."""
    group, _, verb = command.rpartition(" ")
    return bool(re.search(rf"`{re.escape(group)} (?:\w+\\\|)*{re.escape(verb)}\b", text))


def test_the_charts_show_the_figures() -> None:
    for name, chart in charts.charts(charts.FIGURES.read_text()).items():
        assert (charts.IMAGES / name).read_text() == chart, "run `python -m benchmarks.charts`"


def test_the_picture_of_a_terminal_shows_what_ctl_prints() -> None:
    shown, today = picture.text_of(picture.PICTURE.read_text()), picture.text_of(picture.drawn(picture.transcript()))
    assert _without_times(today) == _without_times(shown), "run `python -m scripts.picture`"


def _without_times(shown: str) -> str:
    """Without ages, latencies and numbers of connections, and without the widths of columns."""
    text = re.sub(r"\b\d+(\.\d+)?m?s\b|\d+ of at most \d+", "TIME", shown.replace("\xa0", " "))
    return re.sub(r"[\s─]+", "", text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_links_lead_somewhere(document: Path) -> None:
    for target in links(document):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), f"{document.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{document.name}: {target} is not among {anchors(there)}"


def test_every_document_is_found_from_the_readme() -> None:
    found = {(ROOT / target.partition("#")[0]).resolve() for target in links(README)}
    assert set(DOCUMENTS) - {README} <= found


@pytest.mark.parametrize("document", RUN, ids=[path.name for path in RUN])
def test_examples_do_what_the_document_shows(document: Path, tmp_path: Path) -> None:
    """In one go: what a block did is there in the next. A block without any output shown only has to succeed."""
    with reader(tmp_path) as somebody:
        for block in blocks(document):
            if block.kind != "console" or not block.runs:
                continue
            _needs(block)
            steps = somebody.follow(block.commands())
            silent = not any(step.command.output for step in steps)
            for step in steps:
                where = f"{block}: {step.command.line}\n{step.output}"
                if silent:
                    assert step.code == 0, where
                else:
                    assert comparable(step.output) == comparable(step.command.output), where


def _needs(block: Block) -> None:
    missing = [
        program for program in ("jq", "curl") if re.search(rf"\b{program}\b", block.text) and not shutil.which(program)
    ]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{block} needs {missing[0]}")


def test_what_is_run_elsewhere_is_run_there() -> None:
    for name, test in RUN_ELSEWHERE.items():
        assert (ROOT / "docs" / name).exists()
        assert name in (ROOT / test).read_text(), f"{test} does not read {name}"


def test_output_that_differs_in_substance_is_noticed() -> None:
    assert comparable("a  3s ago\n") == comparable("a 17.5s ago")
    assert comparable("http://127.0.0.1:8000  healthy") == comparable("http://127.0.0.1:41234 healthy ")
    assert comparable("a healthy 3s ago") != comparable("a unhealthy 3s ago")


@pytest.mark.parametrize("block", [block for block in SHOWN if block.kind == "python"], ids=str)
def test_python_examples_run(block: Block) -> None:
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("block", [block for block in SHOWN if block.kind == "promql"], ids=str)
def test_queries_parse_and_name_what_a_controller_exposes(block: Block) -> None:
    assert problems(block.text) == []


COMMANDS = [(block, command.line) for block in SHOWN if block.kind == "console" for command in block.commands()]


@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=[f"{block} {line.split()[1:3]}" for block, line in COMMANDS])
def test_commands_and_flags_exist(block: Block, line: str) -> None:
    """Also of blocks that are not run."""
    assert not unknown_flags(line), f"{block}: {line}"


DAY_2 = [ROOT / "docs" / name for name in ("on-call.md", "backup.md", "upgrading.md", "capacity.md")]


@pytest.mark.parametrize("document", DAY_2, ids=[path.name for path in DAY_2])
def test_commands_in_sentences_exist(document: Path) -> None:
    """Somebody types them at night."""
    commands = [line for line in re.findall(r"`(ctl [^`]+)`", document.read_text()) if not line.startswith("ctl serve")]
    assert commands
    assert {line: unknown_flags(line) for line in commands if unknown_flags(line)} == {}


OF_OTHER_PROGRAMS = {"--build-arg", "--env", "--no-tablespaces", "--publish", "--single-transaction"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_flags_in_sentences_exist(document: Path) -> None:
    options = {"--help"} | {flag for _, command in COMMANDS_OF_CTL for param in command.params for flag in param.opts}
    used = set(re.findall(r"`(--[\w-]+)[^`\n]*`", document.read_text()))
    assert used - options - OF_OTHER_PROGRAMS == set()


def test_the_commands_without_json_print_no_data() -> None:
    without = {
        name
        for name, command in COMMANDS_OF_CTL
        if "--output" not in {flag for param in command.params for flag in param.opts}
    }
    settle = {f"ctl {name}" for name in ("context use", "context set", "context delete", "token revoke", "auth mode")}
    assert without == settle | {"ctl console", "ctl completion", "ctl help"}


def test_the_map_in_the_architecture_has_every_folder_and_only_real_paths() -> None:
    paths = _tree(ARCHITECTURE.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []
    sources = (path for kind in ("*.py", "*.js") for path in (ROOT / "dbgpt_ctl").rglob(kind))
    folders = {path.parent.relative_to(ROOT) for path in sources}
    modules = {path.relative_to(ROOT) for path in (ROOT / "dbgpt_ctl").glob("*.py") if not path.name.startswith("__")}
    assert folders | modules == set(paths)
    deployed = _tree(ARCHITECTURE.read_text().partition("outside of a terminal")[2])
    assert set(deployed) == {Path("deploy"), *(path.relative_to(ROOT) for path in (ROOT / "deploy").iterdir())}


def _tree(text: str) -> list[Path]:
    """The paths of the first block of a text, which draws them as a tree."""
    lines = text.partition("```\n")[2].partition("\n```")[0].splitlines()
    parents = [Path(lines[0].strip("/"))]
    paths = list(parents)
    for line in lines[1:]:
        branch, _, rest = line.partition("── ")
        parents[len(branch) // 4 + 1 :] = [parents[len(branch) // 4] / rest.split()[0].strip("/")]
        paths.append(parents[-1])
    return paths


def test_the_way_of_a_heartbeat_passes_real_files() -> None:
    section = ARCHITECTURE.read_text().partition("## A heartbeat's way")[2].partition("\n## ")[0]
    files = re.findall(r"^\| `([\w./]+)` ", section, re.MULTILINE)
    assert len(files) > 5
    assert [file for file in files if not (ROOT / "dbgpt_ctl" / file).exists()] == []


def test_troubleshooting_lists_every_symptom() -> None:
    document = ROOT / "docs" / "troubleshooting.md"
    own = {target.removeprefix("#") for target in links(document) if target.startswith("#")}
    assert anchors(document) - {"troubleshooting"} == own


def test_a_document_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    document = tmp_path / "wrong.md"
    document.write_text(
        "# Wrong\n\n```console\n$ ctl models list\nNAME\n$ echo a \\\n> b\na b\n```\n\n<!-- not run: it waits -->\n"
        "```console\n$ ctl serve --no-such-flag\n```\n\n[there](#wrong) `[not](a-link)`\n"
    )
    first, second = blocks(document)
    assert (first.runs, second.runs) == (True, False)
    assert [(command.line, command.output) for command in first.commands()] == [
        ("ctl models list", "NAME\n"),
        ("echo a \\\nb", "a b\n"),
    ]
    assert anchors(document) == {"wrong"}
    assert links(document) == ["#wrong"]
    assert unknown_flags(second.commands()[0].line) == {"--no-such-flag"}
    with pytest.raises(AssertionError, match="no command lists"):
        unknown_flags("true && ctl lists | wc -l")
