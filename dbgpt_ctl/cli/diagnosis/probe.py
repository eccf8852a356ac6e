"""Knocks at the addresses of workers: does anything listen, and is it a DB-GPT worker?

A worker of DB-GPT has `/api/worker/generate`, for POST only: to GET it says 405, and does nothing. What knows no such
path says something else. No redirect is followed and no token is sent.
"""

from __future__ import annotations

import re
import socket
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Knock, Probe
from dbgpt_ctl.domain.instance import bracketed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Place

PATH = "/api/worker/generate"
PATIENCE_SECS = 2.0
MOST = 50
"""Addresses that are knocked at, all at once."""
_GRACE_SECS = 0.2
_MOST_BYTES = 8192
_HOST = re.compile(r"[\w.\-]+|\[?[0-9A-Fa-f:.]+(?:%[\w.\-]+)?\]?")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_POST_ONLY = 405


def probe_all(places: Sequence[Place], patience: float = PATIENCE_SECS) -> dict[Place, Probe]:
    """Knocks at all of them at once, and waits `patience` seconds for all, names resolved.

    What has no answer then is SILENT; its thread may go on in the background: the resolver of names knows no timeout.
    """
    found: dict[Place, Probe] = {}
    deadline = monotonic() + patience

    def knock(place: Place) -> None:
        found[place] = probe(place, deadline)

    threads = [Thread(target=knock, args=(place,), daemon=True) for place in places]
    for each in threads:
        each.start()
    for each in threads:
        each.join(max(0.0, deadline + _GRACE_SECS - monotonic()))
    told = dict(found)
    return {place: told.get(place, _silent(patience)) for place in places}


def probe(place: Place, deadline: float) -> Probe:
    """Knocks at one; `deadline` is of `time.monotonic`."""
    if not _HOST.fullmatch(place.host):
        return Probe(Knock.FAILED, "the host is no host name or address")
    patience = deadline - monotonic()
    try:
        with socket.create_connection((place.host.strip("[]"), place.port), timeout=max(0.01, patience)) as connection:
            return _judge(_talk(connection, place, deadline))
    except TimeoutError:
        return _silent(patience)
    except (OSError, UnicodeError) as error:
        return _failed(error)


def _failed(error: Exception) -> Probe:
    match error:
        case ConnectionRefusedError():
            return Probe(Knock.REFUSED, "nothing listens there, seen from here")
        case ConnectionError():
            return Probe(Knock.OTHER, "what listens there hangs up on HTTP")
        case socket.gaierror():
            return Probe(Knock.FAILED, "its name is not known here")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return Probe(Knock.FAILED, f"no way there from here: {reason}")


def _talk(connection: socket.socket, place: Place, deadline: float) -> bytes:
    """The start of the answer, up to the end of its head."""
    host = f"{bracketed(place.host)}:{place.port}"
    connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    told = b""
    while b"\r\n\r\n" not in told and len(told) < _MOST_BYTES:
        connection.settimeout(max(0.01, deadline - monotonic()))
        if monotonic() > deadline:
            raise TimeoutError
        piece = connection.recv(_MOST_BYTES)
        if not piece:
            break
        told += piece
    return told


def _judge(told: bytes) -> Probe:
    found = _STATUS.match(told)
    if not found:
        return Probe(
            Knock.OTHER, "what listens there does not speak HTTP" if told else "what listens there hangs up on HTTP"
        )
    status = int(found[1])
    if status == _POST_ONLY:
        return Probe(Knock.WORKER, "a worker answers")
    return Probe(Knock.OTHER, f"an HTTP server answers, but not as a worker: {status} at {PATH}")


def _silent(patience: float) -> Probe:
    return Probe(Knock.SILENT, f"no answer within {max(patience, 0.0):.2g} s, seen from here")
