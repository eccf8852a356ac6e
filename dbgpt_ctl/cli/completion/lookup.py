"""One quick look at who is registered, for TAB: no answer in time is no answer, and nothing is said about it.

It sends the request of `calls` with http.client, because httpx takes longer to import than a person waits for a TAB.
"""

from __future__ import annotations

from base64 import b64encode
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dbgpt_ctl import __version__
from dbgpt_ctl.addresses import parse_addresses
from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.responses import Reply, Unanswered
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from dbgpt_ctl.client.calls import Request


def glance(address: str, *, within: float) -> list[dict[str, Any]]:
    """The API's objects of all instances; none when no controller of `address` answers so within `within` seconds.

    Raises UsageError for a wrong address. What it waited for in vain may go on in a daemon thread: the resolver of
    names knows no timeout.
    """
    calls = Calls(parse_addresses(address), within, monotonic)
    found: list[dict[str, Any]] = []
    thread = Thread(target=_look, args=(calls, found), daemon=True)
    thread.start()
    thread.join(within)
    return found


def _look(calls: Calls, found: list[dict[str, Any]]) -> None:
    flow = calls.list()
    try:
        request = next(flow)
        while True:
            request = flow.send(_send(request))
    except StopIteration as done:
        found += done.value.objects
    except CtlError:
        return


def _send(request: Request) -> Reply | Unanswered:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    parts = urlsplit(request.address.url)
    headers = {"User-Agent": f"dbgpt-ctl/{__version__}", "Accept": "application/json"}
    if request.address.credentials is not None:
        headers["Authorization"] = "Basic " + b64encode(":".join(request.address.credentials).encode()).decode()
    kind = HTTPSConnection if request.address.is_https else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=request.timeout)
    try:
        connection.request(request.method, parts.path + request.target, headers=headers)
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): text for name, text in response.getheaders()}, response.read())
    except (OSError, HTTPException) as error:
        return Unanswered(str(error))
    finally:
        connection.close()
