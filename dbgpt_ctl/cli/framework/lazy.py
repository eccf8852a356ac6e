"""Groups whose commands are imported and built on first use.

Of some thirty commands, a command line needs one: `ctl models list` takes 0.14 s of CPU time, and 0.18 s when all are
built (medians of 20 pairs).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from dbgpt_ctl.cli.framework import typer_internals
from dbgpt_ctl.cli.framework.errors import report_error
from dbgpt_ctl.cli.output.stdout import print_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    CommandTable = Mapping[str, "str | typer.Typer"]
    """By the name of a command: `module:function` in dbgpt_ctl.cli, or the application of a group."""

COMPLETE = "_CTL_COMPLETE"
"""A shell that completes a line sets this variable: `ctl` prints candidates then and runs no command."""


def application(help: str, table: CommandTable, **options: Any) -> typer.Typer:  # noqa: A002 - Typer's own word
    """A group of the commands of that table, in its order."""

    class LazyGroup(Group):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.commands = dict(table)  # type: ignore[arg-type]  # Typer reads the names; `get_command` builds

    return typer.Typer(cls=LazyGroup, help=help, add_completion=False, rich_markup_mode=None, **options)


class _Adapted:
    """What `Command` and `Group` add to Typer's classes."""

    def get_params(self, ctx: Any) -> list[Any]:
        """With `--help`, which Typer makes when it parses the first command line."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the Typer class that comes next
        typer_internals.adapt(params)
        return params


class Command(_Adapted, TyperCommand):
    """A verb. Its function may return its exit code."""


class Group(_Adapted, TyperGroup):
    """A noun, or `ctl` itself. Every error of a command ends in `main`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer's signature
        """The command of that name, built when it is first used; None if there is none."""
        known: Any = self.commands.get(cmd_name)
        if isinstance(known, str | typer.Typer):
            known = self.commands[cmd_name] = _build(cmd_name, known)
        return known

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A noun without a verb shows its help, with exit code 0."""
        if not args and not ctx.resilient_parsing:
            print_lines(ctx.get_help().splitlines())
            ctx.exit()
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Runs the command line and exits with its code (rule 13)."""
        kwargs = {"prog_name": "ctl"} | kwargs | {"standalone_mode": False}
        if COMPLETE in os.environ:
            from dbgpt_ctl.cli.completion.protocol import offer_completions

            offer_completions()
        try:
            code = super().main(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - no error goes beyond this line
            code = report_error(error)
        sys.exit(code if isinstance(code, int) else 0)


def _build(name: str, place: str | typer.Typer) -> Any:
    if isinstance(place, typer.Typer):
        group = get_group(place)
        group.name = name
        return group
    module_name, _, attribute = place.partition(":")
    module = import_module(f"dbgpt_ctl.cli.{module_name}")
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = getattr(module, "CONTEXT_SETTINGS", None)
    single.command(name, cls=Command, context_settings=settings)(getattr(module, attribute))
    return get_command(single)
