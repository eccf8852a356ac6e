"""Times for programs, and times and durations as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

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
