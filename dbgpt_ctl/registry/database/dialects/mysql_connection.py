"""A connection of PyMySQL that does not trust the server before the server has proven who it is.

Anybody who listens at the address of a database, or stands between, can ask a client for its password: the server
chooses how the client logs in, and PyMySQL does what it is asked. PyMySQL has no option against that, and it puts no
bound on how long a server may send. The other drivers of MySQL for Python either have the same faults or need a C
library.
"""

from __future__ import annotations

import io
import logging
import ssl
import struct
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR

log = logging.getLogger(__name__)

LOGIN_SECS = 5.0
LOGIN_BYTES = 1 << 20
"""The longest that a login may take, and the most that the server may send meanwhile; some hundred bytes are usual."""
ANSWER_SECS = 60.0
ANSWER_BYTES = 1 << 30
"""The same for the answer to a statement. A list of a million instances has about 300 MB."""
_BUFFER_BYTES = 1 << 16

REFUSED_LOGINS = ("mysql_clear_password", "dialog", "sha256_password", "mysql_old_password")
"""The server learns the password with these: in clear, encrypted for a key that the server itself names, or as a hash
that takes seconds to break.
"""
_FULL_LOGIN = "caching_sha2_password"
_MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, struct.error)
"""What PyMySQL raises when bytes are not as it expects."""


class GuardedConnection(Connection):
    """As PyMySQL's connection, with these bounds:

    - The password is sent in none of REFUSED_LOGINS unless the certificate of the server was verified. It raises
      OperationalError with CR_AUTH_PLUGIN_ERR.
    - With a context that verifies certificates there is no connection without TLS.
    - The server cannot ask for a file of this host.
    - A login and each answer are bounded in time and in bytes, and what is not MySQL's protocol is an OperationalError.

    `caching_sha2_password`, the default of MySQL 8, is answered: without it most such servers could not be used. The
    server sees the password itself at the first login after its start. A warning says so, once per such login.
    """

    # Of PyMySQL's connection, whose types do not name them.
    ctx: ssl.SSLContext
    server_capabilities: int
    _auth_plugin_name: str
    _sock: Any
    _limited_file: Any = None

    def __init__(self, **options: Any) -> None:
        self._limits = _Limits(LOGIN_SECS, LOGIN_BYTES)
        self._is_logged_in = False
        plugins = {name: partial(require_verified, name) for name in REFUSED_LOGINS}
        super().__init__(**{**options, "local_infile": False, "auth_plugin_map": plugins})

    def connect(self, sock: Any = None) -> None:
        """Connects and logs in."""
        self._is_logged_in = False
        self._limits.begin(LOGIN_SECS, LOGIN_BYTES)
        try:
            super().connect(sock)
        except _MALFORMED as error:
            raise _not_understood(error) from error
        self._is_logged_in = True

    def _read_query_result(self, unbuffered: bool = False) -> int:  # noqa: FBT001 - PyMySQL's own signature
        try:
            return super()._read_query_result(unbuffered)  # type: ignore[misc, no-any-return]
        except _MALFORMED as error:
            self._force_close()  # type: ignore[attr-defined]
            raise _not_understood(error) from error

    def _execute_command(self, command: int, sql: Any) -> None:
        if self._is_logged_in:
            self._limits.begin(ANSWER_SECS, ANSWER_BYTES)
        super()._execute_command(command, sql)  # type: ignore[misc]

    @property
    def is_verifying(self) -> bool:
        """Whether this connection accepts only a server with a certificate for its name."""
        return bool(self.ssl) and self.ctx.verify_mode is ssl.CERT_REQUIRED and self.ctx.check_hostname

    @property
    def is_verified(self) -> bool:
        """Whether the server has shown such a certificate."""
        return self.is_verifying and isinstance(self._sock, ssl.SSLSocket)

    @property
    def _rfile(self) -> Any:
        return self._limited_file

    @_rfile.setter
    def _rfile(self, file: Any) -> None:
        """PyMySQL opens a file on its socket, and another one when TLS begins."""
        self._limited_file = file and io.BufferedReader(_LimitedFile(file.detach(), self._limits), _BUFFER_BYTES)

    def _get_server_information(self) -> None:
        super()._get_server_information()  # type: ignore[misc]
        if self.is_verifying and not self.server_capabilities & CLIENT.SSL:  # older releases of PyMySQL go on in clear
            raise pymysql.err.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server does not offer TLS")
        if self._auth_plugin_name in REFUSED_LOGINS and not self.is_verifying:
            # For this one PyMySQL sends the password with its first message. It may be the login of other users only:
            # if not, the server asks for it next.
            self._auth_plugin_name = ""

    def write_packet(self, payload: bytes) -> None:
        shows = self.password and payload == self.password + b"\0"
        if (shows or self.server_public_key) and not self.is_verified:
            log.warning(
                "the database host %s:%s asked for the password itself (%s), and its certificate is not verified: "
                "whoever poses as this host learns the password; set registry_db_ssl_ca",
                self.host,
                self.port,
                _FULL_LOGIN,
            )
        super().write_packet(payload)


def require_verified(login: str, connection: GuardedConnection) -> None:
    """PyMySQL calls it before it answers one of REFUSED_LOGINS, and goes its own way if it returns."""
    if not connection.is_verified:
        raise pymysql.err.OperationalError(
            CR.CR_AUTH_PLUGIN_ERR,
            f"the server asks for the password itself ({login}), and its certificate is not verified",
        )


def _not_understood(error: Exception) -> pymysql.err.OperationalError:
    text = f"the server does not speak MySQL's protocol ({type(error).__name__})"
    return pymysql.err.OperationalError(CR.CR_MALFORMED_PACKET, text)


DRIVER = SimpleNamespace(**{**vars(pymysql), "connect": GuardedConnection})
"""PyMySQL as SQLAlchemy takes it, with this connection."""


class _Limits:
    """How long a server may go on sending, and how much."""

    def __init__(self, secs: float, size: int) -> None:
        self.begin(secs, size)

    def begin(self, secs: float, size: int) -> None:
        self.deadline = time.monotonic() + secs
        self.left = size

    def require_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError("the server sends too slowly")

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise OSError("the server sends too much")


class _LimitedFile(io.RawIOBase):
    """The bytes of another file. Raises OSError beyond the limits."""

    def __init__(self, file: io.RawIOBase, limits: _Limits) -> None:
        self._file = file
        self._limits = limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._limits.require_time()
        size = self._file.readinto(buffer)
        self._limits.take(size or 0)
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
