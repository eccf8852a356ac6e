"""The files of the console page as a browser gets them: compressed, with the headers that keep foreign code out."""

from __future__ import annotations

import gzip
import hashlib
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
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
"""`no-cache`: a browser keeps the files and asks with their ETag, so a new release is there at once."""


def names() -> tuple[str, ...]:
    """The names of all files, relative to their folder, in order."""
    return tuple(_sources())


@cache
def _sources() -> dict[str, str]:
    """The text of each file. All are read at once, when a controller starts: so its files are of one release, also
    while its package is replaced on the disk.
    """
    paths = sorted(path for path in FOLDER.rglob("*") if path.suffix in MEDIA_TYPES)
    return {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in paths}


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
    """The bytes, the bytes after gzip, and the ETag, made when the file is first wanted."""
    plain = _minified(name, _sources()[name]).encode()
    return plain, gzip.compress(plain, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:16]}"'


def _minified(name: str, source: str) -> str:
    """Modules and styles without comments and needless spaces, a third of what a browser would load; nothing is
    renamed. Other files stay as they are.
    """
    match Path(name).suffix:
        case ".js":
            import rjsmin  # `ctl serve` starts without it

            return str(rjsmin.jsmin(source))
        case ".css":
            import rcssmin

            return str(rcssmin.cssmin(source))
    return source
