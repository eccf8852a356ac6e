"""The certificate of the TLS listener: its two files, how they are read, and how a new pair takes their place.

A certificate manager replaces the files while the controller runs: some write one file after the other, Kubernetes
changes a link to a folder with both. So the files are looked at each second, and read when they have not changed since
the last look. A pair that cannot be used is reported, and the pair before it stays in use.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.files import MIB, read_file

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from datetime import datetime

    from dbgpt_ctl.clock import Clock

log = logging.getLogger(__name__)

_LARGEST_FILE = MIB
_ALPN = ["http/1.1"]

_Fingerprint = tuple[tuple[int, ...] | None, ...]
"""What tells two contents of the files apart without reading them; None for a file that is not there."""


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, loaded. Both times are aware; the certificate is valid from the one to the other."""

    context: ssl.SSLContext
    not_before: datetime
    not_after: datetime

    def invalid(self, now: datetime) -> str | None:
        """Why no client accepts it at this time, as the end of a sentence; None while it is valid."""
        if now > self.not_after:
            return f"expired at {_shown(self.not_after)}"
        if now < self.not_before:
            return f"is not valid before {_shown(self.not_before)}"
        return None


def load_certificate(cert_file: str, key_file: str) -> Certificate:
    """Reads both files. Raises UsageError, which names the file and holds nothing of the key. The times are not
    checked.
    """
    chain = _read_chain(cert_file)
    if b"PRIVATE KEY-----" not in _read(key_file, "tls_key"):
        raise UsageError(f"tls_key {key_file}: holds no private key in PEM")
    context = server_context()
    try:
        context.load_cert_chain(cert_file, key_file, password=lambda: _no_passphrase(key_file))
    except ssl.SSLError as error:
        raise UsageError(_reason(error, cert_file, key_file)) from None
    except OSError as error:
        raise UsageError(f"tls_cert {cert_file}, tls_key {key_file}: cannot be read: {error.strerror}") from None
    return Certificate(context, chain[0].not_valid_before_utc, chain[0].not_valid_after_utc)


def server_context() -> ssl.SSLContext:
    """The parameters of all handshakes, without a certificate.

    Of `create_default_context` are the ciphers (those with forward secrecy and authenticated encryption go first) and
    the absence of compression; no certificate is asked of clients. Session tickets are off: each costs time to make,
    and DB-GPT's clients, which make a new context for each call, cannot use one.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(_ALPN)
    return context


class WatchedCertificate:
    """The certificate in use, and the files from which its successor comes.

    `current` is for new connections; those that there are keep theirs. `problem` says, as one line, why the files
    cannot be used, or why no client accepts the certificate in use; None while all is well. It is logged
    when it changes.
    """

    def __init__(self, cert_file: str, key_file: str, clock: Clock) -> None:
        """Reads the files. Raises UsageError. A certificate that is not valid now is used all the same: clients of the
        other listener need the controller.
        """
        self._cert_file, self._key_file, self._now = cert_file, key_file, clock.now
        self._tried = self._seen = self._fingerprint()
        self.current = load_certificate(cert_file, key_file)
        self._next: Certificate | None = None
        """A pair that was loaded and is not valid yet."""
        self._fault: str | None = None
        """Why the files were not taken."""
        self.problem: str | None = None
        self.replaced: Callable[[datetime], None] = lambda _not_after: None
        """Called when a new pair is in use, with the end of its time."""
        self._report()

    def look(self) -> None:
        """Takes a new pair, if there is one. Call it once a second."""
        found = self._fingerprint()
        if found == self._seen and found != self._tried:
            self._tried = found
            self._load()
        self._seen = found
        if self._next is not None and self._next.invalid(self._now()) is None:
            self._take(self._next)
        self._report()

    def _load(self) -> None:
        self._next = None
        try:
            loaded = load_certificate(self._cert_file, self._key_file)
        except UsageError as error:
            self._fault = str(error)
            return
        if (invalid := loaded.invalid(self._now())) is None:
            self._take(loaded)
            return
        self._fault = f"tls_cert {self._cert_file}: the new certificate {invalid}"
        self._next = loaded if self._now() < loaded.not_before else None

    def _take(self, certificate: Certificate) -> None:
        self.current, self._next, self._fault = certificate, None, None
        log.info(
            "the TLS certificate was replaced; the new one is valid until %s",
            _shown(certificate.not_after),
            extra={"event": "certificate.replaced"},
        )
        self.replaced(certificate.not_after)

    def _report(self) -> None:
        invalid = self.current.invalid(self._now())
        lines = [f"{self._fault}; the one before it stays in use"] if self._fault else []
        lines += [f"tls_cert {self._cert_file}: the certificate in use {invalid}"] if invalid else []
        problem = "; ".join(lines) or None
        if problem != self.problem and problem is not None:
            log.error(
                "%s: clients that check it cannot connect" if invalid else "%s",
                problem,
                extra={"event": "certificate.problem"},
            )
        self.problem = problem

    def _fingerprint(self) -> _Fingerprint:
        return tuple(map(_file_fingerprint, (self._cert_file, self._key_file)))


@dataclass(frozen=True)
class TlsListener:
    """A listening socket for connections over TLS, and the certificate that they get."""

    sock: socket.socket
    certificate: WatchedCertificate

    @property
    def port(self) -> int:
        """The port of the socket."""
        return int(self.sock.getsockname()[1])


def _file_fingerprint(path: str) -> tuple[int, ...] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read_chain(cert_file: str) -> list[x509.Certificate]:
    data = _read(cert_file, "tls_cert")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise UsageError(f"tls_cert {cert_file}: holds no certificate in PEM, or one that is damaged") from None


def _read(path: str, setting: str) -> bytes:
    try:
        return read_file(path, _LARGEST_FILE, regular=True)
    except FileNotFoundError:
        raise UsageError(f"{setting} {path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{setting} {path}: cannot be read: {error.strerror}") from None


def _no_passphrase(key_file: str) -> str:
    """OpenSSL asks for a passphrase when the key is encrypted, by default at the terminal."""
    raise UsageError(
        f"tls_key {key_file}: is encrypted, and a passphrase is not supported; write the key without one, readable by "
        f"the controller only (openssl pkey -in {key_file} -out NEW)"
    )


def _reason(error: ssl.SSLError, cert_file: str, key_file: str) -> str:
    if error.reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
        return f"tls_key {key_file}: is not the key of the first certificate in {cert_file}"
    if error.reason is None or error.library == "PEM":
        return f"tls_key {key_file}: holds no private key in PEM, or one that is damaged"
    return f"tls_cert {cert_file}, tls_key {key_file}: cannot be used: {error.reason.lower().replace('_', ' ')}"


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
