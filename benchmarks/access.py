"""What it costs to check each request, and what a refusal costs: heartbeats with `--auth enforce` beside `off`."""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.load import CONNECTIONS, HEARTBEAT, HEARTBEAT_NEW, LIST_ALL, send, send_paced
from benchmarks.report import Bound, MeasurementError, Row, Section, ratio_of, say
from benchmarks.rounds import meter
from benchmarks.sides import start_ctl
from dbgpt_ctl.auth.tokens import sha256_of
from tests.support.dbgpt_process import get, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.load import Load
    from benchmarks.rounds import Meter
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

INSTANCES = 2000
PAIRS = 20
TOKEN = "dctl_of-the-benchmark"
ELSEWHERE = "dctl_of-other-models"
TOKENS_FILE = f"""
[token.workers]
role = "worker"
sha256 = ["{sha256_of(TOKEN)}"]
models = ["m*@llm"]
hosts = ["10.0.0.0/8"]

[token.elsewhere]
role = "worker"
sha256 = ["{sha256_of(ELSEWHERE)}"]
models = ["other*@llm"]
"""
OTHER_RATE = 500
"""Heartbeats a second of those whose waits are measured."""
FLOOD_SECS, FLOOD_ROUNDS = 4.0, 5
ENFORCE_BOUND = Bound(least=0.92)
REFUSAL_BOUND = Bound(most=1.2)
FLOOD_BOUND = Bound(most=2.0)


def run(lab: Lab, seconds: float) -> list[Section]:
    file = lab.folder / "tokens.toml"
    file.write_text(TOKENS_FILE)
    file.chmod(0o600)
    off = start_ctl(lab, "access-off", INSTANCES, "--log-level", "error")
    flags = ("--auth", "log", "--tokens-file", str(file), "--log-level", "error")
    enforcing = start_ctl(lab, "access-enforce", INSTANCES, *flags)
    for server in (off, enforcing):
        server.fill(lab.folder)
        server.settle()
    file.write_text(f'mode = "enforce"\n{TOKENS_FILE}')
    _until_refusing(lab, enforcing)
    return [_checked(lab, off, enforcing, seconds / 2), _refused(lab, enforcing, seconds / 2), _flood(lab, enforcing)]


def with_token(load: Load, token: str = TOKEN) -> Load:
    """The same requests with the token, as the libraries of DB-GPT send it."""
    pair = base64.b64encode(f"worker:{token}".encode()).decode()
    return replace(load, headers=(*load.headers, ("Authorization", f"Basic {pair}")))


def refused(load: Load, token: str | None = None, why: str = "no token") -> Load:
    """The same requests without a token, or with one that does not allow them: each one is refused."""
    sent = load if token is None else with_token(load, token)
    return replace(sent, name=f"{load.name}, {why}", refused=True)


def _until_refusing(lab: Lab, server: Server) -> None:
    """The server reads its tokens file again within a second or so."""
    until("refusal of a list", lambda: get(f"{server.url}{LIST_ALL.path}") is None, server.process)
    server.settle()
    send(lab.folder, server.url, with_token(HEARTBEAT), INSTANCES, 1)


def _checked(lab: Lab, off: Server, enforcing: Server, seconds: float) -> Section:
    """Heartbeats of both servers in pairs, right after each other and in the reverse order every other time."""
    section = Section((f"Heartbeats a second, {PAIRS} pairs", "auth off", "auth enforce"))
    for load in (HEARTBEAT, HEARTBEAT_NEW):
        sent = with_token(load)  # to both: a header more costs wrk some time for each request
        sides = (meter(lab.folder, off, sent, seconds), meter(lab.folder, enforcing, sent, seconds))
        figures = _in_pairs(load.name, sides, (off, enforcing), PAIRS)
        cells = (load.name, *(f"{median(side):,.0f}" for side in figures))
        section.rows.append(Row(cells, ratio_of(figures[1], figures[0]), ENFORCE_BOUND))
    return section


