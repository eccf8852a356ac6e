"""promtool accepts what deploy/prometheus and the controllers have, and refuses a wrong copy of it."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

from tests.chaos.controllers import controllers
from tests.monitoring.conftest import missing
from tests.monitoring.prometheus import FOLDER, in_a_hurry
from tests.support.database_server import private_server
from tests.support.dbgpt_process import Process, until
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.ports import free_port
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = (FOLDER / "rules.yml").read_text()
ALERTS = [rule for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"] if "alert" in rule]


def check(promtool: str, *words: str, cwd: Path = FOLDER, text: str | None = None) -> tuple[int, str]:
    """The exit code, and what it says."""
    done = subprocess.run(
        [promtool, *words], cwd=cwd, input=text, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_the_rules_and_the_configuration_are_right(promtool: str, tmp_path: Path) -> None:
    assert check(promtool, "check", "rules", "rules.yml", "minimum.yml")[0] == 0
    config = (FOLDER / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(config.replace("/run/secrets/metrics.token", "metrics.token"))
    (tmp_path / "metrics.token").touch()
    for name in ("rules.yml", "minimum.yml"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    assert check(promtool, "check", "config", "prometheus.yml", cwd=tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("kind", "wrong", "reason"),
    [
        ("rules", RULES.replace("max by (job) (avg", "max by (job (avg", 1), "could not parse expression"),
        ("rules", RULES.replace("        for: 2m", "        for: soon", 1), "not a valid duration"),
        ("rules", RULES.replace("- alert: DbgptRegistryHeld", "- alarm: DbgptRegistryHeld"), "field alarm not found"),
        ("rules", RULES.replace("{{ $labels.model_name }} gets", "{{ $labels.model_name } gets", 1), "template"),
        ("config", "scrape_configs: [{job_name: a}, {job_name: a}]", "multiple scrape configs"),
        ("config", "rule_files: rules.yml", "cannot unmarshal"),
    ],
)
def test_wrong_files_are_refused(promtool: str, tmp_path: Path, kind: str, wrong: str, reason: str) -> None:
    assert wrong != RULES
    (tmp_path / "wrong.yml").write_text(wrong)
    code, said = check(promtool, "check", kind, "wrong.yml", cwd=tmp_path)
    assert code != 0
    assert reason in said


def test_each_alert_fires_and_falls_silent(promtool: str) -> None:
    code, said = check(promtool, "test", "rules", "rules_test.yml")
    assert code == 0, said


def _without(alert: str, index: int, key: str) -> str:
    """The rules, but the alert never fires, or lacks `for` or `keep_firing_for`."""
    document = yaml.safe_load(RULES)
    rules = [rule for group in document["groups"] for rule in group["rules"] if rule.get("alert") == alert]
    if key == "expr":
        rules[index]["expr"] = f"({rules[index]['expr']}) and on () vector(1) > 1"
    else:
        del rules[index][key]
    return yaml.safe_dump(document)


def _parts() -> Iterator[tuple[str, int, str]]:
    """The name of each alert, the number of the rule among those of that name, and a part of it."""
    seen: dict[str, int] = {}
    for alert in ALERTS:
        index = seen[alert["alert"]] = seen.get(alert["alert"], -1) + 1
        yield from ((alert["alert"], index, key) for key in ("expr", "for", "keep_firing_for") if key in alert)


@pytest.mark.parametrize(("alert", "index", "key"), list(_parts()))
def test_an_alert_without_a_part_fails_its_tests(
    promtool: str, tmp_path: Path, alert: str, index: int, key: str
) -> None:
    (tmp_path / "rules.yml").write_text(_without(alert, index, key))
    (tmp_path / "rules_test.yml").write_text((FOLDER / "rules_test.yml").read_text())
    code, said = check(
        promtool, "test", "rules", "--run", f"{alert}[:,].*|.*, {alert}:.*", "rules_test.yml", cwd=tmp_path
    )
    assert code != 0, "no test notices it"
    assert "got:" in said


def test_a_copy_in_a_hurry_differs_only_in_its_times() -> None:
    short = yaml.safe_load(in_a_hurry(RULES))
    rules = {rule.get("alert"): rule for group in short["groups"] for rule in group["rules"]}
    assert "[10000ms]" in rules["DbgptModelFlapping"]["expr"]
    assert "[60000ms:10000ms]" in rules["DbgptModelFlapping"]["expr"]
    assert (rules["DbgptControllerDown"]["for"], rules["DbgptDrainedForDays"]["keep_firing_for"]) == (
        "4000ms",
        "10000ms",
    )
    for group, changed in zip(yaml.safe_load(RULES)["groups"], short["groups"], strict=True):
        for rule, hurried in zip(group["rules"], changed["rules"], strict=True):
            assert [*rule] == [*hurried]
            assert rule.get("annotations") == hurried.get("annotations")
            assert rule["expr"].partition("[")[0] == hurried["expr"].partition("[")[0]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """The URL of a controller."""
    port = free_port()
    process = Process(f"controller-{port}", [*CTL, "serve", "--port", str(port), *options], environment({}), folder)
    try:
        until("an answer of the controller", lambda: _answers(f"http://127.0.0.1:{port}/api/health"), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.fixture(params=["embedded", "mariadb", "forwarding"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A controller of each kind."""
    if request.param == "mariadb":
        if absent := missing_programs():
            missing(absent)
        with private_server(MariaDBServer) as server, controllers(tmp_path, [server], 1) as [only]:
            yield only.url
    elif request.param == "embedded":
        with serving(tmp_path) as url:
            yield url
    else:
        with serving(tmp_path) as behind, serving(tmp_path, "--remote-addr", behind) as url:
            yield url


def test_a_scrape_is_as_prometheus_wants_it(promtool: str, url: str) -> None:
    for name in ("qwen3@llm", 'odd"\\ name@llm'):
        body = {"model_name": name, "host": "127.0.0.9", "port": 8001}
        for path in ("models", "heartbeat"):
            httpx.post(f"{url}/api/controller/{path}", json=body, trust_env=False).raise_for_status()
    start = 'dbgpt_controller_instances_routable{model_name="odd'
    text = until("instances in a scrape", lambda: _scrape_with(url, start))
    assert check(promtool, "check", "metrics", text=text) == (0, "")


def _scrape_with(url: str, start: str) -> str | None:
    text = httpx.get(f"{url}/metrics", trust_env=False).raise_for_status().text
    return text if f"\n{start}" in text else None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# TYPE dbgpt_requests counter\ndbgpt_requests 1\n", 'counter metrics should have "_total" suffix'),
        ("dbgpt_lag_milliseconds 1\n", "no help text"),
        ('dbgpt_up{name="a} 1\n', "error while linting"),
    ],
)
def test_a_wrong_scrape_is_refused(promtool: str, text: str, reason: str) -> None:
    code, said = check(promtool, "check", "metrics", text=text)
    assert code != 0
    assert reason in said
