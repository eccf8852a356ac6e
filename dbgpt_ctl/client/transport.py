"""Sends requests over httpx, blocking, and turns its exceptions into a `NoResponse` with a reason.

Only this module, `watch` and `aio` import httpx. The import takes a tenth of a second, so it waits until a client is
made.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import closing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from time import monotonic
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client.body import BodyReader
from dbgpt_ctl.client.deadline import Deadline, DeadlineBackend
from dbgpt_ctl.client.httpx_internals import httpx, is_no_http, set_network_backend
from dbgpt_ctl.client.responses import NoResponse, Response, one_line
from dbgpt_ctl.client.trust import ssl_context
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.failure_causes import FailureCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbgpt_ctl.client.failover import Outcome, Request
    from dbgpt_ctl.settings.addresses import Address

    Observe = Callable[[Request, Outcome, float], None]
    """Called with each request, its outcome, and the seconds it took."""
    MakeReader = Callable[[int, Mapping[str, str], Request], BodyReader]
    """Makes the reader of a response from its status and headers."""

MAX_CONNECTIONS = 100
_CERTIFICATE_CAUSES = {
    9: FailureCause.CERTIFICATE_DATE,  # not yet valid
    10: FailureCause.CERTIFICATE_DATE,  # expired
    62: FailureCause.CERTIFICATE_NAME,  # of a host
    64: FailureCause.CERTIFICATE_NAME,  # of an address
}
"""By OpenSSL's number of what is wrong with a certificate (x509_vfy.h); any other makes it one that is not trusted."""
_NO_HTTP = NoResponse("what answers there does not speak HTTP", FailureCause.NOT_A_CONTROLLER)
NAME_ERRORS = (httpx.InvalidURL, UnicodeError)
"""What httpx raises for a host name that is none: one that it is to call, or one of a redirect, which it examines and
does not follow.
"""
IDLE_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 s after which uvicorn closes it, so a call rarely meets that."""


class Transport:
    """Blocking. May be used by several threads."""

    def __init__(
        self, options: Mapping[str, Any], transport: httpx.BaseTransport | None = None, observe: Observe | None = None
    ) -> None:
        self._client = httpx.Client(transport=transport, **options)
        self._deadline = Deadline()
        set_network_backend(self._client, lambda backend: DeadlineBackend(backend, self._deadline))
        self.observe: Observe = observe or (lambda _request, _outcome, _seconds: None)

    @property
    def connected_at(self) -> float | None:
        """When this thread's last call made its connection, by `time.monotonic`; None if it made none."""
        return self._deadline.connected_at

    def send(self, request: Request, make_reader: MakeReader = BodyReader) -> Outcome:
        """The outcome of the request within its timeout."""
        began = monotonic()
        with self._deadline.after(request.timeout):
            response = self._open(request)
            outcome = response if isinstance(response, NoResponse) else _read(response, request, make_reader)
        self.observe(request, outcome, monotonic() - began)
        return outcome

    def open(self, request: Request) -> tuple[Outcome, httpx.Response | None]:
        """As `send`, but the body of a 200 is a stream: the outcome lacks it, and the caller reads and closes the
        response beside it. The stream has no deadline.
        """
        began, stream = monotonic(), None
        with self._deadline.after(request.timeout):
            response = self._open(request)
            if isinstance(response, NoResponse):
                outcome: Outcome = response
            elif response.status_code == httpx.codes.OK and "content-encoding" not in response.headers:
                outcome, stream = Response(response.status_code, response.headers, b""), response
            else:
                outcome = _read(response, request)
        self.observe(request, outcome, monotonic() - began)
        return outcome, stream

    def _open(self, request: Request) -> httpx.Response | NoResponse:
        try:
            built = self._client.build_request(request.method, request.url, **request_parts(request))
            return self._client.send(built, stream=True)
        except NAME_ERRORS as error:
            return without_name(error, request)
        except httpx.RequestError as error:
            return no_response(error, request)

    def close(self) -> None:
        """Closes all connections. Repeatable."""
        self._client.close()


