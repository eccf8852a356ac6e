"""How long commands take from their start to their end, or to the first answer of a server."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.report import Bound, MeasurementError, Row, Section, ratio_of, say
from benchmarks.sides import CTL, OURS, THEIRS, start_ctl
from tests.support.dbgpt import NEWEST
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.dbgpt_cluster import Lab

INSTANCES = 10
RUNS, RUNS_OF_VERBS, WARM_UPS = 15, 9, 2
HEALTH = b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
_TIMEOUT_SECS = 60
_POLL_SECS = 0.002
_SCREEN = struct.pack("HHHH", 40, 120, 0, 0)

SERVER_IMPORTS = "import fastapi, uvicorn, sqlalchemy"
LIST_IMPORTS = "import typer, rich.table, httpx; httpx.Client()"
HELP_IMPORTS = "import typer"


@dataclass(frozen=True)
class Comparison:
    """Two keys of what is timed, and the most that their ratio may be."""

    timed: str
    beside: str
    bound: Bound


SERVE, LIST, LIST_PIPED, HELP, DBGPT = (
    "ctl serve, until healthy",
    "ctl models list",
    "ctl models list, piped",
    "ctl --help",
    "dbgpt model list",
)
COMPARISONS = (
    Comparison(SERVE, SERVER_IMPORTS, Bound(most=2)),
    Comparison(LIST, LIST_IMPORTS, Bound(most=1.3)),
    Comparison(LIST, DBGPT, Bound(most=0.25)),
    Comparison(LIST_PIPED, LIST_IMPORTS, Bound(most=1.3)),
    Comparison(HELP, HELP_IMPORTS, Bound(most=2.5)),
)
REFERENCE = "m1@llm/10.0.0.1:8001"
VERBS = {
    "models get": ("models", "get", REFERENCE),
    "models heartbeat": ("models", "heartbeat", REFERENCE),
    "models drain": ("models", "drain", REFERENCE, "--force"),
    "models undrain": ("models", "undrain", REFERENCE),
    "models prune": ("models", "prune", "--older-than", "7d", "--yes"),
    "status": ("status",),
    "events": ("events",),
    "health": ("health",),
    "wait": ("wait", "m1"),
    "assert": ("assert", "m1"),
    "diff": ("diff", "-f", "startup.yaml"),
    "apply": ("apply", "-f", "startup.yaml"),
    "why": ("why", "m1", "--no-probe"),
    "doctor": ("doctor", "--no-probe"),
    "context list": ("context", "list"),
}
"""What else is timed: the verb, and its command line; all of them succeed. The workers' addresses are not there."""
OF_A_VERB = Bound(most=1.3)
DECLARED = "instances:\n  - {model: m1, host: 10.0.0.1, port: 8001}\n"


def run(lab: Lab, _seconds: float) -> list[Section]:
    server = start_ctl(lab, "startup-ctl", INSTANCES)
    server.fill(lab.folder)
    timers = _timers(lab, lab.env(CONTROLLER_ADDRESS=server.url, TERM="xterm-256color"))
    times = _in_turns(timers, RUNS)
    return [
        Section(
            ("Start-up, milliseconds", OURS, "beside", ""),
            [_row(times, comparison) for comparison in COMPARISONS],
            _note(),
        ),
        _of_verbs(lab, server.url),
    ]


def _in_turns(timers: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in timers}
    for number in range(-WARM_UPS, runs):
        names = list(timers) if number % 2 else list(timers)[::-1]
        for name in names:
            seconds = timers[name]()
            if number >= 0:
                times[name].append(seconds)
    for name, durations in times.items():
        low, high = min(durations), max(durations)
        say(f"{name}: {median(durations) * 1000:.0f} ms, least {low * 1000:.0f}, most {high * 1000:.0f}")
    return times


def _of_verbs(lab: Lab, url: str) -> Section:
    (lab.folder / "startup.yaml").write_text(DECLARED)
    env = lab.env(CONTROLLER_ADDRESS=url, XDG_CONFIG_HOME=os.devnull)
    timers: dict[str, Callable[[], float]] = {
        name: partial(time_command, (CTL, *words), env, lab.folder, shows="", terminal=False)
        for name, words in VERBS.items()
    }
    imports = (sys.executable, "-c", LIST_IMPORTS)
    timers[LIST_IMPORTS] = partial(time_command, imports, env, lab.folder, shows="", terminal=False)
    times = _in_turns(timers, RUNS_OF_VERBS)
    beside = times.pop(LIST_IMPORTS)
    rows = [
        Row((f"`ctl {name}`", f"{median(seconds) * 1000:,.0f}", ""), ratio_of(seconds, beside), OF_A_VERB)
        for name, seconds in times.items()
    ]
    heads = (f"Start to end, milliseconds; beside: the same imports, {median(beside) * 1000:,.0f}", OURS, "")
    return Section(heads, rows, "Piped, of 10 instances of one controller.")


