"""The health check of the container image: whether the controller beside it answers /livez.

    python -m dbgpt_ctl.controller.liveness_probe

It reads the settings of the controller from the environment, and sees no flags. Exit code 0: it lives; 1: it does not,
and a line says why. `ctl health` asks whether it serves, which it cannot while it waits for its database.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from urllib.parse import urlsplit

from dbgpt_ctl.domain.fields import canonical_host
from dbgpt_ctl.errors import CtlError
from dbgpt_ctl.settings.schema import ControllerSettings

TIMEOUT_SECS = 4.0
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - binds nothing


def main() -> int:
    """Asks once. Returns the exit code."""
    try:
        settings = ControllerSettings.load({}, os.environ, "")
    except CtlError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    url = settings.urls(canonical_host(_LOOPBACK_OF.get(settings.host, settings.host)))[0]
    problem = _problem(url)
    if problem is not None:
        sys.stderr.write(f"{url}/livez: {problem}\n")
    return 0 if problem is None else 1


def _problem(url: str) -> str | None:
    """Why a controller does not live; None if it does."""
    connection = _connection(url)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    finally:
        connection.close()
    return None if status == http.client.OK else f"status {status}"


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECS)
    # Its certificate is for the names by which others call it, and it calls itself here, by a loopback address.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECS, context=context)


if __name__ == "__main__":
    sys.exit(main())
