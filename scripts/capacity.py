"""The tables of docs/capacity.md: what a cluster of so many instances needs, from the measured figures of
docs/figures.md, and how many series a controller has, from the declarations of its metrics.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.metrics.declarations import METRICS, Metric, MetricKind
from dbgpt_ctl.settings.schema import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

FIGURES = Path(__file__).parent.parent / "docs" / "figures.md"
BEAT_SECS = 20
"""Between two heartbeats of a DB-GPT worker for an instance."""
GIVE_UP_SECS = 5
"""After that a DB-GPT client closes its connection."""
SIZES = (100, 1_000, 10_000, 100_000)
MODEL = "model_name"
_CORES = ("cores, in memory", "cores, MariaDB", "cores, MariaDB and TLS")
_MEGABYTES = ("MB, in memory", "MB, MariaDB")
_ROUND_TO_MB = 10
_LEAST_CORES = 0.01


@dataclass(frozen=True)
class Costs:
    """Microseconds of a core for a heartbeat on a connection of its own, and megabytes by number of instances."""

    embedded: int
    database: int
    tls: int
    """What TLS adds."""
    megabytes: Sequence[tuple[int, int, int]]
    """Instances, megabytes embedded, megabytes with MariaDB, each after a list of all."""


def costs(figures: str) -> Costs:
    """The costs that the page of figures has. Raises ValueError where a figure is not there any more."""
    least, most = (int(found) for found in _found(r"new connection costs (\d+) to (\d+) microseconds more", figures))
    rows = re.findall(r"^\| ([\d,]+) instances +\| +\d+ \| +(\d+) \| +\d+ \| +(\d+) \|", figures, re.MULTILINE)
    if not rows:
        raise ValueError("the page of figures has no table of memory")
    return Costs(
        embedded=int(_found(r"\| this controller \| \d+ \| (\d+) \|", figures)[0]),
        database=int(
            _found(r"With MariaDB on the same machine a heartbeat on a new connection takes about (\d+)", figures)[0]
        ),
        tls=(least + most) // 2,
        megabytes=[(int(count.replace(",", "")), int(embedded), int(database)) for count, embedded, database in rows],
    )


def plan_table() -> str:
    """What clusters of several sizes need, for one controller that serves all of it."""
    cost = costs(FIGURES.read_text())
    heads = ("Instances", "heartbeats a second", *_CORES, *_MEGABYTES, "descriptors")
    return "\n".join([f"| {' | '.join(heads)} |", "|--:" * len(heads) + "|", *(_plan(size, cost) for size in SIZES)])


def _plan(instances: int, cost: Costs) -> str:
    rate = instances / BEAT_SECS
    cores = [_cores(rate * micros / 1e6) for micros in (cost.embedded, cost.database, cost.database + cost.tls)]
    memory = [str(_megabytes(instances, [(row[0], row[column]) for row in cost.megabytes])) for column in (1, 2)]
    return f"| {' | '.join([f'{instances:,}', f'{rate:,.0f}', *cores, *memory, f'{ceil(rate * GIVE_UP_SECS):,}'])} |"


def _cores(cores: float) -> str:
    return f"{cores:.2f}" if cores >= _LEAST_CORES else f"below {_LEAST_CORES}"


def _megabytes(instances: int, measured: Sequence[tuple[int, int]]) -> int:
    """Between two measured sizes on a straight line, rounded up."""
    (below, least), (above, most) = next(pair for pair in pairwise(measured) if pair[1][0] >= instances)
    exact = least + (most - least) * (instances - below) / (above - below)
    return ceil(exact / _ROUND_TO_MB) * _ROUND_TO_MB


def measured() -> str:
    """What was measured of the cluster that the table computes, and how much faster that is than DB-GPT's own."""
    figures = FIGURES.read_text()
    ratio = r"^\| heartbeat, new connection each +\|(?:[^|]*\|){3} +([\d.]+) \|"
    in_memory, mariadb = re.findall(ratio, figures, re.MULTILINE)
    (median,) = _found(r"\| a beat takes, median +\| +([\d,]+) ms", figures)
    (p99,) = _found(r"\| a beat takes, 99 of 100 less than +\| +([\d,]+) ms", figures)
    (unhealthy,) = _found(r"\| instances that turned unhealthy +\| +(\d+) \|", figures)
    return (
        f"On that machine a controller answers {in_memory} times as many such heartbeats a second as DB-GPT's own in\n"
        f"memory, and {mariadb} times as many with MariaDB. Measured, not computed: 100,000 instances sent heartbeats\n"
        f"over kept connections to one controller with MariaDB. Half of the heartbeats took {median} ms or less,\n"
        f"99 of 100 less than {p99} ms, and {unhealthy} instances expired ([speed](figures.md#speed))."
    )


def series(metric: Metric) -> int:
    """The most series of a metric for each value of its labels that have no fixed values, such as a model."""
    combinations = prod(len(values) for values in metric.values.values())
    return combinations * (len(metric.buckets) + 3 if metric.kind is MetricKind.HISTOGRAM else 1)


def of_a_model(*, changes: bool) -> int:
    """The most series of one model: gauges, or with `changes` the counters of what happened to it."""
    return sum(
        series(metric)
        for metric in METRICS
        if MODEL in metric.labels and (metric.kind is MetricKind.COUNTER) is changes
    )


def of_a_controller() -> int:
    """The most series of a controller, besides those of models, of status codes and of credentials."""
    return sum(series(metric) for metric in METRICS if set(metric.labels) <= {*metric.values, "version"})


def series_table() -> str:
    """How many series Prometheus gets from one controller."""
    (requests,) = (metric for metric in METRICS if "code" in metric.labels)
    rows = [
        ("each model", of_a_model(changes=False), "the gauges with `model_name`"),
        (
            "each model",
            of_a_model(changes=True),
            "`transitions_total`, one for each kind of change that has happened; most never do",
        ),
        (
            "each controller",
            of_a_controller(),
            "all others with fixed labels; most are the buckets of the three histograms",
        ),
        ("each status code", series(requests), "`requests_total`, one for each operation that was answered with it"),
        ("each token that expires, and the certificate", 1, "`credential_expiry_timestamp_seconds`"),
    ]
    return "\n".join(
        [
            "| For | Series at most | Which |",
            "|---|--:|---|",
            *(f"| {who} | {most} | {which} |" for who, most, which in rows),
        ]
    )


def database_connections() -> str:
    """The most connections of one controller to its database, by its default settings."""
    settings = ControllerSettings()
    size, overflow = settings.registry_db_pool_size, settings.registry_db_max_overflow
    return (
        f"A controller has at most {size + overflow} connections: `--registry-db-pool-size` ({size}) and "
        f"`--registry-db-max-overflow` ({overflow}).\n`max_connections` of the server must be above that of all."
    )


def _found(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"the page of figures does not say any more: {pattern}")
    return found.groups()
