"""Compares two checkouts side by side: `python -m benchmarks.compare --old FOLDER --new FOLDER --pairs 20`. Each
`--instances N` measures with that number of instances, which send heartbeats in turn.

A checkout is a folder with its own environment in `.venv`. Heartbeats and lists are measured over the embedded registry
and over one MariaDB, start-up is measured of `ctl serve` and of `ctl models list`. Three sides take part: the old
checkout, the new one, and the old one again, whose ratio shows the noise of the machine.

A pair is one measurement of each side, right after each other and in the reverse order every other time. Servers are
new in each pair. A ratio above 1 means that the new checkout is faster. The interval of its median is the one of order
statistics: it assumes nothing about the distribution of ratios.

With `--cpu` a figure counts the processor time of the server's process, user and system, in place of the time by the
clock. On a machine that others use, too, it is the one to look at.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import comb
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.load import HEARTBEAT, HEARTBEAT_NEW, LIST_ALL, LIST_ONE, send
from benchmarks.mysql import durable_mariadb, start_ours
from benchmarks.report import MeasurementError, say
from benchmarks.rounds import cpu_meter, meter
from benchmarks.sides import lab_in, start_ctl
from benchmarks.startup import time_command, time_server
from tests.support.dbgpt_process import processes_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

LOADS = (HEARTBEAT, HEARTBEAT_NEW, LIST_ONE, LIST_ALL)
INSTANCES, LISTED_INSTANCES = 2000, 10
P99 = "p99"
LEAST = 0.97
"""The interval of a median that is not slower reaches this ratio."""
CONFIDENCE = 0.95

Figures = dict[str, list[float]]
"""Of one side: the speed in each pair, by the name of what was measured; higher is faster."""


@dataclass(frozen=True)
class Side:
    """One checkout as it takes part. `name`: old, new or again."""

    name: str
    folder: Path

    @property
    def ctl(self) -> Path:
        return self.folder / ".venv" / "bin" / "ctl"

    def packages(self) -> set[str]:
        """The Python version and what is installed beside the package, as `NAME==VERSION`."""
        code = (
            "import platform; from importlib.metadata import distributions as all; print(platform.python_version());"
            "[print(f'{d.name}=={d.version}') for d in all() if d.name != 'dbgpt-ctl']"
        )
        argv: list[str | Path] = [self.ctl.with_name("python"), "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MeasurementError(f"{self.folder} has no working environment in .venv: {done.stderr.strip()[-300:]}")
        return set(done.stdout.split())


class Options(NamedTuple):
    """How much is measured: so many pairs, `seconds` of each load, with each of these numbers of instances; and whether
    processor time counts.
    """

    pairs: int
    seconds: float
    instances: Sequence[int] = (INSTANCES,)
    cpu: bool = False


class Measured(NamedTuple):
    """One figure: whose, of what, and its speed, that is how many in a second."""

    side: Side
    what: str
    speed: float


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median; with fewer than six values it is all of them, and means less."""
    n = len(values)
    tail, rank = 0.0, 0
    while (tail := tail + comb(n, rank) / 2**n) <= (1 - CONFIDENCE) / 2:
        rank += 1
    low = max(rank, 1) - 1
    ordered = sorted(values)
    return ordered[low], ordered[n - 1 - low]


def run_servers(
    folder: Path, sides: Sequence[Side], kind: str, start: Callable[[Lab, Side], Server], options: Options, *, turn: int
) -> Iterator[Measured]:
    """One pair of each load over new servers of one kind."""
    with processes_in(folder, []) as begin:
        lab = lab_in(folder, begin)
        servers = {side: start(lab, side) for side in sides}
        for server in servers.values():
            server.fill(folder)
        for load in LOADS:
            of = cpu_meter if options.cpu else meter
            meters = {side: of(folder, server, load, options.seconds) for side, server in servers.items()}
            for side in in_turn(sides, turn):
                servers[side].settle()
                yield Measured(side, f"{kind}: {load.name}", meters[side]())
        for side in () if options.cpu else in_turn(sides, turn):
            servers[side].settle()
            sent = send(folder, servers[side].url, HEARTBEAT, servers[side].instances, options.seconds)
            yield Measured(side, f"{kind}: {HEARTBEAT.name}, {P99}", 1 / sent.p99)


def run_starts(lab: Lab, sides: Sequence[Side], url: str, options: Options, *, turn: int) -> Iterator[Measured]:
    """One pair of each start; the speed is how many would start in a second. With `cpu` only that of the server."""
    env = lab.env(CONTROLLER_ADDRESS=url)
    for side in in_turn(sides, turn):
        start = time_server(env, lab.folder, ctl=side.ctl)
        seconds = start.cpu_secs if options.cpu else start.seconds
        yield Measured(side, "start: ctl serve, until healthy", 1 / seconds)
    for side in () if options.cpu else in_turn(sides, turn):
        argv = (side.ctl, "models", "list")
        seconds = time_command(argv, env, lab.folder, shows="10.0.0.1", terminal=False)
        yield Measured(side, "start: ctl models list", 1 / seconds)


def in_turn(sides: Sequence[Side], turn: int) -> Sequence[Side]:
    """The new checkout is between the two runs of the old one; every other pair goes backwards."""
    return sides if turn % 2 == 0 else sides[::-1]