def _note() -> str:
    return (
        f"Medians of {RUNS} runs in turns; ratios are medians of the ratios of each run. Python's bytecode is there "
        f"for all. The lists are of {INSTANCES} instances of one controller, printed to a terminal unless piped. "
        f"`dbgpt` is {THEIRS}."
    )


def _row(times: Mapping[str, list[float]], comparison: Comparison) -> Row:
    ours, theirs = times[comparison.timed], times[comparison.beside]
    beside = comparison.beside if comparison.beside == DBGPT else f'python -c "{comparison.beside}"'
    cells = (f"`{comparison.timed}`".replace(", until healthy`", "`, until healthy").replace(", piped`", "`, piped"),)
    return Row(
        (*cells, f"{median(ours) * 1000:,.0f}", f"`{beside}`", f"{median(theirs) * 1000:,.0f}"),
        ratio_of(ours, theirs),
        comparison.bound,
    )


def _timers(lab: Lab, env: Mapping[str, str]) -> dict[str, Callable[[], float]]:
    """What is timed, by the names in COMPARISONS; one after the other what is compared."""

    def command(*argv: str | Path, shows: str = "", terminal: bool = False) -> Callable[[], float]:
        return lambda: time_command(argv, env, lab.folder, shows=shows, terminal=terminal)

    def imports(code: str) -> Callable[[], float]:
        return command(sys.executable, "-c", code)

    return {
        SERVER_IMPORTS: imports(SERVER_IMPORTS),
        SERVE: lambda: time_server(lab.env(), lab.folder).seconds,
        HELP_IMPORTS: imports(HELP_IMPORTS),
        HELP: command(CTL, "--help", shows="Usage", terminal=True),
        LIST_IMPORTS: imports(LIST_IMPORTS),
        LIST: command(CTL, "models", "list", shows="10.0.0.1", terminal=True),
        DBGPT: command(NEWEST.command, "model", "list", shows="10.0.0.1", terminal=True),
        LIST_PIPED: command(CTL, "models", "list", shows="10.0.0.1"),
    }


def time_command(
    argv: tuple[str | Path, ...], env: Mapping[str, str], folder: Path, *, shows: str, terminal: bool
) -> float:
    """Seconds from start to end. Raises MeasurementError unless it ends with 0 and its output holds `shows`."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, _SCREEN)
    with (folder / "startup.err").open("wb") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            argv, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=errors
        )
        os.close(theirs)
        output = _read_to_end(ours)
        code = process.wait(_TIMEOUT_SECS)
        seconds = time.perf_counter() - started
    if code != 0 or shows not in output:
        raise MeasurementError(
            f"{' '.join(map(str, argv))} ended with {code}, without {shows!r} in its output: {output[-500:]}"
        )
    return seconds


def _read_to_end(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        parts = []
        try:
            while part := stream.read(65536):
                parts.append(part)
        except OSError:
            pass  # how a terminal says that nobody writes to it any more
    return b"".join(parts).decode(errors="replace")


class Start(NamedTuple):
    """What a server took from its start to its first 200 on health."""

    seconds: float
    cpu_secs: float
    """Of its process, user and system."""


def time_server(env: Mapping[str, str], folder: Path, *flags: str, ctl: Path = CTL) -> Start:
    """Starts `ctl serve` with these flags, and ends it when it is healthy. Raises MeasurementError."""
    port = free_port()
    argv: list[str | Path] = [ctl, "serve", "--port", str(port), *flags]
    before = _cpu_secs_of_ended_children()
    with (folder / "startup-serve.log").open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen(argv, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while not _is_healthy(port):
                if process.poll() is not None or time.perf_counter() - started > _TIMEOUT_SECS:
                    raise MeasurementError(
                        f"ctl serve did not get healthy: {(folder / 'startup-serve.log').read_text()[-500:]}"
                    )
                time.sleep(_POLL_SECS)
            seconds = time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return Start(seconds, _cpu_secs_of_ended_children() - before)


def _cpu_secs_of_ended_children() -> float:
    """To the microsecond, where /proc counts in hundredths of a second."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _is_healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECS) as connection:
            connection.sendall(HEALTH)
            return connection.recv(64).split()[1:2] == [b"200"]
    except OSError:
        return False
