"""Turns every error of a command into one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys

from typer.exceptions import TyperException

from dbgpt_ctl.cli.output.stdout import PipeClosed, say
from dbgpt_ctl.errors import CtlError
from dbgpt_ctl.settings.masking import mask_own_tokens

DEBUG = "CTL_DEBUG"


def report_error(error: Exception) -> int:
    """Prints what went wrong, in one line; returns the exit code. A token that stands in a wrong argument is hidden."""
    if os.environ.get(DEBUG):
        import traceback

        sys.stderr.write(mask_own_tokens("".join(traceback.format_exception(error))))
    if isinstance(error, PipeClosed):
        return error.exit_code
    if isinstance(error, CtlError):
        say(mask_own_tokens(str(error)))
        return error.exit_code
    if isinstance(error, TyperException):  # Typer carries its own Click: `click.ClickException` catches nothing
        say(mask_own_tokens(_usage_message(error)))
        return error.exit_code
    say(mask_own_tokens(f"failed unexpectedly: {type(error).__name__}: {error} ({DEBUG}=1 shows where)"))
    return CtlError.exit_code


def _usage_message(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    suggestions = _suggestions(error)
    # An error with possibilities would list all of them in `format_message`.
    message = error.message if hasattr(error, "possibilities") else error.format_message()
    message = " ".join(message.split()).rstrip(".")
    if suggestions:
        message += f". Did you mean {', '.join(suggestions)}?"
    end = "" if message.endswith("?") else "."
    return f"{message}{end} See '{context.command_path} --help'." if context else message


def _suggestions(error: TyperException) -> list[str]:
    """The names that the person may have meant: of Typer's, only those that look alike."""
    from difflib import get_close_matches

    offered = getattr(error, "possibilities", None) or []
    given = getattr(error, "option_name", None)
    return sorted(offered) if given is None else sorted(get_close_matches(given, offered, cutoff=0.7))
