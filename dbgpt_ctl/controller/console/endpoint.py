"""`/console/`: the page and its files, for everyone. What the page shows is behind the check of /api/v1.

The page has five views. Each has a path of its own, so that a link, the history and a reload lead back to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from dbgpt_ctl.controller.console import assets

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import Response

ROOT, CONSOLE = "/", "/console"
VIEWS = ("instances", "instance", "events", "controller")
"""The overview is at the folder itself."""
REDIRECT = "console/"
"""Relative, so that it holds below the prefix of a proxy."""


def add_console(app: FastAPI) -> tuple[str, ...]:
    """Serves the console, and returns its paths."""
    pages = dict.fromkeys((f"{CONSOLE}/", *(f"{CONSOLE}/{view}" for view in VIEWS)), assets.PAGE)
    files = pages | {f"{CONSOLE}/{name}": name for name in assets.names() if name != assets.PAGE}

    async def serve(request: Request) -> Response:
        name = files.get(request.scope["path"])
        if name is None:
            raise HTTPException(404)
        return assets.answer(name, request.headers)

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
