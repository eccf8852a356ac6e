"""The flags of a command, made from a settings class: one per knob, with the variable and the default in its help."""

from __future__ import annotations

import inspect
import os
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.completion.candidates import files
from dbgpt_ctl.settings.load import Knob, knobs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbgpt_ctl.settings.load import Settings

UNDERSCORES_TOO = {"token_normalize_func": lambda token: token.replace("_", "-")}
"""Typer context settings: `--log_file` means `--log-file`, as in `dbgpt start controller`; no help text shows it."""

_ENV_FILE = typer.Option(
    "--env-file",
    metavar="FILE",
    autocompletion=files,
    help="Reads variables from there, not from ./.env; '' reads none.",
)


def takes_settings(
    kind: type[Settings], knobs: Iterable[Knob] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives the decorated command the flags of `kind`'s knobs and --env-file; it gets the settings as `settings`.

    With `knobs` only these get flags; every knob keeps its variable. `Settings.load` parses the flags, so that a wrong
    flag and a wrong variable give the same line.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        flags = [_parameter(knob.name, _option(knob)) for knob in knobs or knobs_of(kind)]

        @wraps(command)
        def loaded(env_file: str | None, **given: Any) -> Any:
            texts = {flag.name: given.pop(flag.name) for flag in flags}
            return command(settings=kind.load(texts, os.environ, env_file), **given)

        others = [
            parameter.replace(kind=Parameter.KEYWORD_ONLY)
            for name, parameter in own.parameters.items()
            if name != "settings"
        ]
        parameters = [*flags, _parameter("env_file", _ENV_FILE), *others]
        vars(loaded)["__signature__"] = own.replace(parameters=parameters)
        loaded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return loaded

    return decorate


def _parameter(name: str, option: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option])


def _option(knob: Knob) -> Any:
    default = knob.text(knob.default)
    shown = f"; default: {default}" if default else ""
    return typer.Option(
        knob.flag,
        *knob.aliases,
        metavar=knob.kind.metavar,
        help=f"{knob.help[0].upper()}{knob.help[1:]}. [{knob.shown_variable}{shown}]",
        autocompletion=_candidates(knob),
    )


def _candidates(knob: Knob) -> Callable[[str], Any] | None:
    words = knob.kind.words
    if words:
        return lambda incomplete: [word for word in words if word.startswith(incomplete)]
    return files if knob.kind.metavar == "PATH" else None
