"""What is written down is what the code does."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from dotenv import dotenv_values

from dbgpt_ctl.settings import ClientSettings, ControllerSettings, Settings, knobs_of
from dbgpt_ctl.settings.kinds import Seconds
from dbgpt_ctl.settings.knob import knob
from scripts import generate

RUN_GENERATE = "run `make generate`"


def test_env_example_is_up_to_date() -> None:
    assert generate.ENV_EXAMPLE.read_text() == generate.env_example(), RUN_GENERATE


def test_readme_has_the_settings_of_today() -> None:
    readme = generate.README.read_text()
    assert readme == generate.with_settings(readme), RUN_GENERATE


@pytest.mark.parametrize("settings", [ControllerSettings, ClientSettings])
def test_env_example_uncommented_is_all_defaults(settings: type[Settings]) -> None:
    lines = [line[1:] for line in generate.env_example().splitlines() if line.startswith("#CONTROLLER_")]
    values = dotenv_values(stream=io.StringIO("\n".join(lines)))
    assert [name for name in values if name in {each.variable for each in knobs_of(settings)}] == [
        each.variable for each in knobs_of(settings)
    ]
    loaded = settings.load({}, {name: text or "" for name, text in values.items()}, "")
    assert loaded == settings()
    assert loaded.remarks == ()


def test_a_new_knob_is_one_field_and_needs_new_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, repr=False)
    class Grown(ControllerSettings):
        shutdown_grace_secs: float = knob(12.0, Seconds(), "seconds to wait")

    before = generate.env_example(), generate.settings_tables()
    monkeypatch.setitem(generate.SECTIONS, "`ctl serve`", Grown)
    assert "# Seconds to wait (above 0, to 31536000).\n#CONTROLLER_SHUTDOWN_GRACE_SECS=12\n" in generate.env_example()
    row = "| `--shutdown-grace-secs` | `CONTROLLER_SHUTDOWN_GRACE_SECS` | `12` | above 0, to 31536000 | Seconds to wait"
    assert row in generate.settings_tables()
    assert row not in before[1]
    assert generate.with_settings(f"a\n{generate.BEGIN}\nold\n{generate.END}\nb\n") == (
        f"a\n{generate.BEGIN}\n\n{generate.settings_tables()}\n\n{generate.END}\nb\n"
    )
    assert Grown.load({}, {"CONTROLLER_SHUTDOWN_GRACE_SECS": "3"}, "").shutdown_grace_secs == 3.0


def test_a_readme_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="settings:begin"):
        generate.with_settings("# ctl\n")
