"""Puts the figures of the last `make chaos` into docs/figures.md. Run by hand, after a run on a quiet machine."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "build" / "chaos.json"
FIGURES = ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- chaos:begin -->", "<!-- chaos:end -->"
LEFT_OUT = ("usual_refusal_secs", "longest_wait_for_its_locks_secs", "switched_after_secs", "longest_beat_secs")
"""Of interest to who works on it."""


def chaos_table(report: dict[str, dict[str, float]]) -> str:
    """A row per scenario: what was acknowledged and lost, and what else was counted."""
    heads = ("What dies", "Acknowledged", "Lost", "Failed calls", "Also measured")
    lines = [f"| {' | '.join(heads)} |", "|---|--:|--:|--:|---|"]
    lines += [f"| {' | '.join(_cells(scenario, dict(figures)))} |" for scenario, figures in report.items()]
    return "\n".join(lines)


def _cells(scenario: str, figures: dict[str, float]) -> list[str]:
    known = [_shown(figures.pop(name, None)) for name in ("acknowledged", "lost", "failed_calls")]
    rest = [_told(name, value) for name, value in figures.items() if name not in LEFT_OUT]
    return [scenario, *known, ", ".join(rest)]


def _told(name: str, value: float) -> str:
    words = name.removesuffix("_secs").replace("_", " ")
    return f"{words} {_shown(value)} s" if name.endswith("_secs") else f"{words} {_shown(value)}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def with_figures(text: str, table: str) -> str:
    """The text with the table between its markers. Raises ValueError without them."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the text needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


if __name__ == "__main__":
    FIGURES.write_text(with_figures(FIGURES.read_text(), chaos_table(json.loads(REPORT.read_text()))))
