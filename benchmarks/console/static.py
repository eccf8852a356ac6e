"""Static pages beside the console: the same instances as rows, and the same number of bytes."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from benchmarks.report import MeasurementError
from tests.support.dbgpt_process import until
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.dbgpt_cluster import Lab

ALL, INERT = "all.html", "inert.html"
COLUMNS = ("state", "model_name", "host", "port", "weight", "last_heartbeat", "drain", "flaps")
"""As many as the table of instances has."""
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Instances</title><link rel="icon" href="data:,"></head>
<body><main><table>
"""
_FOOT = "</table></main></body></html>\n"
_INERT = ('<script type="text/plain">', "</script>")
"""Between them is what a browser reads and does nothing with."""


def page(instances: Sequence[dict[str, Any]]) -> str:
    """A page whose table has a row for each of the instances, as /api/v1/instances shows them."""
    heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = (f"<tr>{''.join(f'<td>{_text(one[name])}</td>' for name in COLUMNS)}</tr>\n" for one in instances)
    return f"{_HEAD}<thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>{_FOOT}"


def filled(text: str, size: int) -> str:
    """The page with so many inert bytes at its end that all of it is `size` bytes. Raises MeasurementError."""
    missing = size - len(text.encode()) - sum(map(len, _INERT))
    if missing < 0:
        raise MeasurementError(f"a static page of {size} bytes is smaller than its table")
    before, after = _INERT
    return text.replace(_FOOT, f"</table></main>{before}{'x' * missing}{after}</body></html>\n")


def _text(value: object) -> str:
    return "" if value is None else escape(str(value))


@dataclass(frozen=True)
class FileServer:
    """Python's own, for the files of one folder."""

    folder: Path
    url: str

    def put(self, name: str, text: str) -> str:
        """Writes the file; its URL."""
        (self.folder / name).write_text(text)
        return f"{self.url}/{name}"


def serve_files(lab: Lab) -> FileServer:
    """In a process of its own, on a free port of loopback."""
    folder = lab.folder / "static"
    folder.mkdir()
    port = free_port()
    options = ("--bind", "127.0.0.1", "--directory", str(folder), "--protocol", "HTTP/1.1")
    process = lab.start("static", [sys.executable, "-m", "http.server", *options, str(port)], lab.env())
    until("the file server", lambda: _listens(port), process)
    return FileServer(folder, f"http://127.0.0.1:{port}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
