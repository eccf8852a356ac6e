"""The registered instances for TAB, over http.client: httpx takes longer to import than a person waits for a TAB."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dbgpt_ctl.client.body import BodyReader
from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.failover import Failover, drive
from dbgpt_ctl.client.responses import NoResponse
from dbgpt_ctl.errors import CtlError
from dbgpt_ctl.settings.addresses import parse_addresses

MAX_BYTES = 8_000_000
"""Of the list: more than comes and is read while a person waits for a TAB."""
_CHUNK_BYTES = 64 * 1024

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.client.failover import Outcome, Request


def quick_list(address: str, timeout: float, ca_file: str | None = None) -> list[dict[str, Any]]:
    """The API's objects of all instances; empty if no controller of `address` answers so within `timeout` seconds.

    `ca_file` is that of `ControllerClient`; with a wrong one the list is empty too. Raises UsageError for a wrong
    address. A call that takes longer goes on in a daemon thread: a name lookup has no timeout of its own.
    """
    calls = Calls(Failover(parse_addresses(address), timeout, monotonic))
    found: list[dict[str, Any]] = []
    thread = Thread(target=_list, args=(calls, partial(_send, ca_file=ca_file), found), daemon=True)
    thread.start()
    thread.join(timeout)
    return found


def _list(calls: Calls, send: Callable[[Request], Outcome], found: list[dict[str, Any]]) -> None:
    try:
        found += drive(calls.list(), send).objects
    except CtlError:
        return


def _send(request: Request, ca_file: str | None) -> Outcome:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    parts = urlsplit(request.address.url)
    host = parts.hostname or ""
    connection: HTTPConnection
    if request.address.is_https:
        from dbgpt_ctl.client.trust import ssl_context

        trusted = ssl_context([request.address], ca_file)
        connection = HTTPSConnection(host, parts.port, timeout=request.timeout, context=trusted)
    else:
        connection = HTTPConnection(host, parts.port, timeout=request.timeout)
    try:
        connection.request(request.method, parts.path + request.target, headers=request.headers)
        response = connection.getresponse()
        names = {name.lower(): text for name, text in response.getheaders()}
        with BodyReader(response.status, names, replace(request, max_bytes=MAX_BYTES)) as reader:
            while reader.wanted and (chunk := response.read1(_CHUNK_BYTES)):
                reader.add(chunk)
            return reader.outcome()
    except (OSError, HTTPException) as error:
        return NoResponse(str(error))
    finally:
        connection.close()
