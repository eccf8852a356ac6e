"""Probes the addresses of workers: does anything listen there, and is it a DB-GPT worker?

A worker of DB-GPT has `/api/worker/generate` for POST only: it answers a GET with 405 and does nothing. A server that
does not know the path answers with another status. No redirect is followed and no token is sent.
"""

from __future__ import annotations

import re
import socket
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Probe, ProbeOutcome
from dbgpt_ctl.domain.fields import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Endpoint

PATH = "/api/worker/generate"
TIMEOUT_SECS = 2.0
MAX_ENDPOINTS = 50
"""Addresses that are probed, all at the same time."""
_GRACE_SECS = 0.2
_MAX_BYTES = 8192
_HOST = re.compile(r"[\w.\-]+|\[?[0-9A-Fa-f:.]+(?:%[\w.\-]+)?\]?")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_METHOD_NOT_ALLOWED = 405
_RESET = Probe(ProbeOutcome.RESET, "what listens there closes the connection without an answer")


def probe_all(endpoints: Sequence[Endpoint], timeout: float = TIMEOUT_SECS) -> dict[Endpoint, Probe]:
    """Probes all endpoints at the same time, and returns after at most `timeout` seconds, name resolution included.

    An endpoint without a result by then is SILENT. Its thread may go on in the background: the resolver of names has no
    timeout.
    """
    results: dict[Endpoint, Probe] = {}
    deadline = monotonic() + timeout

    def run(endpoint: Endpoint) -> None:
        results[endpoint] = probe(endpoint, deadline)

    threads = [Thread(target=run, args=(endpoint,), daemon=True) for endpoint in endpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + _GRACE_SECS - monotonic()))
    finished = dict(results)
    return {endpoint: finished.get(endpoint, _silent(timeout)) for endpoint in endpoints}


def probe(endpoint: Endpoint, deadline: float) -> Probe:
    """Probes one endpoint; `deadline` is of `time.monotonic`."""
    if not _HOST.fullmatch(endpoint.host):
        return Probe(ProbeOutcome.FAILED, "the host is no host name or address")
    if not 0 < endpoint.port <= MAX_PORT:
        return Probe(ProbeOutcome.FAILED, "the port is no port")
    timeout = deadline - monotonic()
    try:
        address = endpoint.host.strip("[]"), endpoint.port
        with (
            socket.create_connection(address, timeout=max(0.01, timeout)) as connection,
            connection.makefile("rb") as answer,
        ):
            host = f"{endpoint.host}:{endpoint.port}"
            connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return _judge(answer.readline(_MAX_BYTES))
    except TimeoutError:
        return _silent(timeout)
    except (OSError, UnicodeError) as error:
        return _failed(error)


def _failed(error: Exception) -> Probe:
    match error:
        case ConnectionRefusedError():
            return Probe(ProbeOutcome.REFUSED, "nothing listens there, seen from here")
        case ConnectionError():
            return _RESET
        case socket.gaierror():
            return Probe(ProbeOutcome.UNKNOWN_NAME, f"its host name cannot be looked up here: {error.strerror}")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return Probe(ProbeOutcome.FAILED, f"it cannot be reached from here: {reason}")


def _judge(status_line: bytes) -> Probe:
    if not status_line:
        return _RESET
    found = _STATUS.match(status_line)
    if not found:
        return Probe(ProbeOutcome.OTHER, "what listens there does not speak HTTP")
    status = int(found[1])
    if status == _METHOD_NOT_ALLOWED:
        return Probe(ProbeOutcome.WORKER, "a worker answers")
    return Probe(ProbeOutcome.OTHER, f"an HTTP server answers, but not as a worker: {status} at {PATH}")


def _silent(timeout: float) -> Probe:
    return Probe(ProbeOutcome.SILENT, f"no answer within {max(timeout, 0.0):.2g} s, seen from here")
