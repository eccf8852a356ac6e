"""Servers measured in turns, so that what else the machine does meets all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import wrk
from benchmarks.report import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.load import Load
    from benchmarks.sides import Server

ROUNDS = 3
_WARM_UP_SECS = 1


def measure(folder: Path, servers: Sequence[Server], load: Load, seconds: float) -> list[list[float]]:
    """Requests a second of each server, a figure for each round; the order turns with each."""

    def one(server: Server) -> float:
        return wrk(folder, server.url, load, server.instances, seconds).per_second

    for server in servers:
        wrk(folder, server.url, load, server.instances, _WARM_UP_SECS)
        server.settle()
    return in_turns(load.name, servers, one)


def in_turns(what: str, servers: Sequence[Server], one: Callable[[Server], float]) -> list[list[float]]:
    """What `one` gives for each server, a figure for each round."""
    figures: list[list[float]] = [[] for _ in servers]
    for number in range(ROUNDS):
        for index in _order(number, len(servers)):
            figures[index].append(one(servers[index]))
            servers[index].settle()
    shown = ", ".join(
        f"{server.name} {' '.join(f'{figure:.0f}' for figure in row)}"
        for server, row in zip(servers, figures, strict=True)
    )
    say(f"{what}: {shown}")
    return figures


def _order(number: int, count: int) -> Iterator[int]:
    return iter(range(count)) if number % 2 == 0 else reversed(range(count))
