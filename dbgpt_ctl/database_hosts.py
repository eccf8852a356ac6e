"""The hosts of one database, for example of a Galera cluster, and the order in which they are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AVOIDED_SECS = 10.0
"""For that time a host that failed is tried after all others."""


class DatabaseHost(NamedTuple):
    """The address of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class DatabaseHosts:
    """All controllers have the same list, so all use the same host while it serves: there is one clock (rule 7).

    `current` is the host that all connections go to, None before the first. Several threads may use this object.
    """

    def __init__(self, hosts: Sequence[DatabaseHost], monotonic: Callable[[], float]) -> None:
        self.all = tuple(hosts)
        self._monotonic = monotonic
        self._failed_at: dict[DatabaseHost, float] = {}
        self.current: DatabaseHost | None = None

    def in_order(self) -> list[DatabaseHost]:
        """As listed, but hosts that failed a short while ago come last, the one that failed first before the others."""
        now = self._monotonic()
        recent = {host: at for host, at in self._failed_at.copy().items() if now - at < AVOIDED_SECS}
        return sorted(self.all, key=lambda host: recent.get(host, float("-inf")))

    def failed(self, host: DatabaseHost) -> None:
        """Notes that the host could not be reached, or answered that it cannot serve."""
        self._failed_at[host] = self._monotonic()

    def worked(self, host: DatabaseHost) -> None:
        """Notes that the host serves; it is the current one from now on."""
        self._failed_at.pop(host, None)
        self.current = host

    def better(self) -> DatabaseHost | None:
        """The host that should be the current one if it serves again; None when that is the current one."""
        best = self.in_order()[0]
        return best if self.current not in {None, best} else None

    def __str__(self) -> str:
        return ",".join(map(str, self.all))


def parse_hosts(text: str, default_port: int) -> tuple[DatabaseHost, ...]:
    """`db1,db2:3307,[::1]:3308`: a port in the list replaces `default_port`. Raises ValueError with the reason."""
    return tuple(_parse_host(item.strip(), default_port) for item in text.split(","))


def _parse_host(text: str, default_port: int) -> DatabaseHost:
    host, port = text, ""
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!a} is not [ADDRESS]:PORT")
        port = rest[1:] if rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or any(mark in host for mark in "/@ []"):
        raise ValueError(f"{text!a} is not a host")
    if not port and not text.endswith(":"):
        return DatabaseHost(host, default_port)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):  # noqa: PLR2004 - the range of ports
        raise ValueError(f"{text!a} has no port from 1 to 65535")
    return DatabaseHost(host, int(port))
