"""The header by which a controller that forwards finds out that a request comes back to it.

Each such controller has a random id and adds it to the header. One that finds its own id there forwards to itself,
directly or over others, under whatever name or address and through whatever proxy. The standard for it is `Via` of
RFC 9110, or `CDN-Loop` of RFC 8586, which exists because proxies rewrite `Via` and some servers compress no answer with
it. `CDN-Loop` is for networks that deliver content, so this is a header of our own with the form of the latter.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = "X-Ctl-Forwarded-By"
MAX_HOPS = 16
"""A request that has passed more controllers is taken for one in a loop."""
_RAW_HEADER = HEADER.lower().encode()
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

HOPS: ContextVar[tuple[str, ...]] = ContextVar("dbgpt_ctl.forwarding", default=())
"""The ids of the controllers that have forwarded the request that is being served."""


def incoming(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """The ids in the raw headers of a request (names in lower case, as in ASGI), in any number of such headers. What
    is no id is left out, because these are sent on.
    """
    found = [value for name, value in headers if name == _RAW_HEADER]
    if not found:
        return ()
    hops = (hop.strip() for hop in b",".join(found).decode("latin-1").split(","))
    return tuple(hop for hop in hops if _ID.fullmatch(hop))


def is_loop(hops: tuple[str, ...], own_id: str) -> bool:
    """Whether a request with these hops was forwarded by the controller with this id, or by more than MAX_HOPS."""
    return own_id in hops or len(hops) > MAX_HOPS


def outgoing(own_id: str) -> str:
    """The value of the header for a request that the controller with this id forwards."""
    return ",".join((*HOPS.get(), own_id))