def _read(response: httpx.Response, request: Request, make_reader: MakeReader = BodyReader) -> Outcome:
    """The outcome of a response that is still to be read. Closes it; a body that was not read ends its connection."""
    try:
        with closing(response), make_reader(response.status_code, response.headers, request) as reader:
            chunks = response.iter_bytes()
            while reader.wanted and (chunk := next(chunks, None)) is not None:
                reader.add(chunk)
            return reader.outcome()
    except httpx.RequestError as error:
        return no_response(error, request)


def client_options(addresses: Sequence[Address], *, trust_env: bool, ca_file: str | None = None) -> Mapping[str, Any]:
    """The arguments of an httpx client, blocking or not.

    Raises UsageError for an address that httpx refuses, and for a wrong `ca_file` (see `trust`).
    """
    for address in addresses:
        try:
            httpx.URL(address.url).host  # noqa: B018 - it raises for a name that cannot be decoded
        except NAME_ERRORS as error:
            raise UsageError(f"controller address {address} cannot be used: {one_line(str(error))}") from None
    # A cookie of a proxy would go with every later request, also with the one that looks into the other scheme.
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return {
        "trust_env": trust_env,
        "cookies": no_cookies,
        "verify": ssl_context(addresses, ca_file),
        "limits": httpx.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=IDLE_SECONDS
        ),
    }


def request_parts(request: Request) -> dict[str, Any]:
    """The arguments of httpx besides method and URL."""
    timeout = httpx.Timeout(request.timeout, connect=request.connect_timeout)
    return {"headers": request.headers, "content": request.body, "timeout": timeout}


def without_name(error: Exception, request: Request) -> NoResponse:
    """The outcome of an exception of NAME_ERRORS."""
    try:
        httpx.URL(request.url).host  # noqa: B018 - see `client_options`
    except NAME_ERRORS:
        return NoResponse(one_line(f"its host name cannot be looked up: {error}"), FailureCause.NAME_LOOKUP)
    return NoResponse("its answer redirects to what is no address", FailureCause.NOT_A_CONTROLLER)


def timed_out(request: Request, error: BaseException | None = None) -> NoResponse:
    """The outcome when the timeout is over; `error` ended the wait."""
    if error is not None and is_no_http(error):
        return _NO_HTTP
    return NoResponse(f"no answer within {_seconds(request.timeout)}", FailureCause.ANSWER_TIMEOUT)


def no_response(error: httpx.RequestError, request: Request) -> NoResponse:
    """The outcome of an exception of httpx."""
    if isinstance(error, httpx.ConnectTimeout):
        detail = f"no connection within {_seconds(request.connect_timeout)}"
        return NoResponse(detail, FailureCause.CONNECT_TIMEOUT)
    if isinstance(error, httpx.TimeoutException):
        return timed_out(request, error)
    if is_no_http(error):
        return _NO_HTTP
    inner = _system_error(error)
    detail, cause = _text_and_cause(inner) if inner is not None else (str(error) or type(error).__name__, None)
    if cause is None and isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        cause = FailureCause.RESET
    return NoResponse(one_line(detail), cause)


def _seconds(timeout: float) -> str:
    return f"{round(timeout, 1):g} s"


def _system_error(error: BaseException) -> OSError | None:
    """The exception of the system or of its TLS that is behind one of httpx, if there is one."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if isinstance(inner, OSError) and (inner.errno or isinstance(inner, ssl.SSLError)):
            return inner
        inner = inner.__cause__ or inner.__context__
    return None


def _text_and_cause(error: OSError) -> tuple[str, FailureCause | None]:
    """The system's own text, as `Connection refused`, and the cause that it names."""
    match error:
        case ssl.SSLCertVerificationError():
            cause = _CERTIFICATE_CAUSES.get(error.verify_code, FailureCause.CERTIFICATE_UNTRUSTED)
            return f"its certificate is refused: {error.verify_message}", cause
        case ssl.SSLError():
            return error.strerror or str(error), FailureCause.TLS_FAILED
        case socket.gaierror():
            return f"its host name cannot be looked up: {error.strerror}", FailureCause.NAME_LOOKUP
        case ConnectionRefusedError():
            return os.strerror(errno.ECONNREFUSED), FailureCause.REFUSED
        case ConnectionResetError() | BrokenPipeError():
            return os.strerror(errno.ECONNRESET), FailureCause.RESET
    return os.strerror(error.errno or 0), None
