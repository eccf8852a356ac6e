from __future__ import annotations

import re
from dataclasses import replace

from benchmarks.load import MODELS, REGISTER, REGISTER_NEW


def test_known_names_are_those_of_the_instances_in_turn() -> None:
    script = REGISTER.script(2000)
    assert "sent % 2000" in script
    assert script == REGISTER.script(2000)
    assert f"i % {MODELS}" in script
    assert "i % 1000" in replace(REGISTER, models=1000).script(2000)


def test_new_names_are_never_sent_again() -> None:
    runs = [re.findall('"host": "([0-9a-f]+)-%d"', REGISTER_NEW.script(2000, count=3000)) for _ in range(20)]
    assert all(len(run) == 1 for run in runs)
    assert len({run[0] for run in runs}) == 20
    assert '"model_name": "new-%d@llm"' in REGISTER_NEW.script(2000)


def test_the_tables_say_which_names_are_known() -> None:
    assert (REGISTER.name, REGISTER_NEW.name) == ("register, a known name", "register, a new name")
