"""/api/v1/session: who the page in a browser is, sign in with a token, and sign out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import Response

from dbgpt_ctl.auth.tokens import Mode
from dbgpt_ctl.controller.auth.page_rights import PageRights, rights_of, rights_with
from dbgpt_ctl.controller.auth.sessions import clearing_cookie, setting_cookie
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.request import header_map, json_object
from dbgpt_ctl.controller.http.routes import JSON, Route
from dbgpt_ctl.controller.http.source import source_of
from dbgpt_ctl.controller.http.v1_params import reject_unknown_fields
from dbgpt_ctl.errors import AuthenticationIsOff, InvalidInstance, NotAuthenticated, NotPermitted
from dbgpt_ctl.wire import auth
from dbgpt_ctl.wire.encoding import encoded
from dbgpt_ctl.wire.fields import MAX_TOKEN_CHARS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastapi import Request

    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.auth.sessions import BrowserSession


PATH = "/v1/session"


class SessionEndpoints:
    """The endpoints; each method is named by its verb. They are for everyone: whoever signs in has no session yet."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def routes(self) -> tuple[Route, ...]:
        """The routes of /api/v1/session."""
        return (
            Route("GET", PATH, self.session, RouteAccess.EVERYONE, auth.PageSession, errors=frozenset()),
            Route(
                "POST",
                PATH,
                self.sign_in,
                RouteAccess.EVERYONE,
                auth.PageSession,
                body=auth.SignIn,
                errors=frozenset({NotAuthenticated, NotPermitted, AuthenticationIsOff}),
            ),
            Route("DELETE", PATH, self.sign_out, RouteAccess.EVERYONE, auth.PageSession, errors=frozenset()),
        )

    async def session(self, request: Request) -> Response:
        """Who the page is, and what it may do. Repeatable, and never a 401: a page asks it before anything else."""
        return self._answer(rights_of(self._access, request.scope), self._session_of(request))

    async def sign_in(self, request: Request) -> Response:
        """Begins a session, whose id is in the cookie of the answer, and ends the one of this browser before it.

        A session ends with its token, after 12 hours, with the controller, or by sign_out.
        """
        token = _token(reject_unknown_fields(await json_object(request), "token"))
        if self._access.mode is Mode.OFF:
            raise AuthenticationIsOff("authentication is off at this controller: there is nothing to sign in to")
        sha256, identity = self._access.check_token(request.scope, token, RouteAccess.READER)
        sessions = self._access.sessions
        sessions.end(request.scope)
        session_id, session = sessions.begin(sha256)
        self._access.sign_ins.note(identity.name, source_of(request.scope), self._access.now())
        return self._answer(
            rights_with(self._access, identity.token), session, setting_cookie(request.scope, session_id)
        )

    async def sign_out(self, request: Request) -> Response:
        """Ends the session of this browser, and lets it forget the cookie. Repeatable."""
        self._access.sessions.end(request.scope)
        return self._answer(rights_of(self._access, request.scope), None, clearing_cookie(request.scope))

    def _session_of(self, request: Request) -> BrowserSession | None:
        """The session that counts for the request."""
        has_token = b"authorization" in header_map(request.scope)
        return None if has_token else self._access.sessions.of(request.scope)

    def _answer(self, rights: PageRights, session: BrowserSession | None, cookie: str | None = None) -> Response:
        token = rights.token
        ends = [] if token is None else [end for end in (token.expires, session and session.ends) if end is not None]
        session_of_page = auth.PageSession(
            mode=self._access.mode.value,
            name=None if token is None else token.name,
            role=None if token is None else token.role.value,
            expires=min(ends, default=None),
            may_read=rights.may_read,
            may_change=rights.may_change,
            read_only_reason=rights.read_only_reason,
        )
        headers = {"Cache-Control": "no-store"} | ({} if cookie is None else {"Set-Cookie": cookie})
        return Response(encoded(session_of_page), headers=headers, media_type=JSON)


def _token(fields: Mapping[str, Any]) -> str:
    """The token alone; before it may stand NAME:, as in the variable CTL_TOKEN. Raises InvalidInstance."""
    token = fields.get("token")
    if not isinstance(token, str) or not token.strip():
        raise InvalidInstance("token", "token is missing: send the text that ctl token create has printed")
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidInstance("token", f"token has more than {MAX_TOKEN_CHARS} characters: it is none of ctl")
    return token.strip().rpartition(":")[2]
