"""What the controller tells systemd: that it serves, that its event loop runs, and that it leaves.

The protocol is sd_notify(3): one datagram to a socket. It is written here because the packages for it either have no
maintainer or bind to libsystemd. Podman and other supervisors read the same messages.
"""

from __future__ import annotations

import contextlib
import socket


class ServiceManager:
    """Sends messages to the socket at `address`, the value of NOTIFY_SOCKET; without one it sends nothing.

    No method waits or raises: a service manager that is away must not disturb the controller.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._is_leaving = False

    def serving(self) -> None:
        """To be called about once a second, from the event loop, while requests are served, also while it leaves.

        The first call completes the start of a unit with Type=notify. Each call restarts the time of WatchdogSec, after
        which systemd ends a controller whose event loop hangs.
        """
        self._send(b"WATCHDOG=1" if self._is_leaving else b"READY=1\nWATCHDOG=1")

    def leaving(self) -> None:
        """The controller ends soon."""
        self._is_leaving = True
        self._send(b"STOPPING=1")

    def _send(self, message: bytes) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message, self._address)
