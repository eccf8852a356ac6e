"""Requests a second over the embedded registry: this controller, DB-GPT's, and a bare ASGI application."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.beats import while_beating
from benchmarks.load import (
    CONNECTIONS,
    HEARTBEAT,
    HEARTBEAT_NEW,
    LIST_ALL,
    LIST_ONE,
    MODELS,
    REGISTER,
    REGISTER_NEW,
)
from benchmarks.report import Bound, Row, Section, ratio_of, say
from benchmarks.rounds import ROUNDS, in_turns, measure, meter
from benchmarks.sides import BARE, OURS, THEIRS, start_bare, start_ctl, start_dbgpt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load import Load
    from benchmarks.rounds import Meter
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

INSTANCES = 2000
NEW_NAMES = replace(REGISTER_NEW, new_names=10_000)
BEAT_EVERY_SECS = 20
BOUNDS = {
    HEARTBEAT: Bound(least=5),
    HEARTBEAT_NEW: Bound(least=2),
    REGISTER: None,
    LIST_ONE: Bound(least=30),
    LIST_ALL: Bound(least=30),
}


def run(lab: Lab, seconds: float) -> list[Section]:
    section = Section((f"Embedded registry, {INSTANCES:,} instances, requests a second", OURS, THEIRS, BARE))
    ours, theirs = start_ctl(lab, "wire-ctl", INSTANCES), start_dbgpt(lab, "wire-dbgpt", INSTANCES)
    servers = (ours, theirs, start_bare(lab, "wire-bare", INSTANCES))
    for server in (ours, theirs):
        server.fill(lab.folder)
    for load, bound in BOUNDS.items():
        section.rows.append(row_of(load.name, measure(lab.folder, servers, load, seconds), bound))
    for server in (ours, theirs):
        server.expect()
    for load in (LIST_ONE, LIST_ALL):
        section.rows.append(_while_beating(lab, (ours, theirs), load, seconds))
    section.rows.append(row_of(NEW_NAMES.name, measure(lab.folder, servers, NEW_NAMES, seconds), None))
    section.note = (
        f"{CONNECTIONS} connections, {MODELS} models; a list of one model holds {INSTANCES // MODELS} instances. "
        "While beating: "
        f"every instance beats once in {BEAT_EVERY_SECS} s, that is {INSTANCES // BEAT_EVERY_SECS} beats a second, "
        f"each on a connection of its own. {new_names_note(NEW_NAMES, INSTANCES)}"
    )
    return [section]


def new_names_note(load: Load, before: int) -> str:
    """How many instances there are when names are new: a server may be slower with more."""
    names = load.new_names or 0
    held = f"between {before + names:,} and {before + (1 + ROUNDS) * names:,}"
    return (
        f"New names are {names:,} at each measurement, each a model of its own, and both sides hold {held} instances."
    )


def row_of(name: str, figures: Sequence[Sequence[float]], bound: Bound | None) -> Row:
    """`figures`: rounds of this controller, of DB-GPT's and, where it was measured, of the bare application."""
    cells = [_shown(median(rates)) for rates in figures] + [""] * (3 - len(figures))
    return Row((name, *cells), ratio_of(figures[0], figures[1]), bound)


def _shown(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.1f}"


def _while_beating(lab: Lab, servers: Sequence[Server], load: Load, seconds: float) -> Row:
    beats: dict[str, list[float]] = {server.name: [] for server in servers}

    def beside_beats(server: Server) -> Meter:
        alone = meter(lab.folder, server, load, seconds)

        def beaten() -> float:
            figure, answered = asyncio.run(while_beating(server.url, server.instances, BEAT_EVERY_SECS, alone))
            beats[server.name].append(answered)
            return figure

        return beaten

    name = f"{load.name}, while beating"
    row = row_of(name, in_turns(name, servers, [beside_beats(server) for server in servers]), None)
    say("beats answered a second: " + ", ".join(f"{name} {median(rates):.0f}" for name, rates in beats.items()))
    return row
