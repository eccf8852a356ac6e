"""One deadline for a whole call of the blocking client: name lookup, connection, TLS, head and body.

httpx has a timeout for each read only: a server that sends one header a second is never late for it. The deadline is
kept where the reads are, in a network backend of httpcore, which is a public interface. (asyncio has a deadline for any
code, so the asynchronous client needs none of this.)
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Deadline(threading.local):
    """When the call of this thread has to end; without a call, never."""

    at = inf
    connected_at: float | None = None
    """When the call made its connection, by `time.monotonic`; None before that."""

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """The deadline of the calls within."""
        self.at, self.connected_at = monotonic() + seconds, None
        try:
            yield
        finally:
            self.at = inf

    def left(self, timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
        """What is left of the deadline in seconds, at most `timeout`; None for no bound. Raises `late` at its end."""
        left = min(inf if timeout is None else timeout, self.at - monotonic())
        if left <= 0:
            raise late("the deadline of the call is over")
        return None if left == inf else left


class DeadlineBackend(httpcore.NetworkBackend):
    """Another backend, whose waits end at the deadline."""

    def __init__(self, inner: httpcore.NetworkBackend, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Tries the addresses of the name in turn. Each gets an equal share of what is left of `timeout`."""
        bound = self._deadline.left(timeout, httpcore.ConnectTimeout)
        until = monotonic() + (inf if bound is None else bound)
        addresses = [host] if _is_address(host) or bound is None else _look_up(host, port, bound)
        failure: Exception = httpcore.ConnectError("the name has no address")
        for number, address in enumerate(addresses):
            share = None if bound is None else max(until - monotonic(), 0.001) / (len(addresses) - number)
            try:
                stream = self._inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                self._deadline.connected_at = monotonic()
                return _DeadlineStream(stream, self._deadline)
        raise failure

    def sleep(self, seconds: float) -> None:
        """As the other backend."""
        self._inner.sleep(seconds)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.left(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _is_address(host: str) -> bool:
    for family in _FAMILIES:
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _look_up(host: str, port: int, timeout: float) -> list[str]:
    """The addresses of a name, in the system's order.

    The system's lookup cannot be ended. One that takes too long goes on in a daemon thread, until the system gives up.
    """
    found: list[str] = []
    failures: list[OSError] = []

    def look_up() -> None:
        try:
            known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            failures.append(error)
        except UnicodeError:  # a label that no name can have
            failures.append(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        else:
            found.extend(dict.fromkeys(str(entry[4][0]) for entry in known))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    for failure in failures:
        try:
            raise failure
        except OSError as error:  # raised here, it is the context too: httpcore removes the cause
            raise httpcore.ConnectError(str(error)) from error
    if not found:
        raise httpcore.ConnectTimeout("the name lookup takes too long")
    return found if len(found) > 1 else [host]
