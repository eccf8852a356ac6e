"""`ctl token revoke`: ends a token, or the old one of two."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.commands.token import TokenName, TokensPath, path_of
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import ServerEnvFile  # noqa: TC001 - Typer reads it
from dbgpt_ctl.cli.output.stdout import print_lines, say


@explained(
    "ctl token revoke gpu-east",
    "ctl token revoke gpu-east --old",
)
def revoke(
    name: TokenName,
    *,
    old: Annotated[bool, typer.Option("--old", help="Only the old one, after ctl token rotate.")] = False,
    tokens_file: TokensPath = None,
    env_file: ServerEnvFile = None,
) -> None:
    """End a token, or only the old one of two.

    Each controller that reads the file refuses it within a second or so, and says that it is revoked. ctl auth status
    shows whether an old one is still in use.
    """
    from dbgpt_ctl.auth.editing import revoke_token

    path = path_of(tokens_file, env_file)
    edit = revoke_token(path, name, only_old=old)
    if not edit.changed:
        print_lines([f"token {name} is revoked already"])
        return
    print_lines([f"the old one of token {name} is revoked" if old else f"token {name} is revoked"])
    say("it is refused within a second or so, by each controller that reads this file")
    say(f"if it was the wrong one: move its hash from revoked_sha256 back to sha256 of [token.{name}] in {path}")
