"""drain, apply and diff against DB-GPT's own controller: verbs that its API has work, the rest is refused in a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.dbgpt_cluster import Lab, start_dbgpt_controller

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release

pytestmark = pytest.mark.interop

REF = "qwen@llm/10.0.0.4:8001"


class Ctl:
    def __init__(self, lab: Lab, url: str) -> None:
        self.lab, self.url = lab, url

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.lab.ctl(*args, CONTROLLER_ADDRESS=self.url)

    def file(self, **facts: object) -> str:
        """A file that declares one instance; its name."""
        path = self.lab.folder / "instances.json"
        path.write_text(json.dumps({"instances": [{"model": "qwen", "host": "10.0.0.4", "port": 8001, **facts}]}))
        return str(path)


@pytest.fixture(scope="module")
def ctl(newest: Release, new_lab: NewLab) -> Iterator[Ctl]:
    with new_lab("operate-dbgpt") as lab:
        yield Ctl(lab, start_dbgpt_controller(lab, newest))


def test_apply_creates_and_changes_a_weight(ctl: Ctl) -> None:
    name = ctl.file(weight=2)
    assert ctl("diff", "-f", name).returncode == 5
    assert ctl("apply", "-f", name).stdout == f"{REF} created: weight 2\n"
    assert ctl("diff", "-f", name).returncode == 0
    name = ctl.file(weight=0.1)
    assert ctl("apply", "-f", name).stdout == f"{REF} changed: weight 2 -> 0.1\n"
    assert ctl("apply", "-f", name).stdout == f"{REF} unchanged\n"


def test_a_verb_that_it_lacks_is_refused(ctl: Ctl) -> None:
    for args in (
        ("models", "drain", REF),
        ("models", "drain", REF, "--for", "2h"),
        ("models", "prune", "--older-than", "7d", "--yes"),
        ("models", "drain", "--host", "h", "--yes"),
    ):
        done = ctl(*args)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (6, "", 1)
        assert "no /api/v1" in done.stderr
    done = ctl("apply", "-f", ctl.file(enabled=False))
    assert (done.returncode, done.stdout) == (6, "")
    assert "cannot drain" in done.stderr
