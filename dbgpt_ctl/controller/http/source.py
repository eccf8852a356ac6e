"""The source of a request: the address that it came from, also behind proxies.

Without `--trusted-proxies` the source is the peer of the connection, and no header is read. With it, a request from a
trusted proxy has as its source the rightmost address in `X-Forwarded-For` that is no trusted proxy. Each proxy appends
the address of its own peer, so what stands further left was written by a client, and is not believed.

Other headers are never read: a proxy that sets `X-Forwarded-For` lets a `Forwarded` or `X-Real-IP` of the client
through. A value that is no address, such as `unknown` or a name, is not believed either: the source is the proxy then.

Uvicorn's ProxyHeadersMiddleware is not used. It believes any text that stands in the place of an address, and
`X-Forwarded-Proto` too. It replaces `client` in the scope, by which a controller finds the connection of a slow reader.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from ipaddress import IPv4Address
    from typing import Any

SOURCE = "dbgpt_ctl.source"
"""Key in a request's scope: the source that a trusted proxy reports."""
MAX_HOPS = 32
"""So many values from the right are read; a request that passed more trusted proxies has the nearest one as source."""
MAX_KNOWN = 4096
MAX_CACHED_BYTES = 256
"""A longer header comes from no usual chain of proxies, and is read each time."""
_HEADER = b"x-forwarded-for"
_FORM = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}|([0-9A-Fa-f:.]+)")
"""An address, alone or with a port; an IPv6 address with a port is in brackets. A zone is no part of it: the zones of
another machine have no meaning here.
"""


def source_of(scope: MutableMapping[str, Any]) -> str | None:
    """The address that the request came from, an IPv6 address without brackets; None where there is none, as on a Unix
    socket.
    """
    source: str | None = scope.get(SOURCE)
    if source is not None:
        return source
    client = scope.get("client")
    return client[0] if client else None


class TrustedProxies:
    """Believes the `X-Forwarded-For` of these proxies. `networks` are addresses, and ranges such as `10.0.0.0/8`."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(map(ip_network, networks))
        self._trusts_peer = lru_cache(maxsize=MAX_KNOWN)(self._trusts_text)
        self._cached_source = lru_cache(maxsize=MAX_KNOWN)(self._source)

    def note_source(self, scope: MutableMapping[str, Any]) -> None:
        """Notes the source in the scope, if the peer is a trusted proxy and reports one. Raises nothing."""
        client = scope.get("client")
        if not client or not self._trusts_peer(client[0]):
            return
        values = [value for name, value in scope["headers"] if name == _HEADER]
        if values:
            header = b",".join(values)  # a proxy may append a line instead of a value
            source = self._cached_source(header) if len(header) <= MAX_CACHED_BYTES else self._source(header)
            if source is not None:
                scope[SOURCE] = source

    def _source(self, header: bytes) -> str | None:
        """The rightmost address that is no trusted proxy; if all are, the leftmost: the proxy itself sent the request.
        None if what stands there is no address.
        """
        address = None
        for value in reversed(header.decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            if not (text := value.strip()):
                continue  # empty elements of a list have no meaning (RFC 9110)
            address = address_in(text)
            if address is None or not self._trusts(address):
                return None if address is None else str(address)
        return None if address is None else str(address)

    def _trusts_text(self, peer: str) -> bool:
        try:
            return self._trusts(_plain(ip_address(peer)))
        except ValueError:  # a foreign application may serve on a Unix socket
            return False

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def address_in(text: str) -> IPv4Address | IPv6Address | None:
    """The address in a value of `X-Forwarded-For`: `10.0.0.4`, `10.0.0.4:5678`, `2001:db8::1`, `[2001:db8::1]` or
    `[2001:db8::1]:5678`. None for anything else.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    try:
        return _plain(ip_address(form[1] or form[2] or form[3]))
    except ValueError:
        return None


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that is mapped into IPv6, as a socket for both reports it, as IPv4."""
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
