from __future__ import annotations

from benchmarks.charts import Table, drawn, tables

TEXT = """Measured on a day.

| Requests a second | ctl | DB-GPT |  | ratio | bound |
|-------------------|----:|-------:|-:|------:|------:|
| `list` & more     | 1,000 | 10.5 |  |    95 |  ≥ 30 |
| while beating     |   800 |      |  |       |       |

A note.

| Another kind of table | figure |
|---|---|
| a | 1 |
"""
TABLE = Table(
    "Requests a second", ("ctl", "DB-GPT"), (("list & more", (1000.0, 10.5)), ("while beating", (800.0, None)))
)


def test_tables_that_compare_sides_are_read() -> None:
    assert list(tables(TEXT)) == [TABLE]


def test_a_chart_has_a_bar_for_each_figure_and_escapes_names() -> None:
    chart = drawn(TABLE)
    assert chart.count('fill="#1f6feb"') == 2 + 1  # two bars and the legend
    assert chart.count('fill="#8b949e"') == 1 + 1
    assert "list &amp; more" in chart
    assert ">1,000</text>" in chart
