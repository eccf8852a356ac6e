"""How an overview looks on a terminal, where it has to fit, and in a pipe, where it is whole."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.instances import span
from dbgpt_ctl.cli.output.stdout import is_terminal, wants_colour
from dbgpt_ctl.cli.output.table import Column, coloured, plain
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.commands.status import Overview, Told
    from dbgpt_ctl.cli.diagnosis.status_warnings import Concern
    from dbgpt_ctl.client.details import ControllerStatus, ModelCount

_WORDS = {"up": "green", "leaving": "yellow", "not ready": "yellow", "down": "red", "unknown": "yellow"}
_CONTROLLERS = (
    Column("CONTROLLER"),
    Column("STATUS", colours=_WORDS),
    Column("VERSION"),
    Column("UP FOR"),
    Column("LATENCY"),
)
_PROMPT_LINES = 2
"""Of the shell, below."""
_LEAST_ROWS = 3


def screen(overview: Overview, warnings: Sequence[Concern]) -> list[str]:
    """The lines; on a terminal at most as many as it has, as long as a handful of models fit."""
    colour, size = wants_colour(), shutil.get_terminal_size()
    controllers = [_row(each) for each in overview.controllers]
    head = [*plain(_CONTROLLERS, controllers, headers=True, colour=colour), "", _registry(overview.first), ""]
    room = size.lines - _PROMPT_LINES if is_terminal() else None
    shown, more = _cut([str(each) for each in warnings], None if room is None else max(_LEAST_ROWS, room // 4))
    tail = [f"{coloured('warning:', 'yellow' if colour else None)} {each}" for each in shown]
    tail = ["", *tail, *([f"and {more} more warnings (-o json shows all)"] if more else [])] if tail else []
    models = overview.first.models
    total = _sum(models)
    left = None if room is None else max(_LEAST_ROWS, room - len(head) - _height(tail, size.columns) - 2)
    return [*head, *_models(models, total, left, colour=colour), *tail]


def _row(told: Told) -> list[str]:
    of = told.status
    up = (
        "-"
        if of is None or of.time is None or of.started_at is None
        else span((of.time - of.started_at).total_seconds())
    )
    latency = "-" if told.latency is None else f"{told.latency * 1000:.1f}ms"
    return [escaped(told.controller), told.word, escaped(of.version) if of else "-", up, latency]


def _registry(first: ControllerStatus) -> str:
    place = f" at {escaped(first.place)}" if first.place else ""
    kept = "kept over restarts" if first.durable else "in memory only: gone when the controller ends"
    return f"registry: {escaped(first.kind)}{place}, {kept}; a beat may be {first.heartbeat_timeout_secs:g}s old"


def _models(models: Sequence[ModelCount], total: dict[str, int], room: int | None, *, colour: bool) -> list[str]:
    if not models:
        return ["no instances are registered"]
    worst_first = sorted(models, key=lambda each: bool(each.healthy)) if room is not None else list(models)
    fits = room is None or len(models) <= room
    shown = worst_first if fits else worst_first[: max(1, (room or 0) - 1)]
    colours = {"0": "red"}
    columns = (Column("MODEL"), Column("HEALTHY", colours=colours), *(Column(each.upper()) for each in _OTHERS))
    rows = [
        [escaped(each.model_name), str(each.healthy), *(_few(getattr(each, of)) for of in _OTHERS)] for each in shown
    ]
    told = ", ".join(f"{number} {state}" for state, number in total.items() if number)
    summary = f"{len(models)} model{'s' if len(models) != 1 else ''}: {told}"
    more = [] if fits else [f"and {len(models) - len(shown)} more models"]
    return [*plain(columns, rows, headers=True, colour=colour), *more, summary]


_OTHERS = (InstanceState.UNHEALTHY, InstanceState.DRAINED, InstanceState.DEREGISTERED)


def _few(number: int) -> str:
    """Zeros would hide what is not."""
    return str(number) if number else "-"


def _sum(models: Sequence[ModelCount]) -> dict[str, int]:
    return {state.value: sum(getattr(each, state) for each in models) for state in InstanceState}


def _cut(texts: Sequence[str], most: int | None) -> tuple[Sequence[str], int]:
    if most is None or len(texts) <= most:
        return texts, 0
    return texts[: most - 1], len(texts) - most + 1


def _height(lines: Sequence[str], width: int) -> int:
    return sum(max(1, -(-len(line) // width)) for line in lines)
