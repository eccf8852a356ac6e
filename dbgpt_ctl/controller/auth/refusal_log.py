"""What is kept and said of a refused request.

The log has each caller's first one at once, and the others as a sum each minute. The texts of 401 and 403 say what is
wrong, and what to write where: each ends up in the log of the refused process.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.auth.tokens import Reason, Role
from dbgpt_ctl.controller.http.request import header_map
from dbgpt_ctl.controller.http.source import source_of
from dbgpt_ctl.controller.logs.formats import instance_fields
from dbgpt_ctl.domain.fields import quoted
from dbgpt_ctl.errors import NotAuthenticated, NotPermitted
from dbgpt_ctl.settings.masking import mask_tokens

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from datetime import datetime

    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.controller.http.callers import RouteAccess
    from dbgpt_ctl.domain.instance import InstanceKey


MAX_SHOWN_CHARS = 100
MAX_KEPT = 300
"""Of each text, in bytes or characters. It is more than what is shown, so that a token is not cut before it is seen."""


class RefusedRequest(NamedTuple):
    """What is counted together. All texts are as they were sent.

    `label`: the user name of Basic; None without one, and where it is or may be the token itself. `token`: the name of
    a known token. `action`: method and path. `instance`: the one that the request names, where it was read so far.
    """

    reason: Reason
    source: str | None
    user_agent: bytes
    label: str | None
    token: str | None
    action: str
    instance: InstanceKey | None = None

    @classmethod
    def of(
        cls,
        reason: Reason,
        scope: MutableMapping[str, Any],
        *,
        label: str | None = None,
        token: str | None = None,
        instance: InstanceKey | None = None,
    ) -> RefusedRequest:
        """What is counted of the request with this scope; texts are cut to MAX_KEPT."""
        path = scope["path"]
        return cls(
            reason,
            source_of(scope),
            header_map(scope).get(b"user-agent", b"")[:MAX_KEPT],
            None if label is None else label[:MAX_KEPT],
            token,
            f"{scope['method']} {path[1:] if path.startswith('//') else path}"[:MAX_KEPT],
            instance,
        )

    @property
    def shown_user_agent(self) -> str:
        """In escaped ASCII, masked and cut."""
        return shown(self.user_agent.decode("latin-1"))

    @property
    def shown_label(self) -> str | None:
        """In escaped ASCII, masked and cut."""
        return None if self.label is None else shown(self.label)

    @property
    def shown_action(self) -> str:
        """In escaped ASCII, masked and cut."""
        return shown(self.action)


def shown(text: str) -> str:
    r"""A stranger's text: without what may be a token, on one line of ASCII with escapes as `\x1b`, and cut."""
    return mask_tokens(text).encode("unicode_escape").decode("ascii")[:MAX_SHOWN_CHARS]


log = logging.getLogger("dbgpt_ctl.auth")

EVERY = timedelta(minutes=1)
MAX_LINES = 20
"""First requests that have a line of their own within EVERY; beyond, they are summed up with the others."""
MAX_LINES_OF_SOURCE = 4
"""Of these, the lines for one source: it could send each request with another label."""
MAX_CALLERS = 1000
"""Callers that are remembered; after so many, the log begins anew, and a caller may have a second line."""
MAX_NAMED = 3
"""Sources that a sum names."""


class RefusalLog:
    """Logs at most MAX_LINES lines and one sum in EVERY, whatever strangers send."""

    def __init__(self) -> None:
        self._callers: set[tuple[Reason, str | None, str | None]] = set()
        self._lines: Counter[str | None] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._sources: Counter[str | None] = Counter()
        self._served = False
        self._next_sum: datetime | None = None

    def note(self, refused: RefusedRequest, now: datetime, *, served: bool) -> None:
        """Logs the request, or counts it for the next sum."""
        if served is not self._served:  # each caller that was served has a line of its own when it is refused
            self._end_minute()
            self._callers.clear()
            self._served = served
        if self._next_sum is None:
            self._next_sum = now + EVERY
        source = refused.source
        caller = (refused.reason, source, refused.label)
        if (
            caller not in self._callers
            and self._lines[source] < MAX_LINES_OF_SOURCE
            and self._lines.total() < MAX_LINES
        ):
            if len(self._callers) >= MAX_CALLERS:
                self._callers.clear()
            self._callers.add(caller)
            self._lines[source] += 1
            log.warning("%s", first_line(refused, served=served), extra=_fields(refused, served=served))
            return
        self._reasons[refused.reason] += 1
        if source in self._sources or len(self._sources) < MAX_CALLERS:
            self._sources[source] += 1

    def tick(self, now: datetime) -> None:
        """Logs the sum when it is time. It is called about once a second."""
        if self._next_sum is not None and not self._next_sum - EVERY <= now < self._next_sum:  # the clock may go back
            self._end_minute()

    def _end_minute(self) -> None:
        if self._reasons:
            log.warning("%s", self._sum(), extra={"event": _event(self._served), "count": self._reasons.total()})
        self._next_sum = None
        for counter in (self._lines, self._reasons, self._sources):
            counter.clear()

    def _sum(self) -> str:
        """`1,234 more requests were refused in the last minute: unknown 1,200, none 34; most from 10.0.0.9 (1,190)`."""
        total = self._reasons.total()
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in self._reasons.most_common())
        named = ", ".join(f"{source or '-'} ({number:,})" for source, number in self._sources.most_common(MAX_NAMED))
        noun = "request was" if total == 1 else "requests were"
        what = "served that enforce mode refuses" if self._served else "refused"
        return (
            f"{total:,} more {noun} {what} in the last minute: {reasons}; most from {named}; ctl auth status lists all"
        )


