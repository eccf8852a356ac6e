"""What `-f` reads: files and folders, bounded, and nothing that a person did not name."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.cli.manifest.documents import MAX_BYTES
from dbgpt_ctl.cli.manifest.sources import MAX_FILES, read_sources
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def names(*given: str | Path) -> list[str]:
    return [source.name for source in read_sources(list(map(str, given)))]


def refused(*given: str | Path) -> str:
    with pytest.raises(UsageError) as raised:
        names(*given)
    return str(raised.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Empty."""
    path = tmp_path / "cluster"
    path.mkdir()
    return path


def test_a_folder_is_its_files_in_order_of_name(folder: Path) -> None:
    for name in ("b.yaml", "a.yml", "B.json", "10.json", "9.json"):
        (folder / name).write_text(name)
    for name in (".hidden.yaml", "readme.md", "yaml", "x.yaml.bak", "a.yaml~"):
        (folder / name).write_text("not read")
    for name in ("sub", "sub.yaml", "..data"):
        (folder / name).mkdir()
        (folder / name / "c.yaml").write_text("not read")
    found = read_sources([str(folder)])
    assert [source.name for source in found] == [
        str(folder / name) for name in ("10.json", "9.json", "B.json", "a.yml", "b.yaml")
    ]
    assert found[0].data == b"10.json"


def test_files_and_folders_are_read_in_the_order_of_the_command_line(folder: Path, tmp_path: Path) -> None:
    (folder / "a.yaml").touch()
    first, last = tmp_path / "z", tmp_path / "a"
    first.touch()
    last.touch()
    assert names(first, folder, last) == [str(first), str(folder / "a.yaml"), str(last)]


def test_the_same_file_twice_is_a_mistake(folder: Path) -> None:
    (folder / "a.yaml").touch()
    assert refused(folder, folder / "a.yaml") == f"-f names '{folder}/a.yaml' twice: leave one of them out"


def test_links_count_as_what_they_lead_to(folder: Path, tmp_path: Path) -> None:
    """A volume of Kubernetes is made of links into a hidden folder."""
    data = folder / "..data"
    data.mkdir()
    (data / "a.yaml").write_text("a")
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    (folder / "later.yaml").symlink_to(data)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert [source.data for source in read_sources([str(link)])] == [b"a"]


@pytest.mark.parametrize("target", ["nowhere", "loop.yaml"])
def test_a_link_that_leads_nowhere_is_named(folder: Path, target: str) -> None:
    (folder / "loop.yaml").symlink_to(target)
    assert refused(folder).startswith(f"cannot read '{folder}/loop.yaml': ")


def test_a_folder_without_files_is_named(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.yaml").touch()
    assert refused(folder) == f"folder '{folder}' has no *.yaml, *.yml or *.json file; its subfolders are not read"


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read every folder, so the refusal is made here."""

    def refuse(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    assert refused(folder) == f"cannot read folder '{folder}': Permission denied"


def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "a.yaml")
    assert refused(folder) == f"cannot read '{folder}/a.yaml': it is a named pipe, not a regular file"


def test_an_empty_name_is_not_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `-f "$UNSET"`."""
    (folder / "a.yaml").touch()
    monkeypatch.chdir(folder)
    assert refused("") == "cannot read '': No such file or directory"
    assert names(".") == ["a.yaml"]


def test_a_name_that_no_file_can_have_is_refused() -> None:
    name = "x" * 5000
    assert refused(name) == f"cannot read '{name[:200]}...': File name too long"
    assert "not a valid file name" in refused("a\0b")


def test_the_number_of_files_has_a_limit(folder: Path) -> None:
    for number in range(MAX_FILES):
        (folder / f"{number}.json").touch()
    assert len(names(folder)) == MAX_FILES
    assert refused(folder, "more.yaml") == f"-f names {MAX_FILES + 1} files: give at most {MAX_FILES}"


def test_all_files_together_have_a_limit_of_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        (folder / name).write_bytes(b"x" * (MAX_BYTES // 2))
    mib = MAX_BYTES // 1024**2
    assert names(folder / "a.yaml", folder / "b.yaml")
    assert refused(folder) == (
        f"{folder}/c.yaml is larger than {mib} MiB together with the files before it, the most that is read"
    )
    with (folder / "c.yaml").open("ab") as file:
        file.truncate(MAX_BYTES + 1)
    assert refused(folder / "c.yaml") == f"cannot read '{folder}/c.yaml': it is larger than {mib} MiB"


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search("only once", refused("-", "-"))
    assert re.search("-f FOLDER", refused())
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(Exception, match="cannot read standard input: it is closed"):
        names("-")
