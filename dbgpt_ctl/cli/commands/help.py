"""`ctl help`."""

from __future__ import annotations

from typing import Annotated, Any

import typer  # noqa: TC002 - Typer reads it

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import argument

IS_ABOUT_CTL = True
"""For `framework.lazy`."""


def _verbs(ctx: Any, incomplete: str) -> list[str]:
    """The verbs that may follow those of the line."""
    context = ctx.find_root()
    group = context.command
    for word in ctx.params.get("verb") or ():
        group = group.get_command(context, word) if hasattr(group, "commands") else None
    return [name for name in getattr(group, "commands", ()) if name.startswith(incomplete)]


Verb = Annotated[list[str] | None, argument("VERB", _verbs, "Verb, as in `models list`; without one: all verbs.")]


@explained("ctl help", "ctl help models list")
def help_(verb: Verb = None, *, ctx: typer.Context) -> None:
    """Show the help of a verb, as --help does."""
    root = ctx.find_root()
    root.command.main([*(verb or ()), "--help"], prog_name=root.info_name)
