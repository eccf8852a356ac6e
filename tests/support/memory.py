"""The memory of a process, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

MB = 1_000_000


def peak_bytes(pid: int) -> int:
    """The most resident memory that the process has had, in bytes, since its start or the last `reset_peak`."""
    return _status(pid, "VmHWM")


def resident_bytes(pid: int) -> int:
    """The resident memory of the process now, in bytes."""
    return _status(pid, "VmRSS")


def reset_peak(pid: int) -> None:
    """From now on `peak_bytes` counts anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        key, _, text = line.partition(":")
        if key == name:
            return int(text.split()[0]) * 1024
    raise ProcessLookupError(f"process {pid} has no {name}")
