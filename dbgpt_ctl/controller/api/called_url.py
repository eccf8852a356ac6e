"""The URL by which a caller reached this controller."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.cross_site import host_of
from dbgpt_ctl.controller.http.request import header_map
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.addresses import parse_address

if TYPE_CHECKING:
    from fastapi import Request


def called_url(request: Request) -> str:
    """The scheme and the `Host` of the request, with the prefix where an application has it, without a trailing slash.

    What is before a proxy is not known: its scheme and its prefix. Without a `Host` that is one, it is the address at
    which the connection arrived.
    """
    scope = request.scope
    scheme, prefix = scope.get("scheme", "http"), scope.get("root_path", "")
    host = header_map(scope).get(b"host", b"").decode("latin-1")
    if host.isascii() and host_of(host) is not None:  # a foreign application may allow any text
        with suppress(UsageError):
            return parse_address(f"{scheme}://{host}{prefix}").url
    address, port = scope.get("server") or ("localhost", None)
    place = f"[{address}]" if ":" in address else address
    return f"{scheme}://{place}:{port}" if port else f"{scheme}://localhost"
