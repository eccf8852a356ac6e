"""The texts of 401 and 403: what is wrong, and what to write where. Each ends up in the log of the refused process."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import Reason, Role
from dbgpt_ctl.domain.fields import quoted
from dbgpt_ctl.errors import NotAuthenticated, NotPermitted

if TYPE_CHECKING:
    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.controller.http.callers import RouteAccess
    from dbgpt_ctl.domain.instance import InstanceKey

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
