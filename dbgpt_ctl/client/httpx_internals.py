"""The one module that uses the internals of httpx and httpcore. Each use falls back to what they do by themselves.

- httpx imports its own command line, and click and rich with it, wherever these are installed. `ctl models list` takes
  a quarter more CPU time with that import (193 instead of 158 ms, median of 20 alternating pairs).
- httpx has one read timeout for the head of a response and for its body. A watch needs two: its head comes at once, its
  body may be silent for many seconds.

pyproject.toml pins httpx, and tests/client/test_httpx_internals.py fails when a release of it changes this.
"""

from __future__ import annotations

import sys
from importlib import import_module

COMMAND_LINE = "httpx._main"


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

__all__ = ["httpx", "set_read_timeout"]


def set_read_timeout(response: httpx.Response, seconds: float) -> None:
    """Bounds each wait for more of a body that is still to be read.

    httpcore looks the timeout up in the extensions of the request when it begins with the body. Without that the
    timeout of the request goes on to count, and a watch breaks off at a silence of that length.
    """
    timeout = response.request.extensions.get("timeout")
    if isinstance(timeout, dict):
        timeout["read"] = seconds
