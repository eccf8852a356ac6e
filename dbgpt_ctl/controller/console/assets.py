"""The files of the console page as a browser gets them: compressed, with the headers that keep foreign code out."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).with_name("assets")
PAGE = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
DOC_COMMENT = re.compile(rb"^[ \t]*/\*\*.*?\*/[ \t]*$", re.DOTALL | re.MULTILINE)
"""A comment of types and meanings, which begins and ends a line."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
"""`no-cache`: a browser keeps the files and asks with their ETag, so a new release is there at once."""


def names() -> tuple[str, ...]:
    """The names of all files, relative to their folder, in order."""
    files = (path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.suffix in MEDIA_TYPES)
    return tuple(sorted(files))


def answer(name: str, headers: Mapping[str, str]) -> Response:
    """The file for a request with these headers: 200, or 304 where the browser has it. `name` is one of `names()`."""
    plain, compressed, etag = _content(name)
    shown = {**HEADERS, "ETag": etag}
    if etag in headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=shown)
    if "gzip" in headers.get("accept-encoding", ""):
        plain, shown["Content-Encoding"] = compressed, "gzip"
    return Response(plain, headers=shown, media_type=MEDIA_TYPES[Path(name).suffix])


@cache
def _content(name: str) -> tuple[bytes, bytes, str]:
    """The bytes, the bytes after gzip, and the ETag. A file is read when it is first wanted, and kept: all files of
    one controller are of one release, also while its package is replaced on the disk.
    """
    plain = (FOLDER / name).read_bytes()
    if name.endswith(".js"):
        plain = DOC_COMMENT.sub(_empty_lines, plain)
    return plain, gzip.compress(plain, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:16]}"'


def _empty_lines(comment: re.Match[bytes]) -> bytes:
    """No browser needs doc comments, a third of a module. Lines keep their numbers, for the messages of errors."""
    return b"\n" * comment[0].count(b"\n")
