"""`ctl context list`, `use`, `set`, `delete` and `show`: names for the addresses of controllers."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import argument, output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines, print_table, say
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.contexts import (
    Context,
    Contexts,
    check_name,
    config_path,
    read_contexts,
    read_token_file,
    write_contexts,
)
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ClientSettings
from dbgpt_ctl.text.escaping import escaped
from dbgpt_ctl.text.times import parse_duration

if TYPE_CHECKING:
    from dbgpt_ctl.cli.documents.reports import ContextsDocument, PrintedContext, SettingOfContext

_NAME = argument("NAME", candidates.contexts, "The context.")
Name = Annotated[str, _NAME]
OptionalName = Annotated[str | None, _NAME]
_SETTINGS = {setting.name: setting for setting in declared_settings(ClientSettings)}


@explained(
    "ctl context list",
    "ctl context list -o name",
)
def list_(
    *,
    output: Annotated[
        OutputFormat, output_option("table", "json", "name", help="Format of the list.")
    ] = OutputFormat.TABLE,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Omit the header line of the table.")] = False,
) -> None:
    """List the contexts.

    A * marks the current one.
    """
    contexts = _read()
    rows = [_object(context, contexts) for _, context in sorted(contexts.by_name.items())]
    if output is OutputFormat.JSON:
        document: ContextsDocument = {
            "version": 1,
            "file": str(contexts.path),
            "current": contexts.current,
            "contexts": rows,
        }
        print_json(document)
    elif output is OutputFormat.NAME:
        print_lines(row["name"] for row in rows)
    elif rows:
        columns = (Column("CURRENT", folds=False), Column("NAME", folds=False), Column("ADDRESS"), Column("TOKEN FILE"))
        cells = [
            ["*" if row["current"] else "", row["name"], row["address"] or "-", escaped(row["token_file"] or "-")]
            for row in rows
        ]
        print_table(columns, cells, headers=not no_headers)
    if not rows:
        say(f"no contexts in {contexts.path}; ctl context set NAME --address URL creates one")


@explained(
    "ctl context use prod",
    "ctl context use --none",
)
def use(
    name: OptionalName = None,
    *,
    none: Annotated[bool, typer.Option("--none", help="Leave no current context.")] = False,
) -> None:
    """Make a context the current one.

    Its values apply where neither a flag nor a variable gives one.
    """
    if none == (name is not None):
        raise UsageError("give either the NAME of a context or --none")
    contexts = _read()
    if name is not None:
        contexts.named(name, "context")
    write_contexts(replace(contexts, current=name))
    print_lines([f"{name} is the current context" if name else "there is no current context"])
    if name and contexts.by_name[name].address and os.environ.get("CONTROLLER_ADDRESS"):
        say("CONTROLLER_ADDRESS is set and overrides the current context; --context overrides both")


@explained(
    "ctl context set prod -a http://ctl-1:8000,http://ctl-2:8000",
    "ctl context set prod --token-file prod.token",
)
def set_(
    name: Name,
    *,
    new_address: Annotated[
        list[str] | None,
        typer.Option(
            "--address", "-a", metavar="URL", help="URL of the controller; for several repeat it or use commas."
        ),
    ] = None,
    new_timeout: Annotated[
        str | None, typer.Option("--request-timeout", metavar="TIME", help="Timeout of one request, as in 5s.")
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            autocompletion=candidates.files,
            help="File with TOKEN or NAME:TOKEN, which only its owner can read.",
        ),
    ] = None,
    new_ca_file: Annotated[
        str | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            autocompletion=candidates.files,
            help="PEM file with the certificates to trust at https addresses; without one: the system's.",
        ),
    ] = None,
) -> None:
    """Create a context, or change one.

    A value that is not given stays as it is; '' removes a value. A token belongs in a file (--token-file) or in
    CTL_TOKEN.
    """
    contexts = _read()
    known = contexts.by_name.get(check_name(name))
    address = ",".join(new_address) if new_address else None
    if address is new_timeout is token_file is new_ca_file is None:
        raise UsageError("nothing to set: give --address, --request-timeout, --token-file or --ca-file")
    changes = _checked(address, new_timeout, token_file, new_ca_file)
    context = replace(known or Context(name), **changes)
    write_contexts(contexts.with_context(context))
    print_lines([f"context {name} {'changed' if known else 'created'}"])
    if changes.get("address") and context.holds_secret:
        say(
            f"warning: the token in the address is kept in {contexts.path} as it is; --token-file or CTL_TOKEN is safer"
        )
    if known is None and contexts.current is None:
        say(f"ctl context use {name} makes it the current one")


@explained(
    "ctl context delete prod",
)
def delete(name: Name) -> None:
    """Delete a context."""
    contexts = _read()
    contexts.named(name, "context")
    write_contexts(contexts.without(name))
    print_lines([f"context {name} deleted"])
    if contexts.current == name:
        say("it was the current context: there is none now")


@explained(
    "ctl context show",
    "ctl context show --context prod -o json",
)
@takes_session
def show(
    *,
    output: Annotated[
        OutputFormat, output_option("table", "json", help="Format of the settings.")
    ] = OutputFormat.TABLE,
    session: Session,
) -> None:
    """Show which controller a command would call.

    Each value comes with its origin. Nothing is sent.

    \b
    A flag takes precedence, then a context that is named (--context,
    CTL_CONTEXT), a variable in the environment, one in the file of the
    flag --env-file, the current context, and the default. ./.env is not
    read. A context's token is sent to that context's addresses only, and
    its --ca-file counts for these only. If CONTROLLER_ADDRESS is set,
    CTL_TOKEN is sent to its addresses only.
    """
    settings = session.settings
    values: dict[str, SettingOfContext] = {
        "context": {"value": settings.context, "from": settings.context_origin},
        **{setting.name: {"value": shown, "from": origin} for setting, shown, origin in settings.effective()},
        "token": _token(settings),
    }
    if output is OutputFormat.JSON:
        print_json({"version": 1, **values})
        return
    rows = [
        [name, escaped(str(_or_dash(row["value"]))), escaped(_or_dash(row["from"]))] for name, row in values.items()
    ]
    print_table([Column("SETTING", folds=False), Column("VALUE"), Column("FROM")], rows, headers=True)


def _read() -> Contexts:
    return read_contexts(config_path(os.environ))


def _checked(
    address: str | None, request_timeout: str | None, token_file: str | None, ca_file: str | None
) -> dict[str, Any]:
    """The given values as they are stored; None removes one. Raises UsageError."""
    changes: dict[str, Any] = {}
    if address is not None:
        changes["address"] = _SETTINGS["address"].parse(address) if address else None
    if request_timeout is not None:
        seconds = parse_duration("--request-timeout", request_timeout) if request_timeout else None
        changes["request_timeout"] = None if seconds is None else f"{seconds:g}"
    if token_file is not None:
        changes["token_file"] = token_file = _absolute(token_file)
        if token_file:
            read_token_file(token_file)
    if ca_file is not None:
        changes["ca_file"] = ca_file = _absolute(ca_file)
        if ca_file:
            from dbgpt_ctl.client.trust import ssl_context  # it imports ssl

            ssl_context((), ClientSettings(ca_file=ca_file).checked().ca_file)
    return changes


def _absolute(path: str) -> str | None:
    """As it is stored; None for an empty path, which removes the value."""
    if not path or path.startswith("~"):
        return path or None
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links


def _object(context: Context, contexts: Contexts) -> PrintedContext:
    return {
        "name": context.name,
        "current": context.name == contexts.current,
        "address": _SETTINGS["address"].kind.shown(context.address),
        "request_timeout": None if context.request_timeout is None else float(context.request_timeout),
        "token_file": context.token_file,
        "ca_file": context.ca_file,
    }


def _token(settings: ClientSettings) -> SettingOfContext:
    """Stars and the origin if there is a token, and never the token."""
    if not any(address.credentials for address in settings.addresses):
        return {"value": None, "from": None}
    return {"value": "********", "from": settings.token_origin or settings.origins.get("address", "default")}


def _or_dash(value: Any) -> Any:
    return "-" if value is None else value
