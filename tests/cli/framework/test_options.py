"""Options that several commands share."""

from __future__ import annotations

import pytest

from dbgpt_ctl.cli.framework.options import choice
from dbgpt_ctl.cli.output.stdout import OutputFormat


def test_a_format_is_one_of_those_that_the_command_takes() -> None:
    parse = choice(("text", "json"), OutputFormat)["parser"]
    assert parse("json") is OutputFormat.JSON
    with pytest.raises(ValueError, match="'yaml' is not one of text, json"):
        parse("yaml")
