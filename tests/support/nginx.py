"""A real nginx as a reverse proxy on loopback, ended by its own process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STARTUP_SECS = 20
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {target};
            proxy_bind {address};
            proxy_set_header X-Forwarded-For {forwarded_for};
        }}
    }}
}}
"""


@contextmanager
def running_nginx(
    folder: Path, target: str, *, address: str, forwarded_for: str = "$proxy_add_x_forwarded_for"
) -> Iterator[str]:
    """Forwards to `target`, which it calls from `address`; gives its base URL. In CI its absence is a failure."""
    program = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if program is None:
        missing = "nginx is missing: install it (Debian: apt install nginx-light)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    folder.mkdir()
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, port=port, target=target, address=address, forwarded_for=forwarded_for)
    )
    process = subprocess.Popen([program, "-p", str(folder), "-e", "stderr", "-c", str(configuration)])
    try:
        _await_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTUP_SECS
    while time.monotonic() < deadline:
        assert process.poll() is None, "nginx ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("nginx does not listen")
