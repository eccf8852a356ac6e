"""How a list of instances looks in each format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.stdout import Format, print_csv, print_json, print_lines, print_table, print_yaml
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.cli.parsing.references import reference_to
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbgpt_ctl.client import ReportedInstance

API_KEYS = (
    "model_name",
    "host",
    "port",
    "weight",
    "check_healthy",
    "healthy",
    "enabled",
    "prompt_template",
    "last_heartbeat",
)
STATE_COLOURS: dict[str, str] = {
    InstanceState.HEALTHY: "green",
    InstanceState.DRAINED: "yellow",
    InstanceState.UNHEALTHY: "red",
    InstanceState.DEREGISTERED: "magenta",
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


def print_instances(
    objects: Sequence[dict[str, Any]],
    instances: Sequence[ReportedInstance],
    form: Format,
    *,
    now: datetime,
    headers: bool,
) -> None:
    """Prints them on stdout. `objects` are the API's own, `instances` the same, parsed; `now` is the controller's."""
    match form:
        case Format.JSON:
            print_json(objects)
        case Format.YAML:
            print_yaml(objects)
        case Format.CSV:
            print_csv(API_KEYS, objects, headers=headers)
        case Format.NAME:
            print_lines(reference_to(each) for each in objects)
        case Format.TABLE | Format.WIDE if instances:
            columns, rows = table_of(instances, form, now=now)
            print_table(columns, rows, headers=headers)


def table_of(
    instances: Iterable[ReportedInstance], form: Format, *, now: datetime
) -> tuple[Sequence[Column], list[list[str]]]:
    """The columns of table or wide, and a row for each."""
    wide = form is Format.WIDE
    return _WIDE if wide else _COLUMNS, [_row(each, now, wide=wide) for each in instances]


def _row(instance: ReportedInstance, now: datetime, *, wide: bool) -> list[str]:
    name, _, kind = instance.model_name.partition("@")
    cells = [
        escaped(name),
        escaped(kind) or "-",
        escaped(instance.host),
        str(instance.port),
        instance.state,
        _beat(instance, now),
        weight_text(instance.weight),
    ]
    if not wide:
        return cells
    beat = instance.last_heartbeat
    return [
        *cells,
        escaped(str(instance.prompt_template or "-")),
        "yes" if instance.check_healthy else "no",
        "-" if beat is None else _local(beat) if instance.beat_is_local else utc(beat),
    ]


def _beat(instance: ReportedInstance, now: datetime) -> str:
    """No age of a time whose zone nobody knows: it might be hours off."""
    if instance.beat_is_local and instance.last_heartbeat is not None:
        return _local(instance.last_heartbeat)
    return age_of(instance.last_heartbeat, now)


def _local(beat: datetime) -> str:
    return beat.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")


def utc(beat: datetime) -> str:
    """To the second, with a Z at the end."""
    return beat.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def weight_text(weight: Any) -> str:
    """As short as it can be; a stranger's value."""
    return f"{weight:g}" if isinstance(weight, int | float) else escaped(str(weight))


def age_of(beat: datetime | None, now: datetime) -> str:
    """`12s ago` and its like, in the largest unit of which there are two; never negative."""
    return "never" if beat is None else f"{span((now - beat).total_seconds())} ago"


def span(seconds: float) -> str:
    """`12s` and its like, in the largest unit of which there are two; never negative."""
    whole = max(0, int(seconds))
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
