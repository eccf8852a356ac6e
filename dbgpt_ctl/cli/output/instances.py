"""Instances as rows of a table, and the texts of their times and weights."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbgpt_ctl.client.responses import KnownInstance, ModelCounts

_DRAINED = ",drained"
STATE_COLOURS: dict[str, str] = {
    InstanceState.HEALTHY: "green",
    InstanceState.UNHEALTHY: "red",
    InstanceState.DEREGISTERED: "magenta",
    **{f"{state}{_DRAINED}": "yellow" for state in InstanceState},
}
_COLUMNS = (
    Column("NAME"),
    Column("TYPE"),
    Column("HOST"),
    Column("PORT", folds=False),
    Column("STATE", colours=STATE_COLOURS, folds=False),
    Column("LAST BEAT", folds=False),
    Column("WEIGHT", folds=False),
)
_WIDE = (*_COLUMNS, Column("PROMPT"), Column("CHECKED", folds=False), Column("LAST BEAT AT", folds=False))
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def instance_table(
    instances: Iterable[KnownInstance], *, wide: bool, now: datetime
) -> tuple[Sequence[Column], list[list[str]]]:
    """The columns of `-o table` or `-o wide`, and a row for each instance. Ages are relative to `now`."""
    return _WIDE if wide else _COLUMNS, [_row(instance, now, wide=wide) for instance in instances]


def _row(instance: KnownInstance, now: datetime, *, wide: bool) -> list[str]:
    name, _, model_type = instance.model_name.partition("@")
    cells = [
        escaped(name),
        escaped(model_type) or "-",
        escaped(instance.host),
        str(instance.port),
        state_text(instance),
        _last_beat(instance, now),
        weight_text(instance.weight),
    ]
    if not wide:
        return cells
    beat = instance.last_heartbeat
    return [
        *cells,
        escaped(str(instance.prompt_template or "-")),
        "yes" if instance.check_healthy else "no",
        "-" if beat is None else _local(beat) if instance.beat_is_local else utc_text(beat),
    ]


def state_text(instance: KnownInstance) -> str:
    """`unhealthy`, or `unhealthy,drained`."""
    return instance.state if instance.drain is None else f"{instance.state}{_DRAINED}"


def counted_text(counts: ModelCounts) -> str:
    """`2 healthy, 1 unhealthy; 1 drained, 1 held`: the states, and how many of these are drained or held; or empty."""
    states, overlapping = (
        ", ".join(f"{count} {name}" for name in names if (count := getattr(counts, name)))
        for names in (InstanceState, ("drained", "held"))
    )
    return "; ".join(filter(None, (states, overlapping)))


def _last_beat(instance: KnownInstance, now: datetime) -> str:
    """The age of the last heartbeat; the time itself where its zone is unknown and an age could be hours off."""
    if instance.beat_is_local and instance.last_heartbeat is not None:
        return _local(instance.last_heartbeat)
    return age_text(instance.last_heartbeat, now)


def _local(beat: datetime) -> str:
    return beat.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")


def utc_text(time: datetime) -> str:
    """`2026-01-31T12:00:00Z`."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def weight_text(weight: Any) -> str:
    """As short as possible. The value is an unknown client's, and may be no number."""
    return f"{weight:g}" if isinstance(weight, int | float) else escaped(str(weight))


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
