"""The listening socket. It is made before anything else, so that a busy port is one line and not a traceback."""

from __future__ import annotations

import errno
import socket

from dbgpt_ctl.errors import CannotListen

BACKLOG = 65_535
"""How many connections may wait until the controller takes them; the system lowers it to net.core.somaxconn. A client
beyond that is not refused: its system tries again a second later.
"""

MAX_UNSENT_BYTES = 64 * 1024
"""The system takes this many bytes for a peer beyond those on their way to it. Without this bound it took 1 MB for each
watcher that never read, and the controller took the time to write them.
"""


def listening_socket(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A bound socket on the first address of `host`. Raises CannotListen, which names `flag`, the flag of the port, and
    the process that holds the port if the system shows it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise CannotListen(f"host {host!r} is not an address of this machine: {error.strerror}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(_reason(host, port, flag, error)) from None
    return sock


def _reason(host: str, port: int, flag: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use{_port_holder(port)}; stop that process or choose another {flag}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not allowed for this user; choose a {flag} above 1023"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def _port_holder(port: int) -> str:
    """` by NAME (process 123)`, or nothing where the system does not show it."""
    import psutil  # only for a start that failed

    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""
