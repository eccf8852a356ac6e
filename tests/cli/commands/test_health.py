from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from dbgpt_ctl.errors import FailureCause

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

NOBODY = "http://127.0.0.1:1"


def test_one_healthy(run: Run, controller: str) -> None:
    done = run("health")
    header, row = done.lines
    assert re.split(" {2,}", header) == ["CONTROLLER", "STATUS", "LATENCY", "DETAIL"]
    assert re.fullmatch(rf"{controller}  healthy +[0-9.]+ms +ok", row)
    assert done.err == ""
    assert run("health", "--no-headers").lines[0].startswith(controller)


def test_no_controller(run: Run) -> None:
    done = run("health", "-a", NOBODY, expect=3)
    assert done.lines[1].split()[:3] == [NOBODY, "unreachable", "-"]
    fix = FailureCause.REFUSED.fix
    assert done.err == f"ctl: the controller is not healthy\nctl: {NOBODY}: {fix} [connection-refused]\n"


def test_one_that_leaves(run: Run, fake: FakeController) -> None:
    fake.health = 503
    done = run("health", expect=3)
    assert re.split(" {2,}", done.lines[1])[1::2] == ["unhealthy", "leaving"]


def test_one_of_two_is_enough_unless_all_are_wanted(run: Run, fake: FakeController) -> None:
    both = f"{NOBODY},{fake.url}"
    assert len(run("health", "-a", both).lines) == 3
    done = run("health", "-a", both, "--all", expect=3)
    assert done.err.splitlines()[0] == "ctl: 1 of 2 controllers healthy"
    run("health", "-a", fake.url, "--all")


@pytest.mark.parametrize("form", ["json", "yaml", "csv"])
def test_for_scripts(run: Run, fake: FakeController, form: str) -> None:
    out = run("health", "-a", f"{NOBODY},{fake.url}", "-o", form).out
    if form == "csv":
        down, up = csv.DictReader(io.StringIO(out))
    else:
        down, up = json.loads(out) if form == "json" else yaml.safe_load(out)
        assert (down["latency_secs"], up["http_status"]) == (None, 200)
        assert up["latency_secs"] > 0
    assert (down["controller"], down["status"], down["cause"]) == (NOBODY, "unreachable", "connection-refused")
    assert (up["controller"], up["status"], up["detail"]) == (fake.url, "healthy", "ok")


def test_a_token_is_not_shown(run: Run, fake: FakeController) -> None:
    done = run("health", "-a", fake.url.replace("//", "//user:s3cret@"))
    assert "s3cret" not in done.out + done.err
    assert fake.url in done.out
