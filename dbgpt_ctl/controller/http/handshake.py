"""A connection of the TLS listener until its handshake is done: bounded in time, and counted like any other.

The event loop's own TLS listener knows no number of handshakes: connections that send nothing would take all
descriptors, because the protocol above TLS learns of a connection only when its handshake is done. So the listener is a
plain one, and each connection changes to TLS by `start_tls` when the first byte of a handshake is there.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.controller.http.connections import Admission
    from dbgpt_ctl.controller.http.tls import WatchedCertificate

log = logging.getLogger(__name__)

HANDSHAKE_SECS = 8.0
"""How long a handshake may take, from when the connection was accepted."""
MAX_UNDER_WAY = 8192
"""Handshakes that have begun: each takes 57 kB, forty times the memory of a connection that sends nothing. That is more
than begin before the first of a burst is done.
"""
SHUTDOWN_SECS = 3600.0
"""How long the event loop may take to send what is left and to close. Longer than any reader needs: `protocol` drops
peers that do not read, which this bound cannot tell from slow ones.
"""
LOG_SECS = 60.0
"""How much time lies at least between two lines of the log about failed handshakes."""
_HANDSHAKE_RECORD = 0x16
_PLAIN_HTTP = "it speaks HTTP without TLS: write https:// in its address"
_TIMEOUT = f"it did not finish in {HANDSHAKE_SECS:g} s"
_CROWDED = f"more than {MAX_UNDER_WAY:,} were under way, and it was the oldest"
_UNTRUSTED = (
    "it does not trust the certificate: give it the certificate of the CA (DB-GPT: REQUESTS_CA_BUNDLE and "
    "SSL_CERT_FILE; ctl: --ca-file), or an address that is in the certificate"
)
_CAUSES = {
    "TLSV1_ALERT_UNKNOWN_CA": _UNTRUSTED,
    "SSLV3_ALERT_BAD_CERTIFICATE": _UNTRUSTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _UNTRUSTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it finds the certificate expired: renew it, or set the client's clock",
    "UNSUPPORTED_PROTOCOL": "its TLS is older than 1.2",
    "WRONG_VERSION_NUMBER": "it speaks no TLS",
}
NEEDS_TLS = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 50\r\n"
    b"connection: close\r\n\r\nThis port needs TLS: write https:// in the address"
)


class FailedHandshakes:
    """Counts handshakes that failed, by cause, and logs them: each cause at most once in LOG_SECS."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._last: dict[str, str] = {}
        """The address of the last client, by cause."""
        self._not_before: dict[str, float] = {}

    def count(self, cause: str, address: str) -> None:
        """Notes one. `cause` is a sentence about the client."""
        self._counts[cause] += 1
        self._last[cause] = address

    def tick(self, now: float) -> None:
        """Logs what is due. `now` is the event loop's time, in seconds."""
        for cause in [cause for cause in self._counts if now >= self._not_before.get(cause, 0.0)]:
            self._not_before[cause] = now + LOG_SECS
            number, client = self._counts.pop(cause), f"the client at {self._last.pop(cause)}"
            failed = (
                f"a TLS handshake with {client}" if number == 1 else f"{number} TLS handshakes, the last with {client},"
            )
            log.warning("%s failed: %s", failed, cause, extra={"event": "tls.handshake_failed"})


@dataclass(frozen=True)
class Handshakes:
    """What the connections of a listener share until their handshakes are done.

    `protocol` makes the protocol over TLS. It gets the transport below TLS, and puts itself into `connections` in
    `connection_made`.
    """

    certificate: WatchedCertificate
    admission: Admission
    connections: set[Any]
    protocol: Callable[[asyncio.Transport], asyncio.Protocol]
    failed: FailedHandshakes = field(default_factory=FailedHandshakes)
    under_way: dict[Handshake, None] = field(default_factory=dict)
    """Those that have begun, the oldest first."""

    def begin(self, handshake: Handshake) -> None:
        """Notes that it begins. The oldest one ends if there are too many."""
        self.under_way[handshake] = None
        if len(self.under_way) > MAX_UNDER_WAY:
            oldest = next(iter(self.under_way))
            self.failed.count(_CROWDED, oldest.address)
            oldest.drop()


class Handshake(asyncio.Protocol):
    """One connection before and during its handshake; a `connections.Connection`.

    It is in `connections` from the start, and the protocol over TLS takes its place there.
    """

    def __init__(self, shared: Handshakes) -> None:
        self._shared = shared
        self._protocol: asyncio.Protocol | None = None
        self._task: asyncio.Task[None] | None = None
        self._early = b""
        """What the client sent over TLS before the protocol is there."""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", transport)
        self._since = self._loop.time()
        peer = transport.get_extra_info("peername")
        self.client: tuple[str, int] | None = peer[:2] if peer else None
        self._shared.connections.add(self)
        self._shared.admission.admit(self, self._since)

    def data_received(self, data: bytes) -> None:
        if self._task is not None:  # over TLS, before the task goes on
            self._early += data
        elif data[0] == _HANDSHAKE_RECORD:
            self._transport.pause_reading()
            self._shared.begin(self)
            self._task = self._loop.create_task(self._start_tls())
            self._loop.call_soon(self._feed, data)  # after the first step of the task, which changes the protocol
        else:
            self._fail(_PLAIN_HTTP if data[:1].isalpha() else _CAUSES["WRONG_VERSION_NUMBER"])
            if data[:1].isalpha():
                self._transport.write(NEEDS_TLS)
            self._transport.close()

    def _feed(self, data: bytes) -> None:
        """Gives the protocol of TLS what was read before it was there."""
        tls = cast("asyncio.BufferedProtocol", self._transport.get_protocol())
        while data:
            buffer = memoryview(cast("bytearray", tls.get_buffer(len(data))))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            tls.buffer_updated(size)
            data = data[size:]

    async def _start_tls(self) -> None:
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                self._shared.certificate.current.context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECS,
                ssl_shutdown_timeout=SHUTDOWN_SECS,
            )
        except OSError as error:  # also ssl.SSLError
            if isinstance(error, ssl.SSLError):
                reason = error.reason or "unknown error"
                self._fail(_CAUSES.get(reason, f"OpenSSL reports {reason.lower().replace('_', ' ')}"))
            self._leave()
            return
        if transport is None or self._transport.is_closing() or self._lost:
            self._leave()
            return
        protocol = self._protocol = self._shared.protocol(self._transport)
        self._leave()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early:
            protocol.data_received(self._early)

    def eof_received(self) -> None:
        if self._protocol is not None:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._leave()
        if self._protocol is not None:  # it took over when this call was already on its way
            self._protocol.connection_lost(exc)

    def eviction_rank(self) -> tuple[int, float]:
        """Like a connection whose request is not complete."""
        return 1, self._since

    def evict(self) -> None:
        """Closes it, for another connection."""
        self._leave()
        self._transport.abort()

    refuse = drop = shutdown = evict

    def close_if_stalled(self) -> None:
        """Closes the connection when its handshake is not done after HANDSHAKE_SECS."""
        if self._loop.time() - self._since > HANDSHAKE_SECS:
            self._fail(_TIMEOUT)
            self.evict()

    def _leave(self) -> None:
        self._shared.connections.discard(self)
        self._shared.under_way.pop(self, None)

    def _fail(self, cause: str) -> None:
        self._shared.failed.count(cause, self.address)

    @property
    def address(self) -> str:
        """Of the client, for the log."""
        return self.client[0] if self.client else "an unknown address"