def _refused(lab: Lab, server: Server, seconds: float) -> Section:
    """The time of a refusal beside that of a heartbeat, at one server."""
    section = Section((f"At one server, {PAIRS // 2} pairs", "heartbeats a second", "refusals a second"))
    for load in (
        refused(HEARTBEAT),
        refused(HEARTBEAT, "dctl_unknown", "unknown token"),
        refused(HEARTBEAT, ELSEWHERE, "other models"),
        refused(HEARTBEAT_NEW),
    ):
        beat = HEARTBEAT_NEW if load.name.startswith(HEARTBEAT_NEW.name) else HEARTBEAT
        sides = (
            meter(lab.folder, server, with_token(beat), seconds),
            meter(lab.folder, server, load, seconds),
        )
        beats, refusals = _in_pairs(load.name, sides, (server, server), PAIRS // 2)
        cells = (f"time of a refusal: {load.name}", f"{median(beats):,.0f}", f"{median(refusals):,.0f}")
        section.rows.append(Row(cells, ratio_of(beats, refusals), REFUSAL_BOUND))
    return section


def _in_pairs(what: str, meters: Sequence[Meter], servers: Sequence[Server], pairs: int) -> list[list[float]]:
    figures: list[list[float]] = [[] for _ in meters]
    for number in range(pairs):
        for index in sorted(range(len(meters)), reverse=number % 2 == 1):
            figures[index].append(meters[index]())
            servers[index].settle()
    ratios = sorted(new / old for old, new in zip(*figures, strict=True))
    say(f"{what}: {ratios[0]:.2f} to {ratios[-1]:.2f}, median {median(ratios):.2f}")
    return figures


def _flood(lab: Lab, server: Server) -> Section:
    """The waits of heartbeats while somebody sends refused ones, at half of the rate at which the server refuses.

    They are compared with the waits beside as many heartbeats that are served. The client that sends the others is on
    another machine in life, so its process here gives way to all others.
    """
    folder = lab.folder / "flood"
    folder.mkdir()
    rate = round(send(folder, server.url, refused(HEARTBEAT), INSTANCES, 3).per_second / 2)
    floods: tuple[Load | None, ...] = (None, with_token(HEARTBEAT), refused(HEARTBEAT))
    waits: list[list[float]] = [[] for _ in floods]
    for number in range(FLOOD_ROUNDS):
        for index in sorted(range(len(floods)), reverse=number % 2 == 1):
            waits[index].append(_p99(lab, server, folder, floods[index], rate))
            server.settle()
    say(f"p99 alone, beside {rate} heartbeats, and beside {rate} refusals a second: {waits}")
    alone, beats, refusals = map(median, waits)
    what = f"p99 of {OTHER_RATE} heartbeats a second, {FLOOD_ROUNDS} rounds"
    cells = (what, *(f"{1000 * wait:.1f} ms" for wait in (alone, beats, refusals)))
    heads = ("Somebody else's heartbeats", "alone", f"beside {rate:,} heartbeats a second", "beside as many refusals")
    return Section(heads, [Row(cells, refusals / beats, FLOOD_BOUND)])


def _p99(lab: Lab, server: Server, folder: Path, others: Load | None, rate: int) -> float:
    """In seconds."""
    flood = None
    if others is not None:
        flood = threading.Thread(
            target=send_paced,
            args=(folder, server.url, others, INSTANCES),
            kwargs={"rate": rate, "seconds": FLOOD_SECS + 2, "connections": CONNECTIONS, "gives_way": True},
        )
        flood.start()
        time.sleep(1)  # the flood is under way when the measurement begins
    load = with_token(HEARTBEAT)
    paced = send_paced(
        lab.folder, server.url, load, INSTANCES, rate=OTHER_RATE, seconds=FLOOD_SECS, connections=CONNECTIONS
    )
    if flood is not None:
        flood.join()
    if paced.failed:
        raise MeasurementError(f"{paced.failed} heartbeats beside {rate} others a second failed")
    return paced.p99
