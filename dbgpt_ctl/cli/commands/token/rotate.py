"""`ctl token rotate`: a second token of the same name, so that its holders can change one by one."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.commands.token import (
    EXPIRES_SOON_DAYS,
    SecretOutput,
    TokenName,
    TokensPath,
    expires_text,
    expiry,
    path_of,
    print_secret,
)
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat


@explained(
    "ctl token rotate gpu-east",
    "ctl token rotate gpu-east --expires 90d -o json",
)
@takes_session
def rotate(
    name: TokenName,
    *,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="TIME",
            help="How long both are valid from now on, as in 90d; an expired one is valid again.  [default: as before]",
        ),
    ] = None,
    tokens_file: TokensPath = None,
    output: SecretOutput = OutputFormat.TEXT,
    session: Session,
) -> None:
    """Make a second token of the same name and print it, once.

    The old and the new one are valid until ctl token revoke NAME --old. The new one has the same role and limits.
    """
    import secrets
    from datetime import timedelta

    from dbgpt_ctl.auth import tokens
    from dbgpt_ctl.auth.editing import rotate_token

    path, now = path_of(tokens_file, session.env_file), session.clock.now()
    secret = tokens.new_token(secrets.token_bytes)
    edit = rotate_token(path, name, tokens.sha256_of(secret), expiry(expires, session.clock), now)
    print_secret(session, name, edit, secret, path=path, output=output)
    session.say(f"when nobody uses the old one any more: ctl token revoke {name} --old")
    token = edit.after.tokens[name]
    if token.is_expired(now + timedelta(days=EXPIRES_SOON_DAYS)):
        session.say(f"warning: both expire at {expires_text(token)}: change expires of {name} in {path}")
