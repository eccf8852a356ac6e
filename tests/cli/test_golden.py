"""What a person sees of each verb, in each format, on a terminal and in a pipe: as it is kept in `golden/`.

    CTL_UPDATE_GOLDEN=1 python -m pytest tests/cli/test_golden.py      writes the files anew; then look at the diff

`␛` is the character ESC. `stderr: ` starts what is written to stderr. Views that see the same share one block.
"""

from __future__ import annotations

import os
import signal
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli import app
from tests.cli.clusters import stock_controller
from tests.cli.golden.commands import CHANGES, CONTEXTS, FAILURES, READS
from tests.cli.golden.stage import VIEWS, View, cluster, readable, seen
from tests.cli.test_process import on_terminal
from tests.support.fake_controller import fake_controller, listed
from tests.support.process import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cli.conftest import Run

FOLDER = Path(__file__).parent / "golden"
UPDATES = bool(os.environ.get("CTL_UPDATE_GOLDEN"))
INSTANCES = """\
instances:
  - {model: qwen2.5, host: 10.0.0.4, port: 8001, weight: 3, enabled: false}
  - {model: qwen2.5, host: 10.0.0.5, port: 8001, weight: 2}
  - {model: qwen2.5, host: 10.0.0.6, port: 8001}
  - {model: 深度求索, host: worker-8, port: 8001, prompt_template: chat}
"""
BROKEN = "instances:\n  - {model: qwen2.5, hots: h, port: 99999}\n  - {model: qwen2.5, host: h}\n"


@pytest.fixture(autouse=True)
def place(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder with a file for apply, a clean environment, and no proxy."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    (tmp_path / "instances.yaml").write_text(INSTANCES)
    (tmp_path / "broken.yaml").write_text(BROKEN)
    return tmp_path


def compare(name: str, blocks: Sequence[str]) -> None:
    file, found = FOLDER / f"{name}.txt", "\n".join(blocks)
    if UPDATES:
        assert not os.environ.get("CI"), "CTL_UPDATE_GOLDEN is set: nothing would be tested"
        file.write_text(found)
    kept = file.read_text() if file.exists() else ""
    diff = "".join(unified_diff(kept.splitlines(True), found.splitlines(True), f"golden/{name}.txt", "now"))
    if diff:
        pytest.fail(f"{diff}\nCTL_UPDATE_GOLDEN=1 keeps it as it is now", pytrace=False)


def block(args: Sequence[str], look: Callable[[View], str]) -> str:
    """One command line in all views; the views that see the same are told once."""
    by_text: dict[str, list[str]] = {}
    for view in VIEWS:
        by_text.setdefault(look(view), []).append(view.name)
    parts = [
        f"---- {'everywhere' if len(by_text) == 1 else ' | '.join(names)}\n{text}" for text, names in by_text.items()
    ]
    return f"==== ctl {' '.join(args)}\n{''.join(parts)}"


def look(args: Sequence[str], places: dict[str, str], view: View) -> str:
    filled = [arg.replace("{controller}", os.environ.get("CONTROLLER_ADDRESS", "")) for arg in args]
    return readable(seen(filled, view), places)


@pytest.mark.parametrize("name", READS)
def test_what_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with cluster() as url:
        monkeypatch.setenv("CONTROLLER_ADDRESS", url)
        compare(name, [block(args, partial(look, args, {})) for args in READS[name]])


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def look_anew(args: Sequence[str], view: View) -> str:
        with cluster() as url:
            monkeypatch.setenv("CONTROLLER_ADDRESS", url)
            return look(args, {}, view)

    compare(name, [block(args, partial(look_anew, args)) for args in CHANGES[name]])
