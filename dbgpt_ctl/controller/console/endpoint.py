"""`/console/`: the page and its files, for everyone. What the page shows is behind the check of /api/v1.

The page has five views. Each has a path of its own, so that a link, the history and a reload lead back to it.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request


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


ROOT, CONSOLE = "/", "/console"
VIEWS = ("instances", "instance", "events", "controller")
"""The overview is at the folder itself."""
REDIRECT = "console/"
"""Relative, so that it holds below the prefix of a proxy."""


def add_console(app: FastAPI) -> tuple[str, ...]:
    """Serves the console, and returns its paths."""
    pages = dict.fromkeys((f"{CONSOLE}/", *(f"{CONSOLE}/{view}" for view in VIEWS)), PAGE)
    files = pages | {f"{CONSOLE}/{name}": name for name in names() if name != PAGE}

    async def serve(request: Request) -> Response:
        name = files.get(request.scope["path"])
        if name is None:
            raise HTTPException(404)
        return answer(name, request.headers)

    app.add_route(f"{CONSOLE}/{{path:path}}", serve, include_in_schema=False)
    app.add_route(CONSOLE, _to_console, include_in_schema=False)
    app.add_route(ROOT, _to_console_if_browser, include_in_schema=False)
    return (ROOT, CONSOLE, *files)


async def _to_console(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    return RedirectResponse(REDIRECT)


async def _to_console_if_browser(request: Request) -> Response:
    """A program that asks for the root gets 404, as without a console."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse(REDIRECT)
