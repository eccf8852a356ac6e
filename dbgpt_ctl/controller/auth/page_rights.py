"""What a page of the console may do, and the rule that the server enforces for pages.

Where nothing is checked, or only counted, whoever opens the page could change the registry with one click, and without
a name. So pages of a controller that others can reach only read, unless an operator has signed in. Programs, such as
`ctl` and DB-GPT's, are no pages: the mode says what they may do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.auth.tokens import Mode, Reason, Role
from dbgpt_ctl.controller.auth.refusal_log import sign_in_text
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.problems import SESSION_PATHS
from dbgpt_ctl.errors import ReadOnlyPage

if TYPE_CHECKING:
    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.http.callers import HttpScope

AUTH_IS_OFF = (
    "authentication is off and other machines can reach this controller, so pages only read: use ctl, or turn "
    "authentication on as docs/security.md shows"
)
AUTH_ONLY_LOGS = (
    "authentication only logs and other machines can reach this controller, so pages without an operator's token only "
    "read: sign in as an operator, or use ctl"
)
ANYTHING = "sign in with an operator's token to change something"


class PageRights(NamedTuple):
    """`token` is a valid one. `read_only_reason` is a sentence for the person at the page; None if it may change
    something.
    """

    token: Token | None
    may_read: bool
    read_only_reason: str | None

    @property
    def may_change(self) -> bool:
        """Whether a drain that the page sends would be served."""
        return self.read_only_reason is None


def rights_of(access: Access, scope: HttpScope) -> PageRights:
    """The rights of the page that sends this request."""
    if access.mode is Mode.OFF:
        return PageRights(None, may_read=True, read_only_reason=AUTH_IS_OFF if access.is_reachable else None)
    identity, reason, token = access.standing(scope)
    if identity is None:
        return _rights(access, None, sign_in_text(reason or Reason.NONE, token))
    return rights_with(access, identity.token)


def rights_with(access: Access, token: Token) -> PageRights:
    """The rights of a page whose requests are proven by this valid token."""
    is_operator = token.role in RouteAccess.OPERATOR.roles
    why = f"token {token.name} has the role {token.role}: {ANYTHING}"
    return _rights(access, token, None if is_operator else why)


def _rights(access: Access, token: Token | None, read_only_reason: str | None) -> PageRights:
    """By the mode, which is not off. The reason is that of enforce mode."""
    if access.mode is Mode.ENFORCE:
        may_read = token is not None and token.role in RouteAccess.READER.roles
        return PageRights(token, may_read, read_only_reason)
    if read_only_reason is not None:
        read_only_reason = AUTH_ONLY_LOGS if access.is_reachable else None
    return PageRights(token, may_read=True, read_only_reason=read_only_reason)


def check_page(access: Access, scope: HttpScope) -> None:
    """For a change that a page sends. Raises ReadOnlyPage where nothing is checked and others reach the controller,
    unless an operator's token proves it. In enforce mode the check of the access decides.
    """
    if access.mode is Mode.ENFORCE or not access.is_reachable or scope["path"] in SESSION_PATHS:
        return
    if access.mode is Mode.OFF:
        raise ReadOnlyPage(AUTH_IS_OFF)
    identity, _, _ = access.standing(scope)
    if identity is None or identity.role is not Role.OPERATOR:
        raise ReadOnlyPage(AUTH_ONLY_LOGS)
