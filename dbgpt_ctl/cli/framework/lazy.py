"""Groups whose commands are imported and built on first use, and options that stand before the verb.

Of some thirty commands, a command line needs one: `ctl models list` takes 0.14 s of CPU time, and 0.18 s when all are
built (medians of 20 pairs).

An option of `framework.session.SHARED` before the verb becomes the default of the verb's own option of that name: what
stands after the verb replaces it, a list of addresses as a whole.
"""

from __future__ import annotations

import inspect
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command, get_group

from dbgpt_ctl.cli.framework.errors import report_error
from dbgpt_ctl.cli.framework.help_text import FIRST_COLUMN, Sections, sections_of
from dbgpt_ctl.cli.framework.session import SHARED
from dbgpt_ctl.cli.output.stdout import print_lines
from dbgpt_ctl.cli.parsing import typer_internals
from dbgpt_ctl.cli.parsing.typer_internals import value_after_space, with_optional_values
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    CommandTable = Mapping[str, "str | typer.Typer"]
    """By the name of a command: `module:function` in dbgpt_ctl.cli, or the application of a group."""

COMPLETE = "_CTL_COMPLETE"
"""A shell that completes a line sets this variable: `ctl` prints candidates then and runs no command."""
_BEFORE_VERB = "An option before the verb applies to the verb. The same option after the verb replaces it."


def application(
    help: str,  # noqa: A002 - Typer's own word
    table: CommandTable,
    *examples: str,
    callback: Callable[..., None] | None = None,
    **options: Any,
) -> typer.Typer:
    """A group of the commands of that table, in its order. With a callback, the shared options may follow its name.

    The callback gets the options that are its own.
    """

    class LazyGroup(CommandGroup):
        sections = Sections(examples)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.commands = dict(table)  # type: ignore[arg-type]  # Typer reads the names; `get_command` builds

    if callback is not None:
        help = f"{help}\n\n{_BEFORE_VERB}"  # noqa: A001 - Typer's own word
    app = typer.Typer(cls=LazyGroup, help=help, add_completion=False, rich_markup_mode=None, **options)
    if callback is not None:
        app.callback()(_with_shared_options(callback))
    return app


def _with_shared_options(callback: Callable[..., None]) -> Callable[..., None]:
    """The callback with the shared options, which it does not get: each command reads them from its context."""
    own = inspect.signature(callback, eval_str=True).parameters

    def accept(**given: Any) -> None:
        callback(**{name: given[name] for name in own})

    parameters = [*own.values(), *SHARED]
    vars(accept)["__signature__"] = inspect.Signature(parameters)
    accept.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return accept


def options_before_verb(context: Any) -> dict[str, Any]:
    """The shared options among those of this context and of the contexts above it, which are farther from the verb."""
    given: dict[str, Any] = {}
    names = {option.name for option in SHARED}
    while context is not None:
        here = {name: value for name, value in context.params.items() if name in names and (value or value == "")}
        given = here | given
        context = context.parent
    return given


class _Adapted:
    """What `Command` and `CommandGroup` add to Typer's classes."""

    sections = Sections()

    def get_params(self, ctx: Any) -> list[Any]:
        """With `--help`, which Typer makes when it parses the first command line."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the Typer class that comes next
        typer_internals.adapt(params)
        return params

    def get_help(self, ctx: Any) -> str:
        """In narrower columns than Typer's."""
        typer_internals.narrow(ctx, FIRST_COLUMN)
        text: str = super().get_help(ctx)  # type: ignore[misc]
        return text

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """What follows the options."""
        self.sections.write(formatter)


class Command(_Adapted, TyperCommand):
    """A verb. Its function may return its exit code."""

    is_about_ctl = False
    """Whether it calls nothing and reads no settings, so that shared options before it are harmless."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """With the options before the verb as defaults."""
        return super().make_context(info_name, args, parent, default_map=options_before_verb(parent), **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """With the values of options that may be left out."""
        try:
            return super().parse_args(ctx, with_optional_values(args))
        except TyperException as error:
            if (meant := value_after_space(args)) and not ctx.resilient_parsing:
                error.message += f"; a value follows = and no space: did you mean {meant}?"
            raise

    def invoke(self, ctx: Any) -> Any:
        """Raises UsageError for an option before the verb that the verb would ignore."""
        own = {param.name for param in self.params}
        for name in options_before_verb(ctx.parent):
            if name not in own and not self.is_about_ctl:
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"`{ctx.command_path}` does not take {flag} before the verb: leave it out")
        return super().invoke(ctx)


class CommandGroup(_Adapted, TyperGroup):
    """A noun, or `ctl` itself. Every error of a command ends in `main`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer's signature
        """The command of that name, built when it is first used; None if there is none."""
        known: Any = self.commands.get(cmd_name)
        if isinstance(known, str | typer.Typer):
            known = self.commands[cmd_name] = _build(cmd_name, known)
        return known

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises UsageError for a verb that stands only below a noun, with that noun."""
        verb, nouns = args[0], []
        if verb not in self.commands:
            groups = [name for name, known in self.commands.items() if not isinstance(known, str)]
            nouns = [name for name in groups if verb in getattr(self.get_command(ctx, name), "commands", ())]
        if nouns:
            places = " or ".join(f"`{ctx.command_path} {noun} {verb}`" for noun in nouns)
            raise UsageError(f"No such command '{verb}'. Did you mean {places}?")
        return super().resolve_command(ctx, args)

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
    function = getattr(module, attribute)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = getattr(module, "CONTEXT_SETTINGS", None)
    single.command(name, cls=Command, context_settings=settings)(function)
    command: Any = get_command(single)
    command.sections = sections_of(function)
    command.is_about_ctl = getattr(module, "IS_ABOUT_CTL", False)
    return command
