"""Arguments and options that several commands share, and the flags that are made of settings."""

from __future__ import annotations

import inspect
import os
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.typer_internals import OPTIONAL_VALUES
from dbgpt_ctl.domain.instance import STATES
from dbgpt_ctl.settings.load import Setting, declared_settings
from dbgpt_ctl.text.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbgpt_ctl.settings.load import Settings

UNDERSCORES_TOO = {"token_normalize_func": lambda token: token.replace("_", "-")}
"""Context settings: `--log_file` means `--log-file`, as `dbgpt start controller` spells it. No help shows it."""


def choice(words: Iterable[str], kind: Callable[[str], Any] = str) -> dict[str, Any]:
    """Arguments of a typer.Option or Argument whose value is one of the words, as a `kind`."""
    known = tuple(words)

    def parse(word: str) -> Any:
        if word not in known:
            raise ValueError(f"{quoted(word)} is not one of {', '.join(known)}")
        return kind(word)

    return {"metavar": f"<{'|'.join(known)}>", "parser": parse, "autocompletion": candidates.one_of(known)}


def output_option(*formats: str, help: str) -> Any:  # noqa: A002 - Typer's own word
    """`--output`, for a command that prints in these formats only."""
    return typer.Option("--output", "-o", help=help, **choice(formats, OutputFormat))


def argument(metavar: str, complete: Callable[..., Any], help: str) -> Any:  # noqa: A002 - Typer's own word
    """An argument with candidates for completion. If it may be left out, its help says what that means."""
    return typer.Argument(metavar=metavar, autocompletion=complete, show_default=False, help=help)


def model_argument(help: str = "The model; without a type: all types of this name.") -> Any:  # noqa: A002
    """A model, or all models of a name."""
    return argument("NAME[@TYPE]", candidates.models, help)


def host_option(help: str) -> Any:  # noqa: A002 - Typer's own word
    """`--host`."""
    return typer.Option("--host", metavar="HOST", autocompletion=candidates.hosts, help=help)


def type_option(help: str) -> Any:  # noqa: A002 - Typer's own word
    """`--type`."""
    return typer.Option("--type", metavar="TYPE", autocompletion=candidates.types, help=help)


States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        autocompletion=candidates.one_of(STATES),
        help="Only this state: healthy, unhealthy or deregistered; or drained, in any state. "
        "Repeat it or use commas for several.",
    ),
]
ModelPattern = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="GLOB",
        autocompletion=candidates.models,
        help="Only models that match: their NAME@TYPE, or NAME if GLOB has no @; * is any text, ? any character.",
    ),
]
ResultOutput = Annotated[OutputFormat, output_option("text", "json", "yaml", "name", help="Format of the results.")]
"""For a command that changes something, or shows single instances."""
ReportOutput = Annotated[OutputFormat, output_option("text", "json", help="Format of the report.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done and change nothing.")]
AllowStale = Annotated[
    bool, typer.Option("--allow-stale", help="While the registry is away, rely on the last known list.")
]
NoProbe = Annotated[bool, typer.Option("--no-probe", help="Do not probe the addresses of instances.")]
Ping = Annotated[
    str | None,
    typer.Option(
        "--ping",
        help="Ask routable instances whether they answer (at most 50 addresses): the model, or with =metadata only its"
        " worker.",
        **(choice(OPTIONAL_VALUES["--ping"]) | {"metavar": "[=metadata|generate]"}),
    ),
]
"""What `--ping` alone means, and its values: see cli/parsing/typer_internals.py."""
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Omit the header line of a table and of csv.")]


def _env_file(help: str) -> Any:  # noqa: A002 - Typer's own word
    option = typer.Option("--env-file", metavar="FILE", autocompletion=candidates.files, help=help)
    return Annotated[str | None, option]


ClientEnvFile = _env_file("Read variables from FILE; ./.env is read only by serve and db.")
ServerEnvFile = _env_file("Read variables from FILE, which is trusted, not from ./.env; '' reads none.")


def takes_settings(
    kind: type[Settings], settings: Iterable[Setting] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the flags of `kind`'s settings and --env-file to a command, and passes it the result as `settings`.

    With `settings`, only these get flags; all keep their variables. `Settings.load` parses the flags, so that a wrong
    flag and a wrong variable give the same message.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        flags = [
            Parameter(
                setting.name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option_of(setting)]
            )
            for setting in settings or declared_settings(kind)
        ]

        @wraps(command)
        def loaded(env_file: str | None, **given: Any) -> Any:
            texts = {flag.name: given.pop(flag.name) for flag in flags}
            return command(settings=kind.load(texts, os.environ, env_file), **given)

        others = [
            parameter.replace(kind=Parameter.KEYWORD_ONLY)
            for name, parameter in own.parameters.items()
            if name != "settings"
        ]
        parameters = [
            *flags,
            Parameter("env_file", Parameter.KEYWORD_ONLY, default=None, annotation=ServerEnvFile),
            *others,
        ]
        vars(loaded)["__signature__"] = own.replace(parameters=parameters)
        loaded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return loaded

    return decorate


def option_of(setting: Setting, *, metavar: str | None = None, unit: str = "", help: str | None = None) -> Any:  # noqa: A002
    """The flag of a setting. Its help shows the variable and the default, which on a command line has the `unit`."""
    default = setting.text(setting.default)
    shown = f"; default: {default}{unit}" if default else ""
    return typer.Option(
        setting.flag,
        *setting.aliases,
        metavar=metavar or setting.kind.metavar,
        help=f"{help or setting.help[0].upper() + setting.help[1:]}.  [{setting.variable}{shown}]",
        autocompletion=_candidates(setting),
        show_default=False,  # Typer would show an address before the verb, with its token
    )


def _candidates(setting: Setting) -> Callable[[str], Any] | None:
    if setting.kind.words:
        return candidates.one_of(setting.kind.words)
    return candidates.files if setting.kind.metavar == "PATH" else None
