"""Sends the requests of `calls` over httpx, blocking, and turns its exceptions into reasons.

`async_transport` is its twin. Only the two import httpx, which costs a tenth of a second: they are imported when a
client is made.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from base64 import b64encode
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

# Where click and rich are installed, httpx imports its own command line too: more than half of what it costs. None here
# is an ImportError to it, for which it is prepared.
_spared = sys.modules.setdefault("httpx._main", None) is None  # type: ignore[arg-type]
import httpx  # noqa: E402

if _spared:
    del sys.modules["httpx._main"]

from dbgpt_ctl import __version__  # noqa: E402
from dbgpt_ctl.client.responses import Reply, Unanswered, one_line  # noqa: E402
from dbgpt_ctl.errors import UsageError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbgpt_ctl.addresses import Address
    from dbgpt_ctl.client.calls import Request

    Watch = Callable[[Request, Reply | Unanswered, float], None]
    """Told of each request, what came of it, and the seconds it took."""

MAX_CONNECTIONS = 100
IDLE_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 s after which uvicorn closes it, so a call seldom meets that."""


class Sends(Protocol):
    """What drives a flow."""

    def send(self, request: Request) -> Reply | Unanswered:
        """What came of the request."""


class Transport:
    """Blocking. May be used by several threads."""

    def __init__(
        self, options: Mapping[str, Any], transport: httpx.BaseTransport | None = None, watch: Watch | None = None
    ) -> None:
        self._client = httpx.Client(transport=transport, **options)
        self._watch = watch

    def send(self, request: Request) -> Reply | Unanswered:
        """What came of the request within its timeout.

        Resolving a name is bounded by the system's resolver only, each read of a reply's header by the timeout anew.
        """
        if self._watch is None:
            return self._send(request)
        began = monotonic()
        outcome = self._send(request)
        self._watch(request, outcome, monotonic() - began)
        return outcome

    def _send(self, request: Request) -> Reply | Unanswered:
        until = monotonic() + request.timeout
        body = bytearray()
        try:
            with self._client.stream(request.method, request.url, **request_parts(request)) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if monotonic() > until:
                        return too_late(request)
                return Reply(response.status_code, response.headers, bytes(body))
        except httpx.RequestError as error:
            return unanswered(error, request)

    def open(self, request: Request) -> httpx.Response | Unanswered:
        """The head of a response whose body is still to be read; the caller closes it."""
        asked = self._client.build_request(request.method, request.url, **request_parts(request))
        try:
            return self._client.send(asked, stream=True)
        except httpx.RequestError as error:
            return unanswered(error, request)

    def note(self, request: Request, outcome: Reply | Unanswered, seconds: float) -> None:
        """Tells who watches the requests."""
        if self._watch is not None:
            self._watch(request, outcome, seconds)

    def close(self) -> None:
        """Closes all connections. Repeatable."""
        self._client.close()


def client_options(addresses: Sequence[Address], *, trust_env: bool) -> Mapping[str, Any]:
    """Arguments of either httpx client. Raises UsageError for an address that httpx would not take."""
    for address in addresses:
        try:
            httpx.URL(address.url)
        except httpx.InvalidURL as error:
            raise UsageError(f"controller address {address} cannot be used: {one_line(str(error))}") from None
    return {
        "trust_env": trust_env,
        "verify": _ssl_context(addresses),
        "headers": {"User-Agent": f"dbgpt-ctl/{__version__}", "Accept": "application/json"},
        "limits": httpx.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=IDLE_SECONDS
        ),
    }


def _ssl_context(addresses: Sequence[Address]) -> ssl.SSLContext:
    """The system's certificates (SSL_CERT_FILE and SSL_CERT_DIR count): a controller's is often signed in the house.

    To read them is a good part of the start of `ctl`: without an https address it reads none and trusts nobody.
    """
    if any(address.is_https for address in addresses):
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def request_parts(request: Request) -> dict[str, Any]:
    """The arguments of httpx beside method and URL."""
    headers = {}
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    if request.address.credentials is not None:
        headers["Authorization"] = "Basic " + b64encode(":".join(request.address.credentials).encode()).decode()
    if request.trace is not None:
        headers["traceparent"] = str(request.trace)
    if request.actor is not None:
        headers["X-Ctl-Actor"] = request.actor
    if request.accept is not None:
        headers["Accept"] = request.accept
    return {"headers": headers, "content": request.body, "timeout": request.timeout}


def too_late(request: Request) -> Unanswered:
    """The timeout passed."""
    return Unanswered(f"no answer within {round(request.timeout, 1):g} s")


def unanswered(error: httpx.RequestError, request: Request) -> Unanswered:
    """Why there is no reply."""
    if isinstance(error, httpx.TimeoutException):
        return too_late(request)
    dropped = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
    return Unanswered(one_line(_cause(error)), dropped=dropped)


def _cause(error: BaseException) -> str:
    """The system's own word for it, as `Connection refused`, where httpx and its libraries have their own."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if isinstance(inner, socket.gaierror | ssl.SSLError):
            return inner.strerror or str(inner)
        if isinstance(inner, OSError) and inner.errno:
            return os.strerror(inner.errno)
        inner = inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__
