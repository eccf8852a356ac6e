"""Servers are measured in turns, so that other load of the machine meets all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import CONNECTIONS, send, send_count
from benchmarks.report import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.load import Load
    from benchmarks.sides import Server

    Meter = Callable[[], float]

ROUNDS = 3
_WARM_UP_SECS = 1
_FEW_ANSWERS = 2 * CONNECTIONS


def measure(folder: Path, servers: Sequence[Server], load: Load, seconds: float) -> list[list[float]]:
    """Requests a second of each server, a figure for each round."""
    return in_turns(load.name, servers, [meter(folder, server, load, seconds) for server in servers])


def meter(folder: Path, server: Server, load: Load, seconds: float) -> Meter:
    """Warms the server up, and returns a function that measures its requests a second.

    A slow server is measured by a number of answers instead of a time. It may answer all connections at once and then
    none for long, so the end of a fixed time would fall anywhere in between. New names are always counted: all servers
    that are compared hold as many instances at each measurement.
    """
    target = (folder, server.url, load, server.instances)
    if names := load.new_names:
        send_count(*target, names)
        server.settle()
        return lambda: send_count(*target, names).per_second
    warm_up = send(*target, _WARM_UP_SECS)
    server.settle()
    if warm_up.answered < _FEW_ANSWERS:
        return lambda: send_count(*target, _FEW_ANSWERS).per_second
    return lambda: send(*target, seconds).per_second


def cpu_meter(folder: Path, server: Server, load: Load, seconds: float) -> Meter:
    """Warms the server up, and returns a function that measures requests a second of the server's processor time.

    It is for fast servers, and for loads without new names.
    """
    target = (folder, server.url, load, server.instances)
    send(*target, _WARM_UP_SECS)
    server.settle()

    def per_cpu_second() -> float:
        before = server.cpu_secs()
        answered = send(*target, seconds).answered
        return answered / (server.cpu_secs() - before)

    return per_cpu_second


def in_turns(what: str, servers: Sequence[Server], meters: Sequence[Meter]) -> list[list[float]]:
    """For each server the figures of its meter, one for each round. Every other round goes backwards."""
    figures: list[list[float]] = [[] for _ in servers]
    for number in range(ROUNDS):
        for index in sorted(range(len(servers)), reverse=number % 2 == 1):
            figures[index].append(meters[index]())
            servers[index].settle()
    pairs = zip(servers, figures, strict=True)
    say(f"{what}: " + ", ".join(f"{server.name} {' '.join(f'{rate:.0f}' for rate in row)}" for server, row in pairs))
    return figures
