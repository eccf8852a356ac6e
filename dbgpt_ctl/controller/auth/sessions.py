"""The sessions of the console: which browser has signed in with which token, and the log of it.

A session is another way to name a token and has no rights of its own. Each request looks for the token among those in
force, so a session is of no use from the moment when its token is revoked, expires or is rotated away. Sessions are
kept in memory only, for one controller, and only as hashes: neither an id nor a token can be read from it.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from datetime import timedelta
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.controller.auth.refusal_log import EVERY, MAX_LINES
from dbgpt_ctl.controller.http.request import header_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from datetime import datetime
    from typing import Any

log = logging.getLogger(__name__)

MAX_SESSIONS = 1000
MAX_OF_TOKEN = 100
"""Of MAX_SESSIONS: one token that signs in without end ends only sessions of its own."""
MAX_AGE = timedelta(hours=12)
ID_BYTES = 32
"""Random bytes of an id."""


class BrowserSession(NamedTuple):
    """`token_sha256` is the hash of its token, by which `Access` finds the token."""

    token_sha256: str
    began: datetime

    @property
    def ends(self) -> datetime:
        """When it ends, unless its token does before that."""
        return self.began + MAX_AGE


class Sessions:
    """At most `max_sessions`, of them at most `max_of_token` for one token: the oldest one ends for a new one.

    `random_text` makes an id of so many random bytes: `secrets.token_urlsafe`, or the source of a test. `ended` is
    called when sessions have ended for another reason than their token.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        random_text: Callable[[int], str],
        ended: Callable[[], None],
        *,
        max_sessions: int = MAX_SESSIONS,
        max_of_token: int = MAX_OF_TOKEN,
    ) -> None:
        self._now = now
        self._random_text = random_text
        self._ended = ended
        self._max_sessions = max_sessions
        self._max_of_token = max_of_token
        self._sessions: OrderedDict[str, BrowserSession] = OrderedDict()
        """By SHA-256 of the id; the oldest one is the first."""

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, token_sha256: str) -> tuple[str, BrowserSession]:
        """A new session and its id, which is nowhere else."""
        self.forget_old()
        of_token = [key for key, session in self._sessions.items() if session.token_sha256 == token_sha256]
        if len(of_token) >= self._max_of_token:
            self._end(of_token[0])
        elif len(self._sessions) >= self._max_sessions:
            self._end(next(iter(self._sessions)))
        session_id = self._random_text(ID_BYTES)
        session = self._sessions[sha256_of(session_id)] = BrowserSession(token_sha256, self._now())
        return session_id, session

    def of(self, scope: MutableMapping[str, Any]) -> BrowserSession | None:
        """The session that a cookie of the request names."""
        if not self._sessions:
            return None
        for session_id in session_ids(scope):
            session = self._sessions.get(sha256_of(session_id))
            if session is not None and self._now() < session.ends:
                return session
        return None

    def end(self, scope: MutableMapping[str, Any]) -> None:
        """Ends each session that a cookie of the request names."""
        self._end(*map(sha256_of, session_ids(scope)))

    def forget_old(self) -> None:
        """Ends the sessions that are older than MAX_AGE. It is called about once a second."""
        now = self._now()
        self._end(*(key for key, session in self._sessions.items() if now >= session.ends))

    def _end(self, *keys: str) -> None:
        ended = [self._sessions.pop(key, None) for key in keys]
        if any(ended):
            self._ended()


PREFIX = "ctl_session_"
MAX_SAME_NAME = 4
"""So many cookies of the same name are looked at: another port of the host can set one too, with a longer path."""
_ID = re.compile(rb"[A-Za-z0-9_-]{16,64}")
_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Strict"


def cookie_name(scope: MutableMapping[str, Any]) -> str:
    """The name of the cookie at the port to which the request came."""
    server = scope.get("server")
    return f"{PREFIX}{server[1] if server else None}"


def session_ids(scope: MutableMapping[str, Any]) -> Iterator[str]:
    """What may be the id of a session in the cookies of the request, at most MAX_SAME_NAME."""
    header = header_map(scope).get(b"cookie")
    if header is None:
        return
    pairs = _pairs_named(cookie_name(scope)).finditer(header)
    own = (pair[1].strip() for pair in pairs if _begins_at(header, pair.start()))
    for value in islice(own, MAX_SAME_NAME):
        if _ID.fullmatch(value):
            yield value.decode()


def _begins_at(header: bytes, place: int) -> bool:
    """Whether the name of a cookie begins there, and it is not a part of something else."""
    before = header[max(0, place - 2) : place]
    return before in {b"", b"; "} or before.endswith(b";")


@lru_cache(maxsize=8)
def _pairs_named(name: str) -> re.Pattern[bytes]:
    """Finds such a pair where its name stands. To split a header of 64 KiB at each semicolon takes 20 ms, and a
    stranger may send one with each request.
    """
    return re.compile(rb"%b=([^;]*)" % re.escape(name).encode())


def setting_cookie(scope: MutableMapping[str, Any], session_id: str) -> str:
    """The header Set-Cookie that gives the browser this id. Without an end: it is gone when the browser is closed."""
    return f"{cookie_name(scope)}={session_id}; {_ATTRIBUTES}{_secure(scope)}"


def clearing_cookie(scope: MutableMapping[str, Any]) -> str:
    """The header Set-Cookie that lets the browser forget the id."""
    return f"{cookie_name(scope)}=; Max-Age=0; {_ATTRIBUTES}{_secure(scope)}"


def _secure(scope: MutableMapping[str, Any]) -> str:
    """Where a proxy ends TLS, only the page's own origin says that the browser uses it."""
    over_tls = scope["scheme"] == "https" or header_map(scope).get(b"origin", b"").startswith(b"https://")
    return "; Secure" if over_tls else ""


class SignInLog:
    """Logs at most MAX_LINES lines and one sum in EVERY, however often the holder of a token signs in."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str | None]] = set()
        self._more = 0
        self._next_sum: datetime | None = None

    def note(self, token: str, source: str | None, now: datetime) -> None:
        """Logs the sign-in with the token of this name, or counts it for the next sum."""
        if self._next_sum is None:
            self._next_sum = now + EVERY
        if (token, source) in self._logged or len(self._logged) >= MAX_LINES:
            self._more += 1
            return
        self._logged.add((token, source))
        log.info(
            "token %s has signed in at the console from %s",
            token,
            source or "-",
            extra={"event": "session.signed_in", "actor_name": token, "address": source},
        )

    def tick(self, now: datetime) -> None:
        """Logs the sum when it is time. It is called about once a second."""
        if self._next_sum is None or self._next_sum - EVERY <= now < self._next_sum:  # the clock may go back
            return
        if self._more:
            noun = "sign-in" if self._more == 1 else "sign-ins"
            log.info(
                "%s more %s at the console in the last minute",
                f"{self._more:,}",
                noun,
                extra={"event": "session.signed_in", "count": self._more},
            )
        self._logged.clear()
        self._more, self._next_sum = 0, None
