"""The cookie in which a browser keeps the id of its session.

A browser sends a cookie to every port of a host, so the name holds the port: two controllers on one machine would take
each other's cookies away otherwise. Scripts cannot read it (HttpOnly), and no page of another site makes a browser send
it (SameSite=Strict). Over TLS it is never sent in the clear (Secure).
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.request import header_map

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any

PREFIX = "ctl_session_"
MAX_SAME_NAME = 4
"""So many cookies of the same name are looked at: another port of the host can set one too, with a longer path."""
_ID = re.compile(rb"[A-Za-z0-9_-]{16,64}")
_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Strict"


def cookie_name(scope: MutableMapping[str, Any]) -> str:
    """The name of the cookie at the port to which the request came."""
    server = scope.get("server")
    return f"{PREFIX}{server[1] if server else None}"


def session_ids(scope: MutableMapping[str, Any]) -> Iterator[str]:
    """What may be the id of a session in the cookies of the request, at most MAX_SAME_NAME."""
    header = header_map(scope).get(b"cookie")
    if header is None:
        return
    pairs = _pairs_named(cookie_name(scope)).finditer(header)
    own = (pair[1].strip() for pair in pairs if _begins_at(header, pair.start()))
    for value in islice(own, MAX_SAME_NAME):
        if _ID.fullmatch(value):
            yield value.decode()


def _begins_at(header: bytes, place: int) -> bool:
    """Whether the name of a cookie begins there, and it is not a part of something else."""
    before = header[max(0, place - 2) : place]
    return before in {b"", b"; "} or before.endswith(b";")


@lru_cache(maxsize=8)
def _pairs_named(name: str) -> re.Pattern[bytes]:
    """Finds such a pair where its name stands. To split a header of 64 KiB at each semicolon takes 20 ms, and a
    stranger may send one with each request.
    """
    return re.compile(rb"%b=([^;]*)" % re.escape(name).encode())


def setting_cookie(scope: MutableMapping[str, Any], session_id: str) -> str:
    """The header Set-Cookie that gives the browser this id. Without an end: it is gone when the browser is closed."""
    return f"{cookie_name(scope)}={session_id}; {_ATTRIBUTES}{_secure(scope)}"


def clearing_cookie(scope: MutableMapping[str, Any]) -> str:
    """The header Set-Cookie that lets the browser forget the id."""
    return f"{cookie_name(scope)}=; Max-Age=0; {_ATTRIBUTES}{_secure(scope)}"


def _secure(scope: MutableMapping[str, Any]) -> str:
    """Where a proxy ends TLS, only the page's own origin says that the browser uses it."""
    over_tls = scope["scheme"] == "https" or header_map(scope).get(b"origin", b"").startswith(b"https://")
    return "; Secure" if over_tls else ""
