"""The URL by which a caller reached a controller, from the request alone."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request

from dbgpt_ctl.controller.api.called_url import called_url
from dbgpt_ctl.settings.addresses import parse_address


def request(host: bytes | None, **scope: Any) -> Request:
    headers = [] if host is None else [(b"host", host)]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, **scope})


@pytest.mark.parametrize(
    ("host", "scope", "url"),
    [
        (b"ctl.example:8000", {}, "http://ctl.example:8000"),
        (b"ctl.example", {"scheme": "https"}, "https://ctl.example"),
        (b"[::1]:8000", {"scheme": "http"}, "http://[::1]:8000"),
        (b"ctl.example", {"root_path": "/cluster/"}, "http://ctl.example/cluster"),
        (None, {"server": ("10.0.0.2", 8000)}, "http://10.0.0.2:8000"),
        (None, {"server": ("::1", 8000), "scheme": "https"}, "https://[::1]:8000"),
        (None, {"server": ("/run/ctl.sock", None)}, "http://localhost"),
        (None, {}, "http://localhost"),
    ],
)
def test_scheme_and_host(host: bytes | None, scope: dict[str, Any], url: str) -> None:
    assert called_url(request(host, **scope)) == url


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"[::",
        b"[1]",
        b"a b",
        b"a'$(id)",
        b"\xff\xbd",
        b"u:p@h",
        b"h/path",
        b"h:99999",
        b"h#",
        b"dctl_" + b"a" * 43,
    ],
)
def test_a_host_that_is_none_is_not_shown(host: bytes) -> None:
    """A foreign application may allow any."""
    url = called_url(request(host, server=("10.0.0.2", 8000)))
    assert url == "http://10.0.0.2:8000"
    assert parse_address(url).url == url
