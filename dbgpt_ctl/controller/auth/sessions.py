"""The sessions of the console: which browser has signed in with which token.

A session is another way to name a token and has no rights of its own. Each request looks for the token among those in
force, so a session is of no use from the moment when its token is revoked, expires or is rotated away. Sessions are
kept in memory only, for one controller, and only as hashes: neither an id nor a token can be read from it.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.controller.auth.session_cookie import session_ids

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from datetime import datetime
    from typing import Any

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
