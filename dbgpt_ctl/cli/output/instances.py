"""Instances as rows of a table, and the texts of their times and weights."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.table import Column, coloured
from dbgpt_ctl.client.results import state_text
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.texts import state_label
from dbgpt_ctl.text.escaping import escaped
from dbgpt_ctl.text.times import age_text, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from dbgpt_ctl.cli.documents.instances import InstanceIdentity
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey


STATE_COLOURS: dict[str, str] = {
    InstanceState.HEALTHY: "green",
    InstanceState.UNHEALTHY: "red",
    InstanceState.DEREGISTERED: "magenta",
    **{state_label(state, drained=True): "yellow" for state in InstanceState},
    **{state_label(InstanceState.HEALTHY, drained=drained, held=True): "yellow" for drained in (False, True)},
}
"""By the text of a state. What is drained is planned, whatever its state."""
KEY_COLUMNS = (Column("NAME"), Column("TYPE"), Column("HOST"), Column("PORT", folds=False))
"""The columns of `key_cells`."""
STATE_COLUMN = Column("STATE", colours=STATE_COLOURS, folds=False)
_COLUMNS = (
    *KEY_COLUMNS,
    STATE_COLUMN,
    Column("LAST BEAT", folds=False),
    Column("WEIGHT", folds=False),
)
_WIDE = (
    *_COLUMNS,
    Column("PROMPT"),
    Column("CHECKED", folds=False),
    Column("LAST BEAT AT", folds=False),
    Column("REGISTERED", folds=False),
    Column("DEREGISTERED", folds=False),
    Column("DRAINED", folds=False),
    Column("DRAINED UNTIL", folds=False),
    Column("DRAIN REASON"),
)


def identity_object(key: InstanceKey) -> InstanceIdentity:
    """The identity of an instance in a document."""
    return {"model_name": key.model_name, "host": key.host, "port": key.port}


def instance_table(
    instances: Iterable[KnownInstance], *, wide: bool, now: datetime
) -> tuple[Sequence[Column], list[list[str]]]:
    """The columns of `-o table` or `-o wide`, and a row for each instance. Ages are relative to `now`."""
    return _WIDE if wide else _COLUMNS, [_row(instance, now, wide=wide) for instance in instances]


def _row(instance: KnownInstance, now: datetime, *, wide: bool) -> list[str]:
    cells = [
        *key_cells(instance.key),
        state_text(instance),
        _last_beat(instance, now),
        weight_text(instance.weight),
    ]
    if not wide:
        return cells
    beat = instance.last_heartbeat
    times = (instance.registered_at, instance.deregistered_at)
    return [
        *cells,
        escaped(str(instance.prompt_template or "-")),
        "yes" if instance.check_healthy else "no",
        "-" if beat is None else _local(beat) if instance.beat_is_local else utc_text(beat),
        *("-" if time is None else age_text(time, now) for time in times),
        _drained_since(instance, now),
        _until(instance),
        escaped((instance.drain and instance.drain.reason) or "-"),
    ]


def key_cells(key: InstanceKey) -> list[str]:
    """The identity of an instance, escaped."""
    return [escaped(key.name), escaped(key.type) or "-", escaped(key.host), str(key.port)]


def coloured_state(instance: KnownInstance) -> str:
    """Its state, and whether it is drained or held, in its colour."""
    text = state_text(instance)
    return coloured(text, STATE_COLOURS[text])


def _drained_since(instance: KnownInstance, now: datetime) -> str:
    """The age of its drain; `yes` where the time is unknown or it was registered so, `-` where it is not drained."""
    if instance.drain is None:
        return "-"
    return age_text(instance.drain.since, now) if instance.drain.since else "yes"


def _until(instance: KnownInstance) -> str:
    """The end of its drain; `undrain` where only that ends it, `-` where it is not drained or its facts are unknown."""
    if instance.drain is None or "drain" not in instance.object:
        return "-"
    return utc_text(instance.drain.until) if instance.drain.until else "undrain"


def _last_beat(instance: KnownInstance, now: datetime) -> str:
    """The age of the last heartbeat; the time itself where its zone is unknown and an age could be hours off."""
    if instance.beat_is_local and instance.last_heartbeat is not None:
        return _local(instance.last_heartbeat)
    return age_text(instance.last_heartbeat, now)


def _local(beat: datetime) -> str:
    return beat.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")


def weight_text(weight: Any) -> str:
    """As short as possible. The value is an unknown client's, and may be no number."""
    is_number = isinstance(weight, int | float) and abs(weight) <= sys.float_info.max
    return f"{weight:g}" if is_number else escaped(str(weight))
