"""What attacks cost two checkouts, side by side: `python -m benchmarks.hostile --old FOLDER --new FOLDER`.

A checkout is a folder with its own environment in `.venv`. Each attack runs against the old checkout and right after
that against the new one, over processes of their own on loopback. Memory is the most resident memory of a process.
tests/hostile holds the bounds of the new checkout; this table shows what they save.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

import httpx
import orjson

from benchmarks.compare import Side
from benchmarks.report import MeasurementError, say
from benchmarks.sides import lab_in, start_ctl
from tests.support.dbgpt_process import processes_in
from tests.support.measured import MEASURE
from tests.support.memory import MB, peak_bytes, reset_peak, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from io import BufferedReader

    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

REMOVALS, LISTED, READERS = 20_000, 200_000, 15
PIPELINED = 100
COMMAND_SECS = 120
TRICKLED_SECS = 60
EXPIRED_SECS = 1
CHUNKED = (
    b"POST /api/controller/heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LISTS = ("/api/controller/models", "/api/v1/instances")


class Attack(NamedTuple):
    """`run` returns the figure of one side, in `unit`, of which at most `most` is wanted; None: no bound is set."""

    name: str
    unit: str
    most: float | None
    run: Callable[[Lab, Side], float]


def trailers(lab: Lab, side: Side) -> float:
    """MB of a controller after 80 MB of trailers, or as much as it took."""
    server = start_ctl(lab, f"trailers-{side.name}", 0, ctl=side.ctl)
    with _connected(server) as sock, suppress(OSError):
        sock.sendall(CHUNKED)
        for _ in range(80):
            sock.sendall(b"X-Filler: x\r\n" * (MB // 13))
    server.settle()
    return peak_bytes(server.process.popen.pid) / MB


def endless_answer(lab: Lab, side: Side) -> float:
    """MB of `ctl models list` against a body without an end."""
    head = ANSWER + b'Transfer-Encoding: chunked\r\n\r\n2\r\n["\r\n'
    with _answering(chain([head], repeat(b"%x\r\n%b\r\n" % (MB, b"x" * MB)))) as url:
        return _command(lab, side, "models", "list", "-a", url).peak_mb


def gzip_bomb(lab: Lab, side: Side) -> float:
    """MB of `ctl models list` against 2 GB of zeros as gzip."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join([*(packer.compress(bytes(MB)) for _ in range(2000)), packer.flush()])
    head = ANSWER + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with _answering([head, bomb]) as url:
        return _command(lab, side, "models", "list", "-a", url).peak_mb


def trickled_head(lab: Lab, side: Side) -> float:
    """Seconds of `ctl models list -a SLOW,GOOD --request-timeout 2s`; SLOW sends a header a second for a minute."""
    good = start_ctl(lab, f"good-{side.name}", 0, ctl=side.ctl)

    def pieces() -> Iterator[bytes]:
        yield ANSWER
        for number in range(TRICKLED_SECS):
            sleep(1)
            yield b"X-Filler-%d: x\r\n" % number

    with _answering(pieces()) as url:
        return _command(lab, side, "models", "list", "-a", f"{url},{good.url}", "--request-timeout", "2s").seconds


def removals(lab: Lab, side: Side) -> float:
    """The longest wait, in seconds, for a health answer while 20,000 instances of one model are pruned."""
    flags = ("--heartbeat-timeout-secs", str(EXPIRED_SECS), "--log-level", "error")
    server = start_ctl(lab, f"removals-{side.name}", 0, *flags, ctl=side.ctl)
    _register(server, REMOVALS)
    sleep(2 * EXPIRED_SECS + 1)
    longest = 0.0
    done = threading.Event()

    def prune() -> None:
        fields = {"older_than_secs": EXPIRED_SECS}
        answer = httpx.post(f"{server.url}/api/v1/prune", json=fields, timeout=COMMAND_SECS)
        done.set()
        if len(answer.json()["instances"]) != REMOVALS:
            raise MeasurementError(f"the prune left something: {answer.text[:200]}")

    thread = threading.Thread(target=prune)
    with httpx.Client(timeout=COMMAND_SECS) as client:
        client.get(f"{server.url}/api/health")
        thread.start()
        while not done.is_set():
            began = monotonic()
            client.get(f"{server.url}/api/health")
            longest = max(longest, monotonic() - began)
    thread.join()
    return longest


def stalled_readers(lab: Lab, side: Side, *, target: str) -> float:
    """MB that a controller of 200,000 instances takes for 15 readers that take nothing of their list."""
    flags = ("--max-instances", str(LISTED), "--log-level", "error")
    server = start_ctl(lab, f"readers-{side.name}-{target.count('/')}-{len(target)}", 0, *flags, ctl=side.ctl)
    _register(server, LISTED, models=READERS)
    server.settle()
    pid = server.process.popen.pid
    before = resident_bytes(pid)
    reset_peak(pid)
    with ExitStack() as stack:
        readers = [stack.enter_context(_connected(server)) for _ in range(READERS)]
        for sock in readers:
            sock.sendall(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % target.encode())
        for sock in readers:
            sock.recv(1, socket.MSG_PEEK)  # its answer has begun
        server.settle()
        return (peak_bytes(pid) - before) / MB


