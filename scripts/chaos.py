"""Writes the figures of the last `make chaos` into docs/figures.md. Run it by hand, after a run on a quiet machine."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.markers import replaced

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "build" / "chaos.json"
FIGURES = ROOT / "docs" / "figures.md"
OMITTED = ("usual_refusal_secs", "longest_wait_for_its_locks_secs", "switched_after_secs", "longest_beat_secs")
"""Figures for those who work on the project only."""


def chaos_table(report: dict[str, dict[str, float]]) -> str:
    """A row per scenario: acknowledged and lost calls, and what else was counted."""
    heads = ("What dies", "Acknowledged", "Lost", "Failed calls", "Also measured")
    lines = [f"| {' | '.join(heads)} |", "|---|--:|--:|--:|---|"]
    lines += [f"| {' | '.join(_cells(scenario, dict(figures)))} |" for scenario, figures in report.items()]
    return "\n".join(lines)


def _cells(scenario: str, figures: dict[str, float]) -> list[str]:
    known = [_shown(figures.pop(name, None)) for name in ("acknowledged", "lost", "failed_calls")]
    rest = [_phrase(name, value) for name, value in figures.items() if name not in OMITTED]
    return [scenario, *known, ", ".join(rest)]


def _phrase(name: str, value: float) -> str:
    words = name.removesuffix("_secs").replace("_", " ")
    return f"{words} {_shown(value)} s" if name.endswith("_secs") else f"{words} {_shown(value)}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


if __name__ == "__main__":
    FIGURES.write_text(replaced(FIGURES.read_text(), "chaos", chaos_table(json.loads(REPORT.read_text()))))
