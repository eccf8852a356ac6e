"""The check of each request: who sends it, and whether the route and the instance are for that one (rule 16).

A controller without authentication takes anyone's word: whoever reaches its port can register a worker of his own and
read the prompts that API servers then send there. Stock DB-GPT sends what stands in the URL of its controller, so a
token in that URL is all that a worker or an API server needs.

The modes: `off` checks nothing; `log` serves everything and counts what enforce would refuse; `enforce` refuses. The
body of a refused request is not read, and nothing of it is stored.

A page of the console sends a cookie instead of a token: it names a session, and the session names a token. A browser
sends cookies by itself, so a change that is sent so has to show that a page of this controller sends it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import Mode, Reason, sha256_of
from dbgpt_ctl.background import background_task
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.auth.refusal_log import RefusalLog, RefusedRequest, refusal, sign_in_refusal
from dbgpt_ctl.controller.auth.refusals import RefusalTable
from dbgpt_ctl.controller.auth.sessions import Sessions, SignInLog
from dbgpt_ctl.controller.auth.tokens_in_force import InForce, LastUse, TokensInForce
from dbgpt_ctl.controller.http.callers import (
    IDENTITY,
    ROUTE_ACCESS,
    Anonymous,
    InstanceCount,
    RouteAccess,
    Unproven,
    ValidToken,
    count_without_instance,
    credentials_of,
)
from dbgpt_ctl.controller.http.cross_site import require_own_page
from dbgpt_ctl.controller.http.request import header_map
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.controller.http.callers import HttpScope
    from dbgpt_ctl.controller.http.routes import Endpoint, Route
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.errors import AccessRefused

log = logging.getLogger(__name__)

TICK_SECS = 1.0
MAX_CLOCK_OFFSET = timedelta(minutes=10)
"""A database whose clock is wrong by days must not revive expired tokens."""
MAX_KNOWN = 4096
"""How many values of the header are remembered: each name that callers give themselves makes another one."""
ANONYMOUS = Anonymous()


class Access:
    """Checks requests by the mode and the tokens in force.

    `path` is that of the tokens file, None without one; `setting` is the mode where the file says none. `timeout_secs`:
    how long an instance without a heartbeat counts for the `max_instances` of its token. `reachable`: whether others
    than this machine can reach the controller; with `must_authenticate` the mode must not be off then.

    Raises UsageError: the tokens file cannot be used. That is an error also while the setting is off, because the file
    might say enforce.
    """

    def __init__(
        self,
        path: Path | None,
        setting: Mode,
        *,
        timeout_secs: float,
        reachable: bool = False,
        must_authenticate: bool = False,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        random_text: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._own_now = (clock or SystemClock()).now
        self._clock_offset = timedelta()
        self._monotonic = monotonic
        self._timeout_secs = timeout_secs
        self.is_reachable = reachable
        """Whether others than this machine can reach the controller."""
        self._log = RefusalLog()
        self._sign_in_log = RefusalLog()
        """In log mode too a refused sign-in is not served, and a log ends its minute where that changes."""
        self.sign_ins = SignInLog()
        self.refusals = RefusalTable(self.now, self._log)
        self.last_use = LastUse()
        self.sessions = Sessions(self.now, random_text, ended=self._session_ended)
        self.mode = Mode.OFF
        self.in_force = InForce(Mode.OFF, None, in_file=False)
        self.identities: dict[str, ValidToken] = {}
        """By SHA-256 of the token."""
        self._revoked: dict[str, Token] = {}
        self._counts: dict[str, InstanceCount] = {}
        self._known: dict[bytes, ValidToken] = {}
        """By value of the header; only valid tokens, so that a stranger cannot fill it."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a request that was allowed may not be allowed any more."""
        self.check_own_page: Callable[[HttpScope], None] = require_own_page
        """Raises ForeignOrigin for a change that a browser sends and no page of this controller."""
        self.operator_refused: Callable[[HttpScope, Reason, Token | None], None] = lambda *_: None
        """Called when enforce mode refuses a request of an operator's route; the token is a known one."""
        self.read_again: Callable[[InForce, InForce], None] = lambda *_: None
        """Called with what was in force and what is now, when the tokens file was read again."""
        self._next_expiry: datetime | None = None
        self._noted_at = self.now()
        """When `_next_expiry` was noted."""
        self.tokens = TokensInForce(path, setting, self.use, must_authenticate=must_authenticate and reachable)
        self.tokens.read_first()

    def now(self) -> datetime:
        """The time by which tokens expire and requests are counted: the registry's, or this host's as long as that is
        not known (rule 7).
        """
        return self._own_now() + self._clock_offset

    def follow_clock(self, offset: timedelta) -> None:
        """From now on the registry's clock is `offset` ahead of this host's; of that at most MAX_CLOCK_OFFSET counts.
        Call it when that is known first, before the first request, and then about once a second.
        """
        offset = max(-MAX_CLOCK_OFFSET, min(offset, MAX_CLOCK_OFFSET))
        self.refusals.since += offset - self._clock_offset
        self._clock_offset = offset

    @property
    def is_open(self) -> bool:
        """Whether nothing is checked although others than this machine can reach the controller."""
        return self.mode is Mode.OFF and self.is_reachable

    def use(self, in_force: InForce) -> None:
        """From now on these tokens and this mode are in force. Atomic for requests."""
        self.last_use.tick(self.identities, self.now())
        if self.mode is Mode.OFF:
            self.refusals.since = self.now()  # nothing was counted before
        tokens = () if in_force.file is None else tuple(in_force.file.tokens.values())
        for identity in self.identities.values():
            identity.check_again = self._check_again
        self._counts = {token.name: self._counts.get(token.name) or self._new_instance_count() for token in tokens}
        self.identities = {
            sha256: ValidToken(token, self.refuse, self._counts[token.name], is_old=place > 0)
            for token in tokens
            for place, sha256 in enumerate(token.sha256)
        }
        self._revoked = {sha256: token for token in tokens for sha256 in token.revoked_sha256}
        self._known = {}
        before, self.in_force = self.in_force, in_force
        self.mode = in_force.mode
        self._note_next_expiry()
        self.read_again(before, in_force)
        self.changed()

    def _note_next_expiry(self) -> None:
        now = self._noted_at = self.now()
        self._next_expiry = min(
            (each.expires for each in self.identities.values() if each.expires is not None and each.expires > now),
            default=None,
        )

    def _log_expired(self, since: datetime, until: datetime) -> None:
        if self.mode is Mode.OFF:
            return
        tokens = {each.token.name: each.expires for each in self.identities.values()}
        for name, expires in tokens.items():
            if expires is not None and since <= expires <= until:
                log.warning(
                    "token %s has expired: ctl token rotate %s --expires 90d renews it",
                    name,
                    name,
                    extra={"event": "token.expired"},
                )

    def _new_instance_count(self) -> InstanceCount:
        return InstanceCount(self._timeout_secs, self._monotonic)

    def check(self, scope: HttpScope, access: RouteAccess) -> None:
        """Raises NotAuthenticated or NotPermitted in enforce mode, and ForeignOrigin for a change that comes with the
        cookie of a session and from no page of this controller. Afterwards `scope[IDENTITY]` says who sends the
        request; the instance that it names is checked by `check_instance`, once it is known.
        """
        if self.mode is Mode.OFF:
            return
        header = header_map(scope).get(b"authorization")
        identity = self._known.get(header) if header is not None else None
        reason: Reason | None = None
        token: Token | None = None
        if identity is None:
            identity, reason, token = self._identify(scope, header)
            if header is None and reason is not Reason.NONE:  # a session
                self.check_own_page(scope)
        if identity is not None:
            identity.uses += 1
            token = identity.token
            reason = self._denial(identity, access)
            if reason is None:
                scope[IDENTITY] = identity
                scope[ROUTE_ACCESS] = access
                if identity.is_old:
                    self._count(Reason.OLD_TOKEN, scope, token, None)
                return
        self._without_identity(scope, access, reason or Reason.NONE, token)

    def _session_ended(self) -> None:
        self.changed()

    def _check_again(self, scope: HttpScope) -> None:
        self.check(scope, scope[ROUTE_ACCESS])

    def _denial(self, identity: ValidToken, access: RouteAccess) -> Reason | None:
        """Why a known token does not allow the route; None if it does."""
        if identity.expires is not None and self.now() >= identity.expires:
            return Reason.EXPIRED
        return None if not access.roles or identity.role in access.roles else Reason.ROLE

    def refusal_of(self, scope: HttpScope) -> AccessRefused | None:
        """What enforce mode would answer to the request now, which is not counted; None: it would serve it. A request
        that was served without an identity is taken for that of a reader.
        """
        if self.mode is not Mode.ENFORCE:
            return None
        access: RouteAccess = scope.get(ROUTE_ACCESS, RouteAccess.READER)
        identity, reason, token = self._identify(scope, header_map(scope).get(b"authorization"))
        if identity is not None:
            reason, token = self._denial(identity, access), identity.token
        return None if reason is None else refusal(reason, token, None, access)

    def standing(self, scope: HttpScope) -> tuple[ValidToken | None, Reason | None, Token | None]:
        """The valid token of a request, whatever its role may do; without one, the reason, and the token if it is a
        known one. Nothing is counted.
        """
        identity, reason, token = self._identify(scope, header_map(scope).get(b"authorization"))
        if identity is not None:
            reason = self._denial(identity, RouteAccess.EVERYONE)
        return identity if reason is None else None, reason, token

    def check_token(self, scope: HttpScope, token: str, access: RouteAccess) -> tuple[str, ValidToken]:
        """The hash and the identity of a token that is in the body of a request. Raises NotAuthenticated or
        NotPermitted if it is not valid or its role is not one of `access`, in log mode too.
        """
        sha256 = sha256_of(token)
        identity, reason, known = self._by_hash(sha256)
        if identity is not None:
            reason = self._denial(identity, access)
        if identity is None or reason is not None:
            reason = reason or Reason.UNKNOWN
            name = None if known is None else known.name
            self.refusals.count(RefusedRequest.of(reason, scope, token=name), served=False, log=self._sign_in_log)
            raise sign_in_refusal(reason, known)
        identity.uses += 1
        return sha256, identity

    def _without_identity(self, scope: HttpScope, access: RouteAccess, reason: Reason, token: Token | None) -> None:
        if access is RouteAccess.EVERYONE:
            if self.mode is Mode.ENFORCE:
                scope[IDENTITY] = ANONYMOUS
            return
        if self.mode is Mode.LOG:
            waits = access is RouteAccess.WORKER  # it is counted with its instance, once that is read
            scope[IDENTITY] = Unproven(self.refuse, reason, token, is_counted=not waits)
            if waits:
                return
        self.refuse(reason, scope, token, None, access)

    def _identify(
        self, scope: HttpScope, header: bytes | None
    ) -> tuple[ValidToken | None, Reason | None, Token | None]:
        """`header` is Authorization, which goes before a cookie. The reason is NONE where neither names a token."""
        if header is None:
            session = self.sessions.of(scope)
            return (None, Reason.NONE, None) if session is None else self._by_hash(session.token_sha256)
        credentials = credentials_of(header)
        if credentials is None:
            return None, Reason.UNKNOWN, None
        identity, reason, token = self._by_hash(sha256_of(credentials.token))
        if identity is not None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[header] = identity
        return identity, reason, token

    def _by_hash(self, sha256: str) -> tuple[ValidToken | None, Reason | None, Token | None]:
        identity = self.identities.get(sha256)
        if identity is not None:
            return identity, None, identity.token
        revoked = self._revoked.get(sha256)
        return None, Reason.UNKNOWN if revoked is None else Reason.REVOKED, revoked

    def refuse(
        self,
        reason: Reason,
        scope: HttpScope,
        token: Token | None,
        key: InstanceKey | None = None,
        access: RouteAccess | None = None,
    ) -> None:
        """Counts the request. Raises in enforce mode what the caller gets; in log mode it returns."""
        self._count(reason, scope, token, key)
        if self.mode is not Mode.LOG:
            if access is RouteAccess.OPERATOR:
                self.operator_refused(scope, reason, token)
            raise refusal(reason, token, key, access)

    def _count(self, reason: Reason, scope: HttpScope, token: Token | None, key: InstanceKey | None) -> None:
        name = None if token is None else token.name
        header = header_map(scope).get(b"authorization")
        credentials = None if header is None else credentials_of(header)
        label = None if credentials is None else credentials.label
        served = self.mode is Mode.LOG or not reason.is_refusal
        self.refusals.count(RefusedRequest.of(reason, scope, label=label, token=name, instance=key), served=served)

    def tick(self) -> None:
        """Notes which tokens were used, and logs what was refused. It is called about once a second."""
        now = self.now()
        self.last_use.tick(self.identities, now)
        self._log.tick(now)
        self._sign_in_log.tick(now)
        self.sign_ins.tick(now)
        self.sessions.forget_old()
        if now < self._noted_at:  # the clock was set back, and expired tokens may be valid again
            self._note_next_expiry()
        elif self._next_expiry is not None and now >= self._next_expiry:
            self._log_expired(self._next_expiry, now)
            self._note_next_expiry()
            for identity in self.identities.values():
                if identity.token.is_expired(now):
                    identity.check_again = self._check_again
            self.changed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows the tokens file, and ticks."""
        if self.mode is not Mode.OFF or self.in_force.file is not None:
            log.info("%s", self.in_force, extra={"event": "tokens.in_force"})
        try:
            async with background_task(self._keep_ticking(), "auth"), self.tokens.followed():
                yield
        finally:
            self.tick()

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECS)
            try:
                self.tick()
            except Exception:
                log.exception("the uses of tokens could not be noted")


def with_access(routes: Iterable[Route], access: Access) -> tuple[Route, ...]:
    """The same routes, whose endpoints are behind `access`."""
    return tuple(replace(route, endpoint=_with_access(route, access)) for route in routes)


def _with_access(route: Route, access: Access) -> Endpoint:
    @wraps(route.endpoint)
    async def checking(request: Request) -> Response:
        access.check(request.scope, route.access)
        try:
            return await route.endpoint(request)
        except CtlError:
            count_without_instance(request.scope)
            raise

    return checking