def _event(served: bool) -> str:  # noqa: FBT001 - it is the whole difference
    return "auth.would_refuse" if served else "auth.refused"


def _fields(refused: RefusedRequest, *, served: bool) -> dict[str, Any]:
    """The fields of a JSON line; `actor_name` is a token that is known, valid or not."""
    instance = refused.instance
    return {
        "event": _event(served),
        "reason": refused.reason.value,
        "actor_name": refused.token,
        "address": refused.source,
        "user_agent": refused.shown_user_agent,
        **instance_fields(instance),
    }


def first_line(refused: RefusedRequest, *, served: bool) -> str:
    """The line of one request. The instance is printable, and everything else is in ASCII."""
    agent, label = refused.shown_user_agent, refused.shown_label
    by = f" '{label}'" if label else ""
    token = f" ({refused.token})" if refused.token else ""
    instance = f" of {refused.instance}" if refused.instance else ""
    what = "served, which enforce mode refuses" if served else "refused"
    return (
        f"{refused.shown_action}{instance} from {refused.source or '-'}{by} is {what}: it has "
        f"{refused.reason.phrase}{token}; user agent '{agent}'"
    )


MAX_SHOWN = 3
"""How many patterns of a token a refusal shows."""
WHERE = "controller_addr = http://NAME:TOKEN@HOST:PORT (for ctl: CTL_TOKEN)"
"""Where stock DB-GPT and `ctl` take a token from. It ends up in the log of a worker that was refused."""


def refusal(
    reason: Reason, token: Token | None, key: InstanceKey | None, access: RouteAccess | None
) -> NotAuthenticated | NotPermitted:
    """The refusal. Its text is one short line of ASCII: a worker writes it into its log."""
    name = "this" if token is None else token.name
    match reason:
        case Reason.NONE:
            return NotAuthenticated(reason, f"no token came with this request: write one into {WHERE}")
        case Reason.UNKNOWN:
            return NotAuthenticated(reason, f"the token is not known to this controller: correct it in {WHERE}")
        case Reason.EXPIRED:
            renew = f"renew it with ctl token rotate {name} --expires 90d"
            return NotAuthenticated(
                reason, f"token {name} expired{_when(token)}: {renew}, or write another into {WHERE}"
            )
        case Reason.REVOKED:
            return NotAuthenticated(reason, f"token {name} is revoked: write a new one into {WHERE}")
        case Reason.ROLE:
            has = "" if token is None else f" has the role {token.role}, and"
            needed = access.roles[0] if access and access.roles else Role.WORKER
            return NotPermitted(reason, f"token {name}{has} this needs {needed}: write such a token into {WHERE}")
    return NotPermitted(reason, f"token {name} {_out_of_scope(reason, token, key)}")


def sign_in_refusal(reason: Reason, token: Token | None) -> NotAuthenticated | NotPermitted:
    """The refusal of a sign-in, as the page shows it."""
    text = sign_in_text(reason, token)
    return NotPermitted(reason, text) if reason is Reason.ROLE else NotAuthenticated(reason, text)


def sign_in_text(reason: Reason, token: Token | None) -> str:
    """One sentence for a person at a page: why this token is none with which to sign in, and what to do."""
    name = "this token" if token is None else f"token {token.name}"
    match reason:
        case Reason.NONE:
            return "nobody is signed in here: sign in with a token"
        case Reason.EXPIRED:
            return f"{name} expired{_when(token)}: sign in with another one, or renew it with ctl token rotate"
        case Reason.REVOKED:
            return f"{name} is revoked: sign in with another one"
        case Reason.ROLE:
            has = "" if token is None else f" has the role {token.role}, which"
            return f"{name}{has} may not look at the console: sign in with a token of the role reader or operator"
    return "this controller does not know the token: sign in with another one; ctl token list shows their names"


def _when(token: Token | None) -> str:
    return f" at {token.expires.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if token and token.expires else ""


def _out_of_scope(reason: Reason, token: Token | None, key: InstanceKey | None) -> str:
    """The end of the line about an instance that the token does not cover."""
    if token is None or key is None:
        return "does not allow this instance"
    place = f"[token.{token.name}] in the tokens file"
    if reason is Reason.MODELS:
        return (
            f"is for the models {_few(token.models)}, not for {quoted(key.model_name)}: write another token into "
            f"controller_addr, or add it to models of {place}"
        )
    if reason is Reason.HOSTS:
        return (
            f"is for the hosts {_few(token.hosts)}, not for {quoted(key.host)}: correct worker_register_host, or add "
            f"it to hosts of {place}"
        )
    return (
        f"has its {token.max_instances} instances already, so {quoted(str(key))} is refused: write another token into "
        f"controller_addr, or raise max_instances of {place}"
    )


def _few(patterns: tuple[str, ...]) -> str:
    shown, more = ", ".join(map(quoted, patterns[:MAX_SHOWN])), len(patterns) - MAX_SHOWN
    return shown if more <= 0 else f"{shown} and {more} more"