def measure(sides: Sequence[Side], options: Options, parts: Sequence[str]) -> Mapping[str, Figures]:
    """The figures of each side by its name."""
    found: dict[str, Figures] = {side.name: defaultdict(list) for side in sides}

    def note(measured: Iterator[Measured]) -> None:
        for side, what, speed in measured:
            found[side.name][what].append(speed)

    for part in parts:
        with tempfile.TemporaryDirectory(prefix="ctl-compare-") as name:
            for number, run in enumerate(PARTS[part](Path(name), sides, options)):
                note(run)
                say(f"{part}: run {number + 1}")
    return found


def embedded(folder: Path, sides: Sequence[Side], options: Options) -> Iterator[Iterator[Measured]]:
    """Heartbeats and lists over the embedded registry, a run for each pair."""

    def start(lab: Lab, side: Side, instances: int) -> Server:
        return start_ctl(lab, f"embedded-{side.name}", instances, "--log-level", "warning", ctl=side.ctl)

    for turn, instances in product(range(options.pairs), options.instances):
        kind, begin = f"embedded, {instances:,}", partial(start, instances=instances)
        yield run_servers(folder, sides, kind, begin, options, turn=turn)


def mariadb(folder: Path, sides: Sequence[Side], options: Options) -> Iterator[Iterator[Measured]]:
    """The same over one MariaDB, a new database for each server."""
    with durable_mariadb() as database:

        def start(lab: Lab, side: Side, turn: int, instances: int) -> Server:
            return start_ours(lab, database, f"{side.name}_{turn}_{instances}", instances, ctl=side.ctl)

        for turn, instances in product(range(options.pairs), options.instances):
            kind, begin = f"MariaDB, {instances:,}", partial(start, turn=turn, instances=instances)
            yield run_servers(folder, sides, kind, begin, options, turn=turn)


def starts(folder: Path, sides: Sequence[Side], options: Options) -> Iterator[Iterator[Measured]]:
    """Start-up; the list is of a controller of the old checkout. The first pair is a warm-up and does not count."""
    with processes_in(folder, []) as begin:
        lab = lab_in(folder, begin)
        server = start_ctl(lab, "listed", LISTED_INSTANCES, ctl=sides[0].ctl)
        server.fill(folder)
        list(run_starts(lab, sides, server.url, options, turn=0))
        for turn in range(options.pairs):
            yield run_starts(lab, sides, server.url, options, turn=turn)


PARTS: Mapping[str, Callable[[Path, Sequence[Side], Options], Iterator[Iterator[Measured]]]] = {
    "embedded": embedded,
    "mariadb": mariadb,
    "starts": starts,
}


def report(found: Mapping[str, Figures], pairs: int) -> str:
    """A Markdown table: medians of both checkouts, and the ratios new to old and old to old with their intervals."""
    lines = [
        f"| {pairs} pairs | old | new | new / old | 95 % interval | reaches {LEAST} | old / old | 95 % interval |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for what, old in found["old"].items():
        new, again = (
            [speed / before for speed, before in zip(found[name][what], old, strict=True)] for name in ("new", "again")
        )
        cells = [what, shown(what, old), shown(what, found["new"][what]), *ratios(new)]
        cells += ["yes" if interval(new)[1] >= LEAST else "**no**", *ratios(again)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(what: str, speeds: Sequence[float]) -> str:
    """A start and a p99 as milliseconds, anything else as requests a second."""
    is_time = what.startswith("start: ") or what.endswith(P99)
    return f"{1000 / median(speeds):,.1f} ms" if is_time else f"{median(speeds):,.0f}/s"


def ratios(values: Sequence[float]) -> tuple[str, str]:
    low, high = interval(values)
    return f"{median(values):.3f}", f"{low:.3f} to {high:.3f}"


def main() -> int:
    """Exit code 0; 1 where a median's interval is below the bound, 2 where a figure could not be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description="Compares two checkouts.")
    parser.add_argument("--old", type=Path, required=True, help="a checkout with its environment in .venv")
    parser.add_argument("--new", type=Path, required=True, help="another one")
    parser.add_argument("--pairs", type=int, default=20, help="how often each is measured (default 20)")
    parser.add_argument("--seconds", type=float, default=2, help="length of one measurement of a load (default 2)")
    parser.add_argument("--instances", type=int, action="append", help="how many (default 2000); may be repeated")
    parser.add_argument("--cpu", action="store_true", help="count processor time, not the time by the clock")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    arguments = parser.parse_args()
    options = Options(arguments.pairs, arguments.seconds, arguments.instances or (INSTANCES,), arguments.cpu)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that all started processes are ended
    old, new = arguments.old.resolve(), arguments.new.resolve()
    sides = (Side("old", old), Side("new", new), Side("again", old))
    try:
        if differing := sides[0].packages() ^ sides[1].packages():
            say(f"warning: the environments differ in {', '.join(sorted(differing))}")
        found = measure(sides, options, arguments.only or list(PARTS))
    except (MeasurementError, AssertionError) as error:
        say(f"not measured: {error}")
        return 2
    table = report(found, options.pairs)
    print(table)
    return 1 if "**no**" in table else 0


if __name__ == "__main__":
    sys.exit(main())
