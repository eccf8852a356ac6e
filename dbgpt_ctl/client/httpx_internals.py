"""The one module that uses the internals of httpx and httpcore. Each use falls back to what they do by themselves.

- httpx imports its own command line, and click and rich with it, wherever these are installed. `ctl models list` takes
  a quarter more CPU time with that import (193 instead of 158 ms, median of 20 alternating pairs).
- httpx has one read timeout for the head of a response and for its body. A watch needs two: its head comes at once, its
  body may be silent for many seconds.
- httpx passes no network backend to httpcore, which would let a call have a deadline (see `deadline`).
- A server that sends the banner of another protocol, and one that sends nothing, are the same exception in httpx. What
  came is in the buffer of h11.

pyproject.toml pins httpx, and tests/client/test_httpx_internals.py fails when a release of it changes this.
"""

from __future__ import annotations

import sys
from importlib import import_module
from traceback import walk_tb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpcore import NetworkBackend

COMMAND_LINE = "httpx._main"
_BEGINNING = b"HTTP/"


def _import_without_command_line() -> None:
    """None in sys.modules is an ImportError to httpx, which it expects where click or rich is missing."""
    if "httpx" in sys.modules or COMMAND_LINE in sys.modules:
        return
    sys.modules[COMMAND_LINE] = None  # type: ignore[assignment]
    try:
        import_module("httpx")
    except ImportError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "httpx"]:
            del sys.modules[name]
    finally:
        sys.modules.pop(COMMAND_LINE, None)


_import_without_command_line()
import httpx  # noqa: E402

__all__ = ["httpx", "is_no_http", "set_network_backend", "set_read_timeout"]


def is_no_http(error: BaseException) -> bool:
    """Whether bytes came that are no HTTP response, as the banner of another protocol. A response that is broken after
    its head is HTTP.

    Without what httpcore and h11 have today it is False: then the error is told as a connection that broke.
    """
    inner: BaseException | None = error
    while inner is not None:
        for frame, _ in walk_tb(inner.__traceback__):
            state = getattr(frame.f_locals.get("self"), "_h11_state", None)
            received = getattr(state, "trailing_data", (b"",))[0]
            if received and getattr(state, "their_http_version", None) is None:
                return not received.startswith(_BEGINNING[: len(received)])
        inner = inner.__cause__ or inner.__context__
    return False


def set_network_backend(client: httpx.Client, around: Callable[[NetworkBackend], NetworkBackend]) -> None:
    """Puts a backend around that of each of the client's pools, before their first connection.

    Without that each read has a timeout, and all together have none.
    """
    transports = (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values())
    for pool in (getattr(transport, "_pool", None) for transport in transports):
        backend = getattr(pool, "_network_backend", None)
        if backend is not None:
            pool._network_backend = around(backend)  # type: ignore[union-attr]  # noqa: SLF001


def set_read_timeout(response: httpx.Response, seconds: float) -> None:
    """Bounds each wait for more of a body that is still to be read.

    httpcore looks the timeout up in the extensions of the request when it begins with the body. Without that the
    timeout of the request goes on to count, and a watch breaks off at a silence of that length.
    """
    timeout = response.request.extensions.get("timeout")
    if isinstance(timeout, dict):
        timeout["read"] = seconds
