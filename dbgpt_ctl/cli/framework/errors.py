"""The one funnel from an error to a line on stderr and an exit code, and commands that start fast.

Typer brings its own copy of Click: nothing here could be caught as `click.ClickException`.
"""

from __future__ import annotations

import os
import sys
from enum import EnumType
from typing import TYPE_CHECKING, Any, NoReturn

from typer import BadParameter
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.exceptions import TyperException

from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.output.stdout import PipeClosed, print_lines, say
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Iterable

DEBUG = "CTL_DEBUG"
COMPLETE = "_CTL_COMPLETE"
"""With this in the environment `ctl` says what TAB may put where, and runs nothing (see `shells`)."""


class Command(TyperCommand):
    """A verb. Its function may return its exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _take_plainly(self.params)

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without the cost of pydantic."""
        option = super().get_help_option(ctx)
        _take_plainly([option] if option else [])
        return option


class Group(TyperGroup):
    """A noun, or `ctl` itself; every error of what its `main` runs ends there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _take_plainly(self.params)

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without the cost of pydantic."""
        option = super().get_help_option(ctx)
        _take_plainly([option] if option else [])
        return option

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A noun alone shows its help, which is no error."""
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
        except Exception as error:  # noqa: BLE001 - the funnel: everything ends here
            code = _tell(error)
        sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Exception) -> int:
    """Tells the person what went wrong, in one line; returns the exit code."""
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, PipeClosed):
        return error.exit_code
    if isinstance(error, CtlError):
        say(str(error))
        return error.exit_code
    if isinstance(error, TyperException):
        say(_of_usage(error))
        return error.exit_code
    say(f"failed unexpectedly: {type(error).__name__}: {error} ({DEBUG}=1 shows where)")
    return CtlError.exit_code


def _of_usage(error: TyperException) -> str:
    ctx = getattr(error, "ctx", None)
    near = _near(error)
    offers = hasattr(error, "possibilities")  # which Typer would all tell
    message = " ".join((error.message if offers else error.format_message()).split()).rstrip(".")
    if near:
        message += f". Did you mean {', '.join(near)}?"
    end = "" if message.endswith("?") else "."
    return f"{message}{end} See '{ctx.command_path} --help'." if ctx else message


def _near(error: TyperException) -> list[str]:
    """What may have been meant: of what Typer offers only what looks alike."""
    from difflib import get_close_matches

    offered = getattr(error, "possibilities", None) or []
    given = getattr(error, "option_name", None)
    return sorted(offered) if given is None else sorted(get_close_matches(given, offered, cutoff=0.7))


def _take_plainly(params: Iterable[Any]) -> None:
    """Spares texts, choices and switches the way through pydantic, which takes 0.1 s to import; other types keep it.

    Typer has no public way for that. Should a release of it change this, commands are slower and otherwise the same.
    """
    for param in params:
        annotation = param.type_descriptor.annotation
        if annotation in (str, list[str], bool) or isinstance(annotation, EnumType):
            vars(param)["_runtime_param"] = _Plain()
        if isinstance(param, TyperArgument):
            vars(param)["display_type_rich"] = _no_type


def _no_type(ctx: Any) -> str:  # noqa: ARG001 - Typer's signature
    """Instead of `<list[str]>` after an argument's name in the help."""
    return ""


class _Plain:
    """Stands in for Typer's RuntimeParam."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        choices = param.type_descriptor.choices
        if choices is None:
            return value
        for choice in choices:
            if value == choice:
                return choice
        words = ", ".join(choice.value for choice in choices)
        raise BadParameter(f"{quoted(value)} is not one of {words}", ctx=ctx, param=param)
