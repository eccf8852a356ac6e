"""Options whose value may be left out."""

from __future__ import annotations

import pytest

from dbgpt_ctl.cli.parsing.optional_values import OPTIONAL_VALUES, value_after_space, with_optional_values
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.settings.value_types import FLAG


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