ATTACKS = (
    Attack("memory of `ctl serve` after 80 MB of trailers", "MB", 100, trailers),
    Attack("memory of `ctl models list`, endless answer", "MB", 150, endless_answer),
    Attack("memory of `ctl models list`, gzip bomb", "MB", 150, gzip_bomb),
    Attack("longest block while 20,000 instances of a model are removed", "s", 0.2, removals),
    Attack("`ctl models list -a SLOW,GOOD --request-timeout 2s`", "s", 5, trickled_head),
    *(
        Attack(
            f"memory for {READERS} stalled readers of {LISTED:,} instances, `{target}`",
            "MB",
            None,
            partial(stalled_readers, target=target),
        )
        for target in LISTS
    ),
)


class _Ended(NamedTuple):
    peak_mb: float
    seconds: float


def _command(lab: Lab, side: Side, *args: str) -> _Ended:
    """Runs `ctl`, whatever its exit code is. Raises TimeoutExpired after COMMAND_SECS."""
    python = side.ctl.with_name("python")
    began = monotonic()
    done = subprocess.run(
        [python, "-c", MEASURE, "1", python, "-m", "dbgpt_ctl", *args, "-o", "json"],
        env=lab.env(),
        cwd=lab.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=COMMAND_SECS,
        check=False,
    )
    return _Ended(int(done.stdout.rpartition(b"\n")[2]) / MB, monotonic() - began)


@contextmanager
def _answering(pieces: Iterable[bytes]) -> Iterator[str]:
    """A server that sends these pieces to the first caller, and nothing to any other; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(65536)
                    for piece in pieces:
                        sock.sendall(piece)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=COMMAND_SECS)


def _register(server: Server, count: int, *, models: int = 1) -> None:
    """Registers that many instances of so many models over one connection."""
    with _connected(server) as sock, sock.makefile("rb") as answers:
        for first in range(0, count, PIPELINED):
            sent = [_registration(number, number % models) for number in range(first, min(first + PIPELINED, count))]
            sock.sendall(b"".join(sent))
            for _ in sent:
                _expect_true(answers)


def _registration(number: int, model: int) -> bytes:
    host = f"10.{number // 62_500}.{number // 250 % 250}.{number % 250}"
    body = orjson.dumps({"model_name": f"m{model}@llm", "host": host, "port": 8000})
    head = b"POST /api/controller/models HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _expect_true(answers: BufferedReader) -> None:
    """Reads one answer of a register."""
    status, length = answers.readline(), 0
    while (line := answers.readline()).strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    if b" 200 " not in status or length != len(b"true"):
        raise MeasurementError(f"a register is refused: {status!r}")
    answers.read(length)


def measure(sides: tuple[Side, Side], wanted: Iterable[Attack]) -> Mapping[Attack, tuple[float, float]]:
    """The figure of each side, by attack. The old checkout goes first."""
    found = {}
    for attack in wanted:
        figures = []
        for side in sides:
            with tempfile.TemporaryDirectory(prefix="ctl-hostile-") as name, processes_in(Path(name), []) as begin:
                figures.append(attack.run(lab_in(Path(name), begin), side))
            say(f"{side.name}: {attack.name}: {figures[-1]:.2f} {attack.unit}")
        found[attack] = (figures[0], figures[1])
    return found


def report(found: Mapping[Attack, tuple[float, float]]) -> str:
    """A Markdown table."""
    lines = ["| attack | before | after | at most | holds |", "|---|--:|--:|--:|---|"]
    for attack, (before, after) in found.items():
        shown = [
            f"{figure:,.3g} {attack.unit}" if figure < 1000 else f"{figure:,.0f} {attack.unit}"
            for figure in (before, after)
        ]
        bound = "-" if attack.most is None else f"{attack.most:g} {attack.unit}"
        holds = "-" if attack.most is None else "yes" if after <= attack.most else "**no**"
        lines.append(f"| {' | '.join([attack.name, *shown, bound, holds])} |")
    return "\n".join(lines)


def main() -> int:
    """Exit code 0; 1 where a figure of the new checkout is above its bound, 2 where a figure could not be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description="What attacks cost.")
    parser.add_argument("--old", type=Path, required=True, help="a checkout with its environment in .venv")
    parser.add_argument("--new", type=Path, required=True, help="another one")
    parser.add_argument("--only", help="attacks whose name holds this text")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that all started processes are ended
    wanted = [attack for attack in ATTACKS if (options.only or "") in attack.name]
    try:
        table = report(measure((Side("old", options.old.resolve()), Side("new", options.new.resolve())), wanted))
    except (MeasurementError, AssertionError, subprocess.TimeoutExpired) as error:
        say(f"not measured: {error}")
        return 2
    print(table)
    return 1 if "**no**" in table else 0


if __name__ == "__main__":
    sys.exit(main())
