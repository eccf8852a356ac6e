"""deploy/grafana/dashboard.json: Grafana can import it, and its queries are about what a controller exposes.

No Grafana runs here. Its structure is compared with Grafana's own types, which its SDK has for Grafana 11.6.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dbgpt_ctl.controller.metrics.declarations import METRICS
from scripts import generate
from tests.support.promql import declared, metrics_of, problems

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN = json.loads(generate.DASHBOARD.read_text())
GRID_WIDTH = 24
OLDEST_SCHEMA = 39
"""Of Grafana 11.0, which docs/metrics.md names as the oldest."""
UNITS = {"short", "s", "bytes", "percentunit", "reqps", "cpm", "bool_yes_no"}
"""Ids of Grafana's units; it shows an unknown one as a text after the number."""
NOT_SHOWN = {
    "model_names_in_other": "0 in a healthy cluster; docs/metrics.md explains it",
    "watchers_limit": "10,000 in general; a controller that refuses a watch counts a request with 503",
}
"""Metrics that no panel shows, and why."""


def _panels(dashboard: Any) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def _queries(dashboard: Any) -> Iterator[tuple[str, str]]:
    """The title of a panel and the expression of each of its queries."""
    for panel in _panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def _variables(dashboard: Any) -> dict[str, Any]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def _faults(dashboard: Any) -> list[str]:
    """What would be wrong with this dashboard in Grafana."""
    everything = dashboard["panels"]
    ids = [panel["id"] for panel in everything]
    faults = [f"id {number} twice" for number in set(ids) if ids.count(number) > 1]
    if dashboard["schemaVersion"] < OLDEST_SCHEMA:
        faults.append(f"schema {dashboard['schemaVersion']}")
    if dashboard.get("id") is not None:
        faults.append("an id of one Grafana")
    faults += [f"{uid}: a data source of one Grafana" for uid in _sources(dashboard) if uid != "${datasource}"]
    faults += [f"overlap at {cell}" for cell in _overlaps(everything)]
    for panel in _panels(dashboard):
        faults += [f"{panel['title']}: {fault}" for fault in _faults_of(panel)]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(everything))) - {"__rate_interval"}
    return faults + [f"${name}: no such variable" for name in used - set(_variables(dashboard))]


def _faults_of(panel: Any) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    overrides = [change for one in panel["fieldConfig"]["overrides"] for change in one["properties"]]
    units = {defaults.get("unit"), *(change["value"] for change in overrides if change["id"] == "unit")}
    yield from (f"unit {unit}" for unit in units - UNITS)
    if not panel.get("description"):
        yield "no description"
    names = [target["refId"] for target in panel["targets"]]
    if len(set(names)) < len(names):
        yield "a name of a query twice"
    yield from (problem for target in panel["targets"] for problem in problems(target["expr"]))


def _sources(node: Any) -> Iterator[str]:
    """The uid of every data source that is named anywhere."""
    if isinstance(node, dict):
        if isinstance(node.get("datasource"), dict):
            yield node["datasource"]["uid"]
        for value in node.values():
            yield from _sources(value)
    elif isinstance(node, list):
        for value in node:
            yield from _sources(value)


def _overlaps(panels: list[Any]) -> Iterator[tuple[int, int]]:
    """Cells of the grid that two panels take, or that are beside it."""
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken or x >= GRID_WIDTH:
                    yield x, y
                taken.add((x, y))


def test_grafana_can_import_it() -> None:
    assert _faults(SHOWN) == []
    assert len(_panels(SHOWN)) > 20


def test_grafanas_own_types_read_it_and_lose_nothing() -> None:
    register_default_plugins()
    read = Dashboard.from_json(SHOWN)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == SHOWN


@pytest.mark.parametrize(("title", "expr"), list(_queries(SHOWN)))
def test_a_query_parses_and_is_about_what_is_declared(title: str, expr: str) -> None:
    assert problems(expr) == []


def test_variables_choose_the_source_the_job_and_the_models() -> None:
    variables = _variables(SHOWN)
    assert list(variables) == ["datasource", "job", "model"]
    for name, label in (("job", "job"), ("model", "model_name")):
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variables[name]["query"])
        assert found is not None
        assert found[2] == label
        (metric,) = metrics_of(found[1])
        assert declared(metric) is not None
    assert variables["model"]["multi"]
    assert not variables["job"]["multi"], "the gauges of two registries must not be mixed"


