"""Times for programs, and times and durations as people read and write them: `10s`, `500ms`, `2m`, `7d`.

A number without a unit is refused: `--older-than 7` most likely means days, and `--timeout 5` seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.escaping import quoted

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def iso(time: datetime | None) -> str | None:
    """ISO 8601 with the offset, always with microseconds, because Python 3.10 reads no shorter form; None for None."""
    return None if time is None else time.isoformat(timespec="microseconds")


def utc_text(time: datetime) -> str:
    """`2026-01-31T12:00:00Z`."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def until_text(until: datetime, now: datetime) -> str:
    """`2026-01-31T12:00:00Z, in 2h`; the time may be over where the list is stale."""
    left = round((until - now).total_seconds())
    return f"{utc_text(until)}, {f'in {duration_text(left)}' if left > 0 else age_text(until, now)}"


def age_text(time: datetime | None, now: datetime) -> str:
    """`12s ago`, in the largest unit of which there are at least two; `never` for None."""
    return "never" if time is None else f"{duration_text((now - time).total_seconds())} ago"


def duration_text(seconds: float) -> str:
    """`12s`, in the largest unit of which there are at least two; `0s` for a negative number."""
    whole = max(0, int(seconds))
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SUGGESTED = ("s", "m", "h", "d")


def parse_duration(option: str, text: str, *, shortest_secs: int = 0, longest_days: int = 1) -> float:
    """Seconds, more than 0, at least `shortest_secs` and at most `longest_days`.

    Raises UsageError, which names the option and the value.
    """
    longest = longest_days * _SECONDS["d"]
    match = _DURATION.fullmatch(text.strip().lower())
    number, unit = (float(match[1]), match[2]) if match else (0.0, None)
    if unit is not None and number > 0 and shortest_secs <= number * _SECONDS[unit] <= longest:
        return number * _SECONDS[unit]
    if match and unit is None:
        possible = [f"{match[1]}{each}" for each in _SUGGESTED if 0 < number * _SECONDS[each] <= longest]
        if possible:
            raise UsageError(f"{option} {quoted(text)} has no unit of time: write {_one_of(possible)}")
    limit, example = ("24h", "10s, 500ms or 2m") if longest_days == 1 else (f"{longest_days}d", "30m, 12h or 7d")
    least = f"of at least {shortest_secs}s" if shortest_secs else "greater than 0"
    raise UsageError(f"{option} {quoted(text)} is not a duration {least} and at most {limit}, such as {example}")


def _one_of(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
