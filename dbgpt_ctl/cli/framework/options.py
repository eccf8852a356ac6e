"""From a settings class to the flags of a command: a flag per knob, its help with the variable and the default."""

from __future__ import annotations

import inspect
import os
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.completion.candidates import files
from dbgpt_ctl.settings.knob import Knob, knobs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbgpt_ctl.settings.load import Settings

UNDERSCORES_TOO = {"token_normalize_func": lambda token: token.replace("_", "-")}
"""Context settings: `--log_file` is `--log-file`, for those who know `dbgpt start controller`; no help shows it."""

_ENV_FILE = typer.Option(
    "--env-file",
    metavar="FILE",
    autocompletion=files,
    help="Reads variables from there, not from ./.env; '' reads none.",
)


def takes_settings(
    kind: type[Settings], knobs: Iterable[Knob] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated command gets the flags of `kind`'s knobs and --env-file; its argument `settings` is what they load.

    With `knobs` only these get flags; all keep their variables. Flags are not parsed here but in `Settings.load`, so
    that a wrong flag and a wrong variable give the same line.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        flags = [_parameter(knob.name, _option(knob)) for knob in knobs or knobs_of(kind)]

        @wraps(command)
        def loaded(env_file: str | None, **given: Any) -> Any:
            texts = {flag.name: given.pop(flag.name) for flag in flags}
            return command(settings=kind.load(texts, os.environ, env_file), **given)

        others = [
            each.replace(kind=Parameter.KEYWORD_ONLY) for each in own.parameters.values() if each.name != "settings"
        ]
        parameters = [*flags, _parameter("env_file", _ENV_FILE), *others]
        vars(loaded)["__signature__"] = own.replace(parameters=parameters)
        loaded.__annotations__ = {each.name: each.annotation for each in parameters}
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
