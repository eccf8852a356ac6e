"""A real Prometheus with the configuration and the rules of deploy/prometheus, whose times are made short."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import promql_parser
import yaml

from tests.support.dbgpt_process import Process, until
from tests.support.ports import free_port
from tests.support.process import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FOLDER = ROOT / "deploy" / "prometheus"
MINIMUM = "dbgpt_controller:instances_routable:min"
TIMES_FASTER = 30
"""How much shorter all times of the rules are. Thresholds stay as they are."""
SCRAPE_SECS = 1
PATIENCE_SECS = 120.0
_RANGE = re.compile(r"\[([^\]:]+)(?::([^\]]+))?\]")


def in_a_hurry(rules: str, times: int = TIMES_FASTER) -> str:
    """A file of rules whose `for`, `keep_firing_for` and ranges are so many times shorter. All else is as it was."""
    document = yaml.safe_load(rules)
    for rule in (rule for group in document["groups"] for rule in group["rules"] or ()):
        for name in ("for", "keep_firing_for"):
            if name in rule:
                rule[name] = _shorter(rule[name], times)
        rule["expr"] = _RANGE.sub(lambda found: _shorter_range(found, times), rule["expr"])
    return yaml.safe_dump(document, sort_keys=False)


def _shorter_range(found: re.Match[str], times: int) -> str:
    return f"[{':'.join(_shorter(text, times) for text in found.groups() if text)}]"


def _shorter(text: str, times: int) -> str:
    return f"{promql_parser.parse_duration(text) // timedelta(milliseconds=times)}ms"


@dataclass(frozen=True)
class Alert:
    """One alert that fires."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]

    def is_one(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether it is that alert, with these labels among its own."""
        return self.name == name and labels.items() <= self.labels.items()

    def __str__(self) -> str:
        rest = [f"{name}={value}" for name, value in self.labels.items() if name not in {"alertname", "job"}]
        return f"{self.name} {' '.join(rest)}"


class Prometheus:
    """Scrapes controllers and evaluates the rules."""

    def __init__(self, url: str, process: Process) -> None:
        self.url = url
        self.process = process
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def firing(self) -> list[Alert]:
        """All alerts that fire now."""
        active = self._get("/api/v1/alerts")["alerts"]
        return [Alert(each["labels"], each["annotations"]) for each in active if each["state"] == "firing"]

    def query(self, expression: str) -> dict[str, float]:
        """The values of an expression now, by the value of its only label beside job, or by an empty text."""
        found = self._get("/api/v1/query", query=expression)["result"]
        return {_label(each["metric"]): float(each["value"][1]) for each in found}

    def until_fires(self, name: str, /, **labels: str) -> Alert:
        """Waits until that alert fires."""
        return until(
            f"{name} {labels} fires",
            lambda: next((one for one in self.firing() if one.is_one(name, labels)), None),
            self.process,
            seconds=PATIENCE_SECS,
        )

    def until_ends(self, name: str, /, **labels: str) -> None:
        """Waits until that alert does not fire any more."""
        until(
            f"{name} {labels} ends",
            lambda: not any(one.is_one(name, labels) for one in self.firing()),
            self.process,
            seconds=PATIENCE_SECS,
        )

    def until_all_is_well(self, targets: int) -> None:
        """Waits until it has scraped so many controllers, has evaluated every rule since then, and no alert fires."""
        try:
            until(
                "end of all alerts",
                lambda: self.query("sum(up)") == {"": targets} and self._has_evaluated() and not self.firing(),
                self.process,
                seconds=PATIENCE_SECS,
            )
        except AssertionError as error:
            error.add_note(f"up: {self.query('up')}; firing: {', '.join(map(str, self.firing()))}")
            raise

    def _has_evaluated(self) -> bool:
        rules = [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]
        broken = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] == "err"]
        assert not broken, broken
        return all(rule["health"] == "ok" for rule in rules)

    def _get(self, path: str, **query: str) -> Any:
        answer = self._client.get(path, params=query)
        answer.raise_for_status()
        return answer.json()["data"]

    def close(self) -> None:
        self._client.close()


def _label(metric: Mapping[str, str]) -> str:
    return ",".join(value for name, value in metric.items() if name not in {"job", "__name__"})


@contextmanager
def prometheus(
    program: str, folder: Path, targets: Sequence[str], token_file: Path, minimum: Mapping[str, int]
) -> Iterator[Prometheus]:
    """Runs until the block is left, with data of its own. `minimum` is by model name, as a user writes minimum.yml."""
    (folder / "rules.yml").write_text(in_a_hurry((FOLDER / "rules.yml").read_text()))
    rules = [
        {
            "record": "dbgpt_controller:instances_routable:min",
            "labels": {"model_name": name},
            "expr": f"vector({number})",
        }
        for name, number in minimum.items()
    ]
    (folder / "minimum.yml").write_text(yaml.safe_dump({"groups": [{"name": "dbgpt-minimum", "rules": rules}]}))
    (folder / "prometheus.yml").write_text(_configuration(targets, token_file))
    port = free_port()
    argv = [
        program,
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = Process("prometheus", argv, environment({}), folder)
    running = Prometheus(f"http://127.0.0.1:{port}", process)
    try:
        until("Prometheus is ready", lambda: _is_ready(running.url), process)
        yield running
    finally:
        running.close()
        process.kill()


def _configuration(targets: Sequence[str], token_file: Path) -> str:
    """The example, with the addresses and the token of a user, and a scrape each second."""
    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    document["global"] = {"scrape_interval": f"{SCRAPE_SECS}s", "evaluation_interval": f"{SCRAPE_SECS}s"}
    [scrape] = document["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(token_file)
    scrape["static_configs"] = [{"targets": list(targets)}]
    return yaml.safe_dump(document)


def _is_ready(url: str) -> bool | None:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == httpx.codes.OK or None
    except httpx.TransportError:
        return None
