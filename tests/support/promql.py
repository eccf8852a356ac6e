"""What is wrong with a PromQL expression about a controller, by the declarations of its metrics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, MatchOp, MatrixSelector, VectorSelector

from dbgpt_ctl.controller.metrics.declarations import METRICS, PREFIX, Metric, MetricKind, MetricScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from promql_parser import Matcher

OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus adds to every series of a scrape."""
OTHERS = {
    "up": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity", "model_name"},
    "ALERTS_FOR_STATE": {"alertname", "severity", "model_name"},
    "process_resident_memory_bytes": set[str](),
    "process_cpu_seconds_total": set[str](),
    "process_start_time_seconds": set[str](),
    "process_open_fds": set[str](),
    "process_max_fds": set[str](),
    "dbgpt_controller:instances_routable:min": {"model_name"},
    "dbgpt_controller:instances_routable:wanted": {"model_name"},
    "dbgpt_controller:instances_routable:below_min": {"model_name"},
}
"""The labels of the metrics of Prometheus itself, of those that its client library exposes for any process, and of what
the rules of deploy/prometheus record.
"""
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m"}
"""Grafana puts durations in their places; `$job` and `$model` stand in strings, and parse as they are."""


def problems(expr: str) -> list[str]:
    """Syntax errors; metrics, labels and label values that nobody declares; and wrong aggregations. Empty: all is well.

    All controllers agree on some gauges, so their sum is too high by the number of controllers: the aggregation next to
    them has to be a max, or a sum of each controller in a max. A counter that is not in a range, for `rate` or
    `increase`, falls to zero at each restart.
    """
    try:
        tree = _parsed(expr)
    except ValueError as error:
        return [f"{expr}: {error}"]
    selectors = _selectors(tree)
    found = [problem for selector, above in selectors for problem in _of_selector(selector, above)]
    known = {label for selector, _ in selectors for label in _labels(_name(selector))}
    return found + [f"{label}: no metric here has this label" for label in sorted(_grouped(tree) - known)]


def metrics_of(expr: str) -> set[str]:
    """The names of all metrics in an expression. Raises ValueError for a syntax error."""
    return {_name(selector) for selector, _ in _selectors(_parsed(expr))}


def unmatched(expr: str, series: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """The selectors of the expression that select none of the series (name and labels). Variables match anything, and
    so do the labels that Prometheus adds at a scrape.
    """
    selectors = [selector for selector, _ in _selectors(_parsed(expr))]
    return [str(one) for one in selectors if not any(_selects(one, name, labels) for name, labels in series)]


def _selects(selector: VectorSelector, name: str, labels: Mapping[str, str]) -> bool:
    if name != selector.name:
        return False
    for matcher in selector.matchers.matchers:
        if matcher.name in OF_TARGETS or matcher.value.startswith("$"):
            continue
        pattern = matcher.value if matcher.op in (MatchOp.Re, MatchOp.NotRe) else re.escape(matcher.value)
        found = re.fullmatch(pattern, labels.get(matcher.name, "")) is not None
        if found != (matcher.op in (MatchOp.Equal, MatchOp.Re)):
            return False
    return True


def labels_of(expr: str) -> set[str]:
    """The labels that a result of the expression can have. Raises ValueError for a syntax error."""
    return _result_labels(_parsed(expr))


def _result_labels(node: Any) -> set[str]:
    if isinstance(node, VectorSelector):
        return _labels(_name(node))
    if isinstance(node, AggregateExpr):
        return set() if node.modifier is None else set(node.modifier.labels)  # no expression here has `without`
    if isinstance(node, BinaryExpr):
        left, right = _result_labels(node.lhs), _result_labels(node.rhs)
        return left | right if str(node.op) == "or" else left or right
    if isinstance(node, Call):
        labels = set[str]().union(*map(_result_labels, node.args))
        return labels - {"le"} if node.func.name == "histogram_quantile" else labels
    inner = getattr(node, "expr", None) or getattr(node, "vector_selector", None)
    return set() if inner is None else _result_labels(inner)


def _parsed(expr: str) -> Any:
    for variable, duration in VARIABLES.items():
        expr = expr.replace(variable, duration)
    return promql_parser.parse(expr)


def declared(name: str) -> Metric | None:
    """The metric of a series of that name; a histogram has three kinds of series."""
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is MetricKind.HISTOGRAM else ("",)
        if name in {metric.full_name + suffix for suffix in suffixes}:
            return metric
    return None


def _selectors(tree: Any) -> list[tuple[VectorSelector, list[Any]]]:
    """Each selector with the expressions around it, the outermost first."""
    found: list[tuple[VectorSelector, list[Any]]] = []
    above: list[Any] = []

    def enter(node: Any) -> None:
        if isinstance(node, VectorSelector):
            found.append((node, list(above)))
        above.append(node)

    def leave(_node: Any) -> None:
        above.pop()

    promql_parser.walk(tree, enter, leave)
    return found


def _of_selector(selector: VectorSelector, above: list[Any]) -> Iterator[str]:
    name = _name(selector)
    metric = declared(name)
    if metric is None and name not in OTHERS:
        yield f"{name}: no such metric"
        return
    for matcher in selector.matchers.matchers:
        if matcher.name not in _labels(name):
            yield f"{name}: no label {matcher.name}"
        elif metric is not None and _never_matches(metric, matcher):
            yield f"{name}: {matcher.name} is never {matcher.value}"
    if metric is not None:
        yield from _of_aggregation(metric, above)


def _never_matches(metric: Metric, matcher: Matcher) -> bool:
    """Whether the label has fixed values, and the text is none of them. In `!=` it is a mistake too."""
    values = metric.values.get(matcher.name)
    exact = matcher.op in (MatchOp.Equal, MatchOp.NotEqual)
    pattern = re.escape(matcher.value) if exact else matcher.value
    return values is not None and not any(re.fullmatch(pattern, value) for value in values)


def _of_aggregation(metric: Metric, above: list[Any]) -> Iterator[str]:
    if metric.kind is not MetricKind.GAUGE and not any(isinstance(node, MatrixSelector) for node in above):
        yield f"{metric.full_name}: a counter needs rate or increase"
    if metric.scope is MetricScope.REGISTRY and not _takes_one_controller(above):
        yield f"{metric.full_name}: all controllers agree on it, so it needs max by"


def _takes_one_controller(above: list[Any]) -> bool:
    """Whether the next aggregation that does not keep each controller apart is a max."""
    aggregations = [node for node in above if isinstance(node, AggregateExpr)]
    while aggregations and (modifier := aggregations[-1].modifier) is not None and "instance" in modifier.labels:
        aggregations.pop()
    return bool(aggregations) and str(aggregations[-1].op) == "max"


def _name(selector: VectorSelector) -> str:
    return selector.name or ""


def _labels(name: str) -> set[str]:
    metric = declared(name)
    if metric is None:
        return OTHERS.get(name, set()) | OF_TARGETS
    return {*metric.labels, *OF_TARGETS} | ({"le"} if name == f"{PREFIX}{metric.name}_bucket" else set())


def _grouped(tree: Any) -> set[str]:
    """All labels that the expression groups or joins by."""
    found: set[str] = set()

    def enter(node: Any) -> None:
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        elif isinstance(node, BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
            found.update(node.modifier.matching.labels)

    promql_parser.walk(tree, enter, lambda _node: None)
    return found
