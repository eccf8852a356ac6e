"""A process with another clock: Debian's faketime, loaded into it."""

from __future__ import annotations

from pathlib import Path

_LIBRARY = "faketime/libfaketimeMT.so.1"


def missing_faketime() -> str | None:
    """What must be installed; None when it is there."""
    return None if _library() else "libfaketime not found: apt-get install faketime"


def _library() -> Path | None:
    return next((each for root in ("/usr/lib", "/usr/local/lib") for each in Path(root).glob(f"**/{_LIBRARY}")), None)


def other_clock(seconds: int, zone: str) -> dict[str, str]:
    """The variables of a process whose clock is so many seconds ahead (negative: behind), in another time zone."""
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": zone,
    }
