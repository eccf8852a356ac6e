"""`scripts.structure --paths` follows real requests, and docs/architecture.md names the files of a heartbeat's way."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.mariadb import missing_programs
from tests.support.process import ROOT

SCRIPT_SECS = 240
CLIENT_VERBS = ("ctl models list -o json", "ctl why qwen -o json")


@pytest.mark.slow
@pytest.mark.skipif(missing_programs() is not None, reason=str(missing_programs()))
def test_the_files_that_a_request_passes_are_those_that_the_documentation_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.structure", "--paths"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SCRIPT_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    passed = files_passed(done.stdout)
    assert passed["heartbeat to MySQL"] == files_of_the_table()
    for verb in CLIENT_VERBS:
        assert {"__main__.py", "client/calls.py", "client/transport.py"} <= passed[verb]


def files_passed(text: str) -> dict[str, set[str]]:
    """The files under each line `files passed by NAME: COUNT`."""
    _, *sections = re.split(r"^files passed by (.+): \d+\n", text, flags=re.MULTILINE)
    return {name: set(files.split()) for name, files in zip(sections[::2], sections[1::2], strict=True)}


def files_of_the_table() -> set[str]:
    _, _, section = (ROOT / "docs/architecture.md").read_text().partition("## A heartbeat's way")
    return set(re.findall(r"^\| `([\w/.]+\.py)`", section.partition("\n## ")[0], flags=re.MULTILINE))
