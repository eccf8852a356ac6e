"""Parses durations: `10s`, `500ms`, `2m`, `7d`, or a number of seconds without a unit."""

from __future__ import annotations

import re

from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.errors import UsageError

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(option: str, text: str, *, longest_days: int = 1) -> float:
    """Seconds, more than 0 and at most `longest_days`. Raises UsageError, which names the option and the value."""
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if not 0 < seconds <= longest_days * _SECONDS["d"]:
        longest, example = ("24h", "10s, 500ms or 2m") if longest_days == 1 else (f"{longest_days}d", "30m, 12h or 7d")
        raise UsageError(
            f"{option} {quoted(text)} is not a duration greater than 0 and at most {longest}, such as {example}"
        )
    return seconds