def test_every_query_is_of_the_chosen_job() -> None:
    for title, expr in _queries(SHOWN):
        assert expr.count("{") == expr.count('{job="$job"'), title


def test_every_metric_is_shown() -> None:
    shown = {metric.name for _, expr in _queries(SHOWN) for name in metrics_of(expr) if (metric := declared(name))}
    assert {metric.name for metric in METRICS} - shown == set(NOT_SHOWN)


def test_columns_of_a_table_have_the_names_of_its_labels_and_queries() -> None:
    for panel in _panels(SHOWN):
        if panel["type"] != "table":
            continue
        organize = panel["transformations"][-1]["options"]
        several = len(panel["targets"]) > 1
        values = {f"Value #{target['refId']}" if several else "Value" for target in panel["targets"]}
        labels = set(organize["renameByName"]) - values
        assert set(organize["indexByName"]) == values | labels
        for target in panel["targets"]:
            grouped = re.search(r"by \(([\w, ]+)\)", target["expr"])
            assert grouped is not None
            assert labels == set(grouped[1].split(", ")), panel["title"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: d["panels"][1].update(id=1), "id 1 twice"),
        (lambda d: d.update(schemaVersion=16), "schema 16"),
        (lambda d: d.update(id=7), "an id of one Grafana"),
        (lambda d: d["panels"][1]["datasource"].update(uid="P1809F7CD0C75ACF3"), "a data source of one Grafana"),
        (lambda d: d["panels"][2]["gridPos"].update(x=0), "overlap at"),
        (lambda d: d["panels"][1]["gridPos"].update(x=23), "overlap at"),
        (lambda d: d["panels"][1]["fieldConfig"]["defaults"].pop("unit"), "unit None"),
        (lambda d: d["panels"][1].pop("description"), "no description"),
        (lambda d: d["panels"][1]["targets"][0].update(expr="sum("), "sum("),
        (lambda d: d["panels"][1]["targets"][0].update(expr='sum(up{job="$jb"})'), "$jb: no such variable"),
        (lambda d: d["panels"][1]["targets"].append(d["panels"][1]["targets"][0]), "a name of a query twice"),
    ],
)
def test_a_wrong_dashboard_is_noticed(change: Any, fault: str) -> None:
    wrong = json.loads(json.dumps(SHOWN))
    change(wrong)
    assert any(fault in found for found in _faults(wrong)), _faults(wrong)


@pytest.mark.parametrize(
    ("expr", "problem"),
    [
        ("rate(up[5m)", "unexpected"),
        ("dbgpt_controller_instance", "no such metric"),
        ('max(dbgpt_controller_instances{model="a"})', "no label model"),
        ('max(dbgpt_controller_instances{state="gone"})', "state is never gone"),
        ('max(dbgpt_controller_instances{state=~"gone|lost"})', "state is never gone|lost"),
        ('max(dbgpt_controller_instances{state!="gone"})', "state is never gone"),
        ("max by (model) (dbgpt_controller_instances)", "model: no metric here has this label"),
        ("sum by (model_name) (dbgpt_controller_instances_routable)", "needs max by"),
        ("sum(sum by (instance) (dbgpt_controller_instances))", "needs max by"),
        ("sum by (instance) (dbgpt_controller_instances)", "needs max by"),
        ("sum(dbgpt_controller_requests_total)", "needs rate or increase"),
        ("max by (le) (dbgpt_controller_watchers)", "le: no metric here has this label"),
        ('max(up{pod="a"})', "no label pod"),
    ],
)
def test_a_wrong_query_is_noticed(expr: str, problem: str) -> None:
    assert any(problem in found for found in problems(expr)), problems(expr)


def test_a_right_query_has_no_problems() -> None:
    right = (
        'sum by (state) (max by (model_name, state) (dbgpt_controller_instances{job="a",state=~"healthy|unhealthy"}))',
        "histogram_quantile(0.9, sum by (le) (rate(dbgpt_controller_request_duration_seconds_bucket[5m])))",
        'increase(dbgpt_controller_transitions_total{cause="expire",model_name="x@llm"}[$__rate_interval])',
    )
    assert [problem for expr in right for problem in problems(expr)] == []
