"""What TLS costs: heartbeats over TLS beside plain http at one controller, and the lag of its event loop meanwhile.

The certificate is ECDSA P-256. No handshake resumes a session: the clients of DB-GPT cannot.
"""

from __future__ import annotations

import http.client
import threading
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.load import HEARTBEAT, HEARTBEAT_NEW, send_paced
from benchmarks.report import MeasurementError, Row, Section, ratio_of
from benchmarks.rounds import ROUNDS, measure
from benchmarks.sides import Server, start_ctl
from tests.support.memory import MB, resident_bytes
from tests.support.ports import free_port
from tests.support.tls import authority

if TYPE_CHECKING:
    from tests.support.dbgpt_cluster import Lab

INSTANCES = 2000
RATE = 100
"""Heartbeats a second while the lag is measured, each on a new connection. They are those of the instances."""
_PROBE_SECS = 0.002
_PLAIN, _TLS = "http", "https"


def run(lab: Lab, seconds: float) -> list[Section]:
    files, port = authority(lab.folder / "tls"), free_port()
    plain = start_ctl(lab, "tls", INSTANCES, "--log-level", "warning", "--tls-port", str(port), *files.flags)
    over_tls = Server(_TLS, f"https://127.0.0.1:{port}", plain.process, INSTANCES)
    plain.fill(lab.folder)
    plain.settle()
    return [speed(lab, plain, over_tls, seconds), lag(lab, plain, over_tls, seconds)]


def speed(lab: Lab, plain: Server, over_tls: Server, seconds: float) -> Section:
    section = Section(("One controller, requests a second", _PLAIN, _TLS))
    for load in (HEARTBEAT, HEARTBEAT_NEW):
        at_plain, at_tls = measure(lab.folder, (plain, over_tls), load, seconds)
        cells = (load.name, f"{median(at_plain):,.0f}", f"{median(at_tls):,.0f}")
        section.rows.append(Row(cells, ratio_of(at_tls, at_plain)))
    memory = resident_bytes(plain.process.popen.pid) / MB
    section.note = (
        f"32 connections, {INSTANCES:,} instances, embedded registry, ECDSA P-256, TLS 1.3, no session is resumed. The "
        f"process has {memory:,.0f} MB after that."
    )
    return section


def lag(lab: Lab, plain: Server, over_tls: Server, seconds: float) -> Section:
    """How long a health check on a kept plain connection takes while heartbeats come over new connections."""
    waits: dict[str, list[float]] = {_PLAIN: [], _TLS: []}
    for number in range(ROUNDS):
        sides = ((_PLAIN, plain), (_TLS, over_tls))
        for name, server in sides if number % 2 == 0 else sides[::-1]:
            waits[name] += waits_while(lab, server, plain.url, seconds)
            plain.settle()
    section = Section((f"Health check, ms, at {RATE} new connections a second", _PLAIN, _TLS))
    for title, share in (("half are faster than", 50), ("99 of 100 are faster than", 99)):
        values = [1000 * quantiles(waits[name], n=100)[share - 1] for name in (_PLAIN, _TLS)]
        section.rows.append(Row((title, *(f"{value:.2f}" for value in values)), values[1] / values[0]))
    section.note = "On a kept connection without TLS: it shows how long the event loop is busy with others."
    return section


def waits_while(lab: Lab, server: Server, probed: str, seconds: float) -> list[float]:
    """The seconds of each health check at `probed` while heartbeats come at a fixed rate. Raises MeasurementError."""
    ended = threading.Event()
    waits: list[float] = []
    probe = threading.Thread(target=_probe, args=(probed, ended, waits))
    probe.start()
    try:
        sent = send_paced(lab.folder, server.url, HEARTBEAT_NEW, server.instances, rate=RATE, seconds=max(3, seconds))
    finally:
        ended.set()
        probe.join()
    if sent.failed:
        raise MeasurementError(f"{sent.failed} heartbeats at {server.url} failed")
    return waits


def _probe(url: str, ended: threading.Event, waits: list[float]) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    while not ended.wait(_PROBE_SECS):
        began = time.perf_counter()
        connection.request("GET", "/api/health")
        connection.getresponse().read()
        waits.append(time.perf_counter() - began)
    connection.close()
