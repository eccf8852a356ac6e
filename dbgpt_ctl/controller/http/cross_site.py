"""Refuses requests that a web page makes with the browser of a person who can reach the controller.

A controller without authentication trusts whoever can connect to it, and a browser connects for any page that a person
opens. Two attacks follow:

- DNS rebinding: the name of the attacker's own site suddenly stands for 127.0.0.1, so the browser takes the controller
  for that site and lets its pages read and change everything. The name is still in `Host`: HostNotAllowed, 421.
- A page of another site sends a change without being able to read the answer (CSRF). The browser adds the headers
  `Sec-Fetch-Site` and `Origin`, which no page can forge: ForeignOrigin, 403. A change that comes with the cookie of a
  session must have these headers: programs, which have none, have no session either.

Starlette's TrustedHostMiddleware is not used. It would not see the requests that `ControllerApp` answers before any
middleware. It has no ranges of addresses, so it cannot express "loopback". It answers 400 without a reason, and
redirects to `www.`, which DB-GPT's clients do not follow.
"""

from __future__ import annotations

import logging
import re
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.request import header_map, is_json
from dbgpt_ctl.domain.fields import quoted
from dbgpt_ctl.errors import ForeignOrigin, HostNotAllowed
from dbgpt_ctl.settings.masking import mask_own_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping
    from typing import Any

log = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""These change nothing. Without CORS headers, which this API does not send, a foreign page cannot read the answers."""
OWN_PAGE = frozenset({b"same-origin", b"none"})
"""Values of `Sec-Fetch-Site` for a page of the controller itself, and for a person who typed the address."""
MAX_KNOWN = 256
MAX_HOST_BYTES = 263
"""A name of 255 characters, a colon, and a port."""
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\\\[\]]+)(?::[0-9]*)?")


class AllowedHosts:
    """The hosts by which a controller may be called. Ports are not compared: behind a proxy or a container they differ.

    A pattern is `*` (any host), `*.example.com` (every name below example.com), a range of addresses such as
    `10.0.0.0/8`, a name, or an address without brackets.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = frozenset(patterns)
        self.any = "*" in patterns
        self._suffixes = tuple(pattern[1:].lower() for pattern in patterns if pattern.startswith("*."))
        self._networks = tuple(ip_network(pattern, strict=False) for pattern in patterns if "/" in pattern)
        self._hosts = frozenset(_canonical(pattern) for pattern in patterns if "/" not in pattern)

    def __contains__(self, host: str) -> bool:
        """Whether this host is allowed; an IPv6 address has no brackets."""
        host = _canonical(host)
        if self.any or host in self._hosts or host.endswith(self._suffixes):
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class CrossSiteGuard:
    """Checks each request before its endpoint: the host that it names, and for a change the page that sent it.

    `check_page` is called with the scope of a change that a page of the controller itself sends: it may raise.
    """

    def __init__(
        self, allowed: AllowedHosts, check_page: Callable[[MutableMapping[str, Any]], None] = lambda _: None
    ) -> None:
        self._allowed = allowed
        self._check_page = check_page
        self._known: set[bytes] = set()
        """Values of `Host` that were allowed, at most MAX_KNOWN: most requests cost one look-up."""
        self._logged = False

    def check(self, scope: MutableMapping[str, Any]) -> None:
        """Raises HostNotAllowed, ForeignOrigin or what `check_page` raises. Nothing was read of the body.

        A request without `Host` passes: a browser always sends it, and a load balancer's check over HTTP/1.0 does not.
        """
        raw = scope["headers"]
        if scope["method"] in SAFE_METHODS:
            # Clients send Host first, and a list is called on every LLM request: it does not need all headers by name.
            host = raw[0][1] if raw and raw[0][0] == b"host" else header_map(scope).get(b"host")
            if host not in self._known:
                self._check_host(host)
            return
        headers = header_map(scope)
        host = headers.get(b"host")
        if host not in self._known:
            self._check_host(host)
        if b"origin" in headers or b"sec-fetch-site" in headers:
            _check_origin(headers)
            self._check_page(scope)

    def _check_host(self, header: bytes | None) -> None:
        if header is None or self._allowed.any:
            return
        host = host_of(header.decode("latin-1")) if len(header) <= MAX_HOST_BYTES else None
        if host is not None and host in self._allowed:
            if len(self._known) < MAX_KNOWN:
                self._known.add(header)
            return
        shown = quoted(mask_own_tokens(header[:MAX_HOST_BYTES].decode("latin-1")))
        error = HostNotAllowed.refusing(shown, None if host is None else mask_own_tokens(host))
        if not self._logged:
            self._logged = True
            log.warning(
                "a request was refused: %s; further ones are not logged", error, extra={"event": "http.host_refused"}
            )
        raise error


def host_of(text: str) -> str | None:
    """The host in `HOST[:PORT]`, without the brackets of an IPv6 address; None if the text has another form."""
    form = _HOST_AND_PORT.fullmatch(text)
    return None if form is None else form[1].strip("[]")


def _canonical(host: str) -> str:
    """One spelling for each host: lower case, without the dot at the end of a name; an address in its shortest form."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().rstrip(".")
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)


def require_own_page(scope: MutableMapping[str, Any]) -> None:
    """For a request that a session proves. Raises ForeignOrigin for a change, unless it names its origin, that is this
    controller, and it declares JSON: a browser sends that type to another site only if that site allows it.
    """
    if scope["method"] in SAFE_METHODS:
        return
    headers = header_map(scope)
    if b"origin" not in headers:
        raise ForeignOrigin("this change comes with the cookie of a page but has no Origin: programs send a token")
    _check_origin(headers)
    if not is_json(headers.get(b"content-type", b"")):
        raise ForeignOrigin("a page that is signed in sends a change with Content-Type: application/json")


def _check_origin(headers: dict[bytes, bytes]) -> None:
    """Raises ForeignOrigin unless the controller's own page, or no page, sent the request.

    The order is that of CrossOriginProtection in Go's net/http: browsers send `Sec-Fetch-Site` to https and to
    loopback, and it holds behind a proxy that changes `Host`; elsewhere `Origin` must name the same host and port.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site in OWN_PAGE:
        return
    if site is None and origin is not None and origin.partition(b"://")[2] == headers.get(b"host"):
        return
    raise ForeignOrigin(
        f"a web page of {quoted((origin or b'another site').decode('latin-1'))} sent this request; only a page of this "
        "controller itself, or a program, may change something here"
    )
