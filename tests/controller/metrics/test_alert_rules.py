"""The alerts of deploy/prometheus: what they read is declared, and a person at night finds all that they need.

tests/monitoring lets a real Prometheus run them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dbgpt_ctl.controller.metrics.declarations import PREFIX
from dbgpt_ctl.controller.service.checks import MAX_CLOCK_OFFSET_SECS
from dbgpt_ctl.diagnosis.configuration import NEARLY_FULL
from dbgpt_ctl.domain.controllers import EXPIRES_SOON
from tests.support.documents import anchors
from tests.support.process import ROOT, ctl
from tests.support.promql import OTHERS, labels_of, problems

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "deploy" / "prometheus"
ANNOTATIONS = {"summary", "description", "command", "runbook_url"}
MINIMUM = "dbgpt_controller:instances_routable:min"


def _rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"] or ()]


RULES = _rules((FOLDER / "rules.yml").read_text())
ALERTS = [rule for rule in RULES if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
by_name = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")


def test_there_is_an_alert_for_each_thing_that_can_go_wrong() -> None:
    assert [name.removeprefix("Dbgpt") for name in NAMES] == [
        *("AllControllersDown", "ClockOffset", "ControllerDown", "CredentialExpires", "DatabaseErrors"),
        *("DrainedForDays", "HeartbeatsSlow", "ModelBelowMinimum", "ModelFlapping", "ModelWithoutInstances"),
        *("RegistryHeld", "RegistryNearlyFull", "RegistryStale"),
    ]


@pytest.mark.parametrize("rule", RULES, ids=[rule.get("alert") or rule["record"] for rule in RULES])
def test_rules_read_what_is_declared(rule: dict[str, Any]) -> None:
    """Other expressions are found: tests/scripts/test_dashboard.py."""
    assert problems(rule["expr"]) == []


def test_what_rules_record_is_known_to_that_check() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule} | {MINIMUM}
    assert recorded == {name for name in OTHERS if name.startswith("dbgpt_controller:")}


@by_name
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert set(alert["annotations"]) == ANNOTATIONS
    assert alert["annotations"]["runbook_url"] == f"docs/on-call.md#{alert['alert'].lower()}"
    assert alert["alert"].lower() in anchors(ROOT / "docs" / "on-call.md")


@by_name
def test_an_alert_names_only_labels_that_it_has(alert: dict[str, Any]) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    assert named <= labels_of(alert["expr"])


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("max by (cluster) (up)", {"cluster"}),
        (f'max by (model_name) ({PREFIX}instances{{state="healthy"}}) > 0 unless {PREFIX}leaving', {"model_name"}),
        ("histogram_quantile(0.9, sum by (le, instance) (rate(up[5m]))) > 1", {"instance"}),
    ],
)
def test_labels_that_an_aggregation_takes_away_are_known(query: str, labels: set[str]) -> None:
    assert labels_of(query) == labels


@by_name
def test_the_command_exists(alert: dict[str, Any]) -> None:
    """Each verb and option of it, and a name stands where no shell and no option parser looks into it."""
    command = alert["annotations"]["command"]
    for plain in re.findall(r"ctl [a-z][a-z0-9 -]*", command):
        words = plain.split()[1:]
        verb = [word for word in words if not word.startswith("-")][: 2 if words[0] in {"db", "models"} else 1]
        shown = ctl(*verb, "--help").out
        assert not [word for word in words if word.startswith("--") and word != "--" and word not in shown]
    named = re.findall(r"\{\{[^}]*\$labels\.model_name[^}]*\}\}", command)
    assert [command.endswith(f"-- '{each}'") for each in named] == [True] * len(named)
    assert all(each.startswith("""{{ reReplaceAll "['\\\\\\\\]" "'\\\\$0'" """) for each in named)


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_a_hostile_name_is_one_argument_in_each_shell(shell: str, tmp_path: Path) -> None:
    """promtool holds that these are the commands of the alerts: tests/monitoring."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    expected = [
        (alert["exp_labels"]["model_name"], alert["exp_annotations"]["command"])
        for group in yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
        for test in group.get("alert_rule_test", ())
        for alert in test["exp_alerts"]
        if "'" in alert["exp_labels"].get("model_name", "")
    ]
    assert len(expected) > 1
    script = tmp_path / "ctl"
    script.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    script.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for name, command in expected:
        done = subprocess.run([shell, "-c", command], cwd=tmp_path, env=env, capture_output=True, check=True)
        assert done.stdout.decode().splitlines() == ["why", "--", name]
    assert not (tmp_path / "X").exists()


def test_alerts_and_ctl_doctor_agree() -> None:
    """One threshold for one fact: what `ctl doctor` calls soon, off and nearly full."""
    text = {rule["alert"]: rule["expr"] for rule in ALERTS}
    assert f"< {EXPIRES_SOON.days} * 86400" in text["DbgptCredentialExpires"]
    assert f"> {MAX_CLOCK_OFFSET_SECS:g}" in text["DbgptClockOffset"]
    assert f"> {NEARLY_FULL}" in text["DbgptRegistryNearlyFull"]


def test_the_example_of_a_minimum_is_a_rule_once_it_is_uncommented() -> None:
    text = (FOLDER / "minimum.yml").read_text()
    assert _rules(text) == []
    [example] = _rules(re.sub(r"(?m)^(      )# ", r"\1", text))
    assert example == {"record": MINIMUM, "labels": {"model_name": "qwen3@llm"}, "expr": "vector(2)"}


def test_prometheus_scrapes_the_job_of_the_alerts_and_reads_every_file_of_rules() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert [scrape["job_name"] for scrape in config["scrape_configs"]] == ["dbgpt-controller"]
    files = {path.name for path in FOLDER.glob("*.yml") if "groups" in yaml.safe_load(path.read_text())}
    assert set(config["rule_files"]) == files
    patterns = re.findall(r'job=~"([^"]*)"', " ".join(rule["expr"] for rule in ALERTS))
    assert set(patterns) == {"dbgpt-controller.*"}
