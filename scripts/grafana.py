"""A Grafana dashboard as JSON, from rows of numbers, lines and tables.

Grafana's own SDK makes the JSON: its types are generated from the schemas of Grafana 11.6, so no field can be one that
Grafana does not know. Grafana 12 and 13 import the same form, which they call the classic model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    FieldTextAlignment,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.models.dashboard import Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """`expr` is PromQL with the variables of the dashboard; `legend` names a series by its labels, `{{instance}}`."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Number:
    """A panel with the newest value of one query. From `warn` on it is orange, from `bad` on red.

    Without any series it shows `unknown`: a panel that says 0 while no controller answers would claim too much.
    """

    title: str
    text: str
    query: Query
    warn: float | None = None
    bad: float | None = None
    unit: str = "short"
    width: int = 4


@dataclass(frozen=True)
class Lines:
    """A panel with series over time. `unit` is the id of a unit of Grafana."""

    title: str
    text: str
    unit: str
    queries: Sequence[Query]
    stacked: bool = False
    least: float | None = 0
    most: float | None = None
    """The ends of the axis; None where the values decide."""
    width: int = 8


@dataclass(frozen=True)
class Columns:
    """A table with a row for each combination of `labels`, and a column for the newest value of each query, whose
    legend is the head of the column.
    """

    title: str
    text: str
    labels: Mapping[str, str]
    """The head of the column of each label."""
    queries: Sequence[Query]
    units: Mapping[str, str] = field(default_factory=dict)
    """By the head of a column; a number without one counts something."""
    least: Mapping[str, float] = field(default_factory=dict)
    """By the head of a column: a number below it is red, and rows with low numbers come first."""
    width: int = 12


Content = Number | Lines | Columns


def dashboard_json(
    rows: Mapping[str, Sequence[Content]], *, uid: str, title: str, description: str, job_of: str, model_of: str
) -> str:
    """The text of a dashboard with an id for each panel, in their order.

    `job_of` is a metric that every controller exposes, `model_of` one with a series for each model: their labels are
    what the variables `job` and `model` offer. One job is one registry, because the gauges of two must not be mixed.
    """
    dashboard = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["dbgpt"])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .annotations([])
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_labels("job", f"label_values({job_of}, job)").label("Job"))
        .with_variable(_several(_labels("model", f'label_values({model_of}{{job="$job"}}, model_name)').label("Model")))
    )
    numbers = count(1)
    for name, contents in rows.items():
        dashboard.with_row(Row(name).id(next(numbers)))
        for content in contents:
            dashboard.with_panel(_panel(content, next(numbers)))
    return json.dumps(dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _labels(name: str, query: str) -> QueryVariable:
    variable = QueryVariable(name).datasource(SOURCE).query(query).sort(VariableSort.ALPHABETICAL_ASC)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _several(variable: QueryVariable) -> QueryVariable:
    everything = VariableOption(selected=True, text="All", value="$__all")
    return variable.multi(True).include_all(True).all_value(".*").current(everything)


def _panel(content: Content, number: int) -> Builder[Panel]:
    match content:
        case Number():
            panel: stat.Panel | table.Panel | timeseries.Panel = _number(content)
        case Lines():
            panel = _lines(content)
        case Columns():
            panel = _columns(content)
    panel.id(number).title(content.title).description(content.text).datasource(SOURCE).span(content.width)
    return panel


def _number(content: Number) -> stat.Panel:
    steps = [Threshold(value=None, color=GREEN)]
    steps += [Threshold(value=content.warn, color=ORANGE)] if content.warn is not None else []
    steps += [Threshold(value=content.bad, color=RED)] if content.bad is not None else []
    return (
        stat.Panel()
        .height(4)
        .unit(content.unit)
        .no_value("unknown")
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .color_mode(BigValueColorMode.BACKGROUND if len(steps) > 1 else BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(content.query, 0).instant())
    )


def _lines(content: Lines) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(show_legend=True).display_mode(LegendDisplayMode.TABLE)
    panel = (
        timeseries.Panel()
        .height(8)
        .unit(content.unit)
        .line_width(1)
        .fill_opacity(30 if content.stacked else 8)
        .draw_style(GraphDrawStyle.LINE)
        .show_points(VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if content.stacked else StackingMode.NONE))
        .legend(legend.placement(LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    for index, query in enumerate(content.queries):
        panel.with_target(_target(query, index).range())
    if content.least is not None:
        panel.min(content.least)
    return panel if content.most is None else panel.max(content.most)


def _columns(content: Columns) -> table.Panel:
    number = len(content.queries)
    values = ["Value"] if number == 1 else [f"Value #{_ref(index)}" for index in range(number)]
    heads = {**content.labels, **{value: query.legend for value, query in zip(values, content.queries, strict=True)}}
    order = {column: index for index, column in enumerate(heads)}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": heads}
    panel = (
        table.Panel()
        .height(8)
        .align(FieldTextAlignment.AUTO)
        .unit("short")
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(DataTransformerConfig(id_val="organize", options=organize))
    )
    for index, query in enumerate(content.queries):
        panel.with_target(_target(query, index).format(PromQueryFormat.TABLE).instant())
    for head, unit in content.units.items():
        panel.override_by_name(head, [DynamicConfigValue(id_val="unit", value=unit)])
    for head, least in content.least.items():
        steps = [Threshold(value=None, color=RED), Threshold(value=least, color=GREEN)]
        red = [
            DynamicConfigValue(
                id_val="thresholds", value=ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps).build()
            ),
            DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        ]
        panel.override_by_name(head, red).sort_by([common.TableSortByFieldState().display_name(head).desc(desc=False)])
    return panel


def _target(query: Query, index: int) -> Dataquery:
    return Dataquery().expr(query.expr).legend_format(query.legend).ref_id(_ref(index)).datasource(SOURCE)


def _ref(index: int) -> str:
    """A, B, C: the names of the queries of a panel."""
    return chr(ord("A") + index)
