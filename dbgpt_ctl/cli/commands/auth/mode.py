"""`ctl auth mode`: writes the mode of the check into the tokens file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.auth.tokens import Mode, Role
from dbgpt_ctl.cli.commands.token import TokensPath, path_of
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import ServerEnvFile, choice
from dbgpt_ctl.cli.output.stdout import print_lines, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from dbgpt_ctl.auth.tokens_file import TokensFile


@explained(
    "ctl auth mode log",
    "ctl auth mode enforce --tokens-file tokens.toml",
)
def mode(
    ctx: typer.Context,
    new_mode: Annotated[Mode, typer.Argument(show_default=False, help="The mode.", **choice(Mode, Mode))],
    *,
    tokens_file: TokensPath = None,
    env_file: ServerEnvFile = None,
) -> None:
    """Set what controllers do with requests that no token allows.

    off checks nothing. log serves every request, and counts those that enforce would refuse: ctl auth status shows
    them. enforce refuses them. The mode in the file goes before --auth and CONTROLLER_AUTH.
    """
    from dbgpt_ctl.auth.editing import set_mode
    from dbgpt_ctl.clock import SystemClock

    path = path_of(tokens_file, env_file)
    edit = set_mode(path, new_mode)
    if edit.changed:
        print_lines([f"mode {new_mode} is set in {path}; before: {edit.before.mode or 'not set'}"])
        say("it takes effect within a second or so, at each controller that reads this file")
    else:
        print_lines([f"mode {new_mode} is set in {path} already"])
    if new_mode is Mode.ENFORCE:
        for line in _warnings(edit.after, (ctx.obj or SystemClock()).now()):
            say(line)


def _warnings(file: TokensFile, now: datetime) -> Iterator[str]:
    """What is refused that somebody will miss."""
    valid = {token.role for token in file.tokens.values() if not token.is_revoked and not token.is_expired(now)}
    if Role.WORKER not in valid:
        yield "warning: no token of a worker is valid: workers are refused, and each ends when it registers"
    if Role.OPERATOR not in valid:
        yield "warning: no token of an operator is valid: nobody can drain, prune or see who is refused"
    yield "ctl auth status shows who is refused; look at it before, in mode log; ctl auth mode log goes back"
