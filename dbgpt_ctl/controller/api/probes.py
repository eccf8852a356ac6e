"""/livez and /readyz, at the root: the probes of Kubernetes, of load balancers and of containers.

The text, and `?verbose`, are as Kubernetes' own servers have them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.callers import RouteAccess, may_read
from dbgpt_ctl.controller.http.prepared import PreparedResponse
from dbgpt_ctl.controller.http.routes import AT_ROOT, Route
from dbgpt_ctl.domain.fields import printable
from dbgpt_ctl.wire import queries, status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.controller.http.routes import Endpoint
    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.domain.controllers import Check

TEXT = "text/plain"
NOT_READY = HTTPStatus.SERVICE_UNAVAILABLE
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
MEANINGS = {"livez": "the process answers", "readyz": "lists can be answered"}
"""What a 200 says."""
HIDDEN_DETAIL = "a token shows why"


class ProbeEndpoints:
    """The endpoints; each method is named by its path."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def routes(self) -> tuple[Route, ...]:
        """The routes at the root."""
        return (self._route("/livez", self.livez), self._route("/readyz", self.readyz, NOT_READY))

    async def livez(self, request: Request) -> Response:
        """200 `ok`: the process and its event loop answer. Nothing else counts, least of all the database.

        A platform that restarts the container after some failures helps only where the process hangs. With `verbose`
        the answer lists all checks, with their reasons for those who may read; they do not change the status.
        """
        return self._answer("livez", request, passed=True)

    async def readyz(self, request: Request) -> Response:
        """200 `ok` exactly when `/api/health` is 200: lists can be answered, and the controller is not leaving.

        Lists can be answered from the last known list too: a database that is down takes no controller out of
        service. With `verbose`, and with 503, the answer lists all checks, with their reasons for those who may read;
        they do not change the status.
        """
        return self._answer("readyz", request, passed=self._controller.health().ready)

    def _answer(self, name: str, request: Request, *, passed: bool) -> Response:
        if passed and "verbose" not in request.query_params:
            return PreparedResponse(b"ok", TEXT, HEADERS)
        checks, shown = self._controller.checks(), may_read(request.scope)
        lines = [*map(_line_with_detail if shown else _line, checks), _last_line(name, checks, passed=passed)]
        body = "".join(f"{line}\n" for line in lines)
        return PreparedResponse(body.encode(), TEXT, HEADERS, HTTPStatus.OK if passed else NOT_READY)

    def _route(self, path: str, endpoint: Endpoint, *statuses: int) -> Route:
        return Route(
            "GET",
            path,
            endpoint,
            RouteAccess.EVERYONE,
            status.Probe,
            queries.ProbeQuery,
            errors=frozenset(),
            media_type=TEXT,
            prefixes=AT_ROOT,
            statuses=(HTTPStatus.OK, *statuses),
            refuses_query=False,
        )


def _line(check: Check) -> str:
    """For everybody."""
    return f"[+]{check.name} ok" if check.ok else f"[-]{check.name}: {HIDDEN_DETAIL}"


def _line_with_detail(check: Check) -> str:
    """For those who may read. A detail may hold what strangers sent, and `curl` prints it to a terminal."""
    return _line(check) if check.detail is None else f"[-]{check.name}: {printable(check.detail)}"


def _last_line(name: str, checks: Iterable[Check], *, passed: bool) -> str:
    failed = sum(not check.ok for check in checks)
    if not passed:
        return f"{name} check failed"
    if not failed:
        return f"{name} check passed"
    noun = "1 check" if failed == 1 else f"{failed} checks"
    return f"{name} check passed although {noun} failed: {MEANINGS[name]}"
