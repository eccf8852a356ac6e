"""`ctl version`."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

from dbgpt_ctl import __version__
from tests.cli.schemas import validated

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def test_it_is_what_the_option_shows(run: Run) -> None:
    assert run("version").out == run("--version").out == f"ctl {__version__}\n"


def test_json_has_the_version_of_python_too(run: Run) -> None:
    shown = validated("version", json.loads(run("version", "-o", "json").out))
    assert shown == {"version": 1, "ctl": __version__, "python": platform.python_version()}


def test_options_before_it_do_no_harm(run: Run) -> None:
    assert run("--context", "nope", "version").out == f"ctl {__version__}\n"
