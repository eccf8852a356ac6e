"""`ctl context`: names for clusters, so that nobody types addresses; list, use, set, delete and show."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.errors import Command, Group
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.stdout import print_json, print_lines, print_table, say
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.contexts import (
    Context,
    Contexts,
    check_name,
    config_path,
    read_contexts,
    read_token,
    write_contexts,
)
from dbgpt_ctl.settings.load import knobs_of
from dbgpt_ctl.settings.schema import ClientSettings

app = typer.Typer(
    cls=Group,
    help="Name clusters and choose one; kept in ~/.config/dbgpt-ctl/config.toml (XDG_CONFIG_HOME counts).",
)


class ListFormat(StrEnum):
    """The values of `-o` of a list."""

    TABLE = "table"
    JSON = "json"
    NAME = "name"


class ShowFormat(StrEnum):
    """The values of `-o` of a single thing."""

    TABLE = "table"
    JSON = "json"


Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=candidates.contexts, show_default=False, help="The context.")
]
MaybeName = Annotated[
    str | None,
    typer.Argument(metavar="NAME", autocompletion=candidates.contexts, show_default=False, help="The context."),
]
_KNOBS = {knob.name: knob for knob in knobs_of(ClientSettings)}


@app.command("list", cls=Command)
def list_(
    *,
    output: Annotated[ListFormat, typer.Option("--output", "-o", help="How to print them.")] = ListFormat.TABLE,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Leave out the header of the table.")] = False,
) -> None:
    """List the contexts; the current one has a *."""
    contexts = _read()
    rows = [_object(each, contexts) for _, each in sorted(contexts.by_name.items())]
    if output is ListFormat.JSON:
        print_json({"version": 1, "file": str(contexts.path), "current": contexts.current, "contexts": rows})
    elif output is ListFormat.NAME:
        print_lines(each["name"] for each in rows)
    elif rows:
        columns = (Column("CURRENT", folds=False), Column("NAME", folds=False), Column("ADDRESS"), Column("TOKEN FILE"))
        cells = [
            ["*" if each["current"] else "", each["name"], each["address"] or "-", escaped(each["token_file"] or "-")]
            for each in rows
        ]
        print_table(columns, cells, headers=not no_headers)
    if not rows:
        say(f"no contexts in {contexts.path}; ctl context set NAME --address URL makes one")


@app.command(cls=Command)
def use(
    name: MaybeName = None,
    *,
    none: Annotated[bool, typer.Option("--none", help="Have no current context.")] = False,
) -> None:
    """Make a context the current one: its values count where neither flags nor variables say otherwise."""
    if none == (name is not None):
        raise UsageError("give either the NAME of a context or --none")
    contexts = _read()
    if name is not None:
        contexts.named(name, "context")
    _write(replace(contexts, current=name))
    print_lines([f"{name} is the current context" if name else "there is no current context"])
    if name and contexts.by_name[name].address and os.environ.get("CONTROLLER_ADDRESS"):
        say("CONTROLLER_ADDRESS is set here and goes before the current context; --context goes before both")


@app.command("set", cls=Command)
def set_(
    name: Name,
    *,
    address: Annotated[
        str | None,
        typer.Option("--address", "-a", metavar="URL", help="URL of the controller; several with commas."),
    ] = None,
    request_timeout: Annotated[
        str | None, typer.Option("--request-timeout", metavar="TIME", help="What one request may take, as in 5s.")
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            autocompletion=candidates.files,
            help="File that holds TOKEN or USER:TOKEN; only its owner may be able to read it.",
        ),
    ] = None,
) -> None:
    """Make a context, or change what is given of one; '' takes a value out.

    A token belongs into a file (--token-file) or into CTL_TOKEN. Comments in the file of contexts are not kept.
    """
    contexts = _read()
    known = contexts.by_name.get(check_name(name))
    if address is request_timeout is token_file is None:
        raise UsageError("nothing to set: give --address, --request-timeout or --token-file")
    changes = _checked(address, request_timeout, token_file)
    context = replace(known or Context(name), **changes)
    _write(contexts.with_context(context))
    print_lines([f"context {name} {'changed' if known else 'made'}"])
    if changes.get("address") and context.holds_secret:
        say(
            f"warning: the token in the address is kept in {contexts.path} as it is; --token-file or CTL_TOKEN is safer"
        )
    if known is None and contexts.current is None:
        say(f"ctl context use {name} makes it the current one")


@app.command(cls=Command)
def delete(name: Name) -> None:
    """Forget a context."""
    contexts = _read()
    contexts.named(name, "context")
    _write(contexts.without(name))
    print_lines([f"context {name} deleted"])
    if contexts.current == name:
        say("it was the current one: there is none now")


@app.command(cls=Command)
@takes_session
def show(
    *,
    output: Annotated[ShowFormat, typer.Option("--output", "-o", help="How to print it.")] = ShowFormat.TABLE,
    session: Session,
) -> None:
    """Show which controller a command would talk to, and where each value comes from. Sends nothing.

    \b
    First counts a flag, then a context that is named (--context, CTL_CONTEXT),
    a variable in the environment, one in a .env file, the current context,
    the default. A context's token goes to that context's addresses only.
    """
    settings = session.settings
    values: dict[str, Any] = {
        "context": {"value": settings.context, "from": settings.context_origin},
        **{knob.name: {"value": shown, "from": origin} for knob, shown, origin in settings.effective()},
        "token": {"value": _token(settings), "from": _token_origin(settings)},
    }
    if output is ShowFormat.JSON:
        print_json({"version": 1, **values})
        return
    rows = [
        [key, escaped(str(_or_dash(each["value"]))), escaped(_or_dash(each["from"]))] for key, each in values.items()
    ]
    print_table([Column("SETTING", folds=False), Column("VALUE"), Column("FROM")], rows, headers=True)


def _read() -> Contexts:
    return read_contexts(config_path(os.environ))


def _write(contexts: Contexts) -> None:
    write_contexts(contexts)
    if contexts.commented:
        say(f"warning: the comments that were in {contexts.path} are gone")


def _checked(address: str | None, request_timeout: str | None, token_file: str | None) -> dict[str, Any]:
    """What was given, as it is to be kept; None for what is to be taken out. Raises UsageError."""
    changes: dict[str, Any] = {}
    if address is not None:
        changes["address"] = _KNOBS["address"].parse(address) if address else None
    if request_timeout is not None:
        seconds = parse_duration("--request-timeout", request_timeout) if request_timeout else None
        changes["request_timeout"] = None if seconds is None else f"{seconds:g}"
    if token_file is not None:
        changes["token_file"] = _absolute(token_file) if token_file else None
    return changes


def _absolute(path: str) -> str:
    """A context counts in every folder. A token file that cannot be used is told of now, not at 3 in the morning."""
    place = path if path.startswith("~") else os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
    read_token(place)
    return place


def _object(context: Context, contexts: Contexts) -> dict[str, Any]:
    return {
        "name": context.name,
        "current": context.name == contexts.current,
        "address": _KNOBS["address"].kind.shown(context.address),
        "request_timeout": None if context.request_timeout is None else float(context.request_timeout),
        "token_file": context.token_file,
    }


def _token(settings: ClientSettings) -> str | None:
    """Only whether there is one."""
    return "********" if any(each.credentials for each in settings.addresses) else None


def _token_origin(settings: ClientSettings) -> str | None:
    if settings.token_origin:
        return settings.token_origin
    return settings.origins.get("address", "default") if _token(settings) else None


def _or_dash(value: Any) -> Any:
    return "-" if value is None else value
