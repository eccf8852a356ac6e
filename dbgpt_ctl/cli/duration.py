"""Spans of time as people write them: `10s`, `500ms`, `2m`, or a bare number of seconds."""

from __future__ import annotations

import re

from dbgpt_ctl.cli.text import quoted
from dbgpt_ctl.errors import UsageError

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 24 * 3600.0


def parse_duration(option: str, text: str) -> float:
    """Seconds, more than 0 and at most a day. Raises UsageError, which names the option and the value."""
    found = _SPAN.fullmatch(text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2] or "s"] if found else 0.0
    if not 0 < seconds <= _LONGEST:
        raise UsageError(
            f"{option} {quoted(text)} is not a time of more than 0 and at most 24h, such as 10s, 500ms or 2m"
        )
    return seconds
