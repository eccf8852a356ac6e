"""`ctl token list`: the tokens in the file, without their hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer  # noqa: TC002 - Typer reads it

from dbgpt_ctl.cli.commands.token import TokensPath, expires_text, path_of
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import NoHeaders, ServerEnvFile, output_option
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_csv, print_document, print_lines, print_table, say
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.auth.tokens_file import TokensFile
    from dbgpt_ctl.cli.documents.reports import PrintedToken, TokensDocument

KEYS = ("name", "role", "state", "valid_tokens", "models", "hosts", "max_instances", "expires")
_COLUMNS = (
    Column("NAME", folds=False),
    Column("ROLE", folds=False),
    Column("MODELS"),
    Column("HOSTS"),
    Column("MAX INSTANCES", folds=False),
    Column("EXPIRES", colours={"expired": "red", "revoked": "magenta"}, folds=False),
    Column("VALID", folds=False),
)


@explained(
    "ctl token list",
    "ctl token list -o json",
)
def list_(
    ctx: typer.Context,
    *,
    tokens_file: TokensPath = None,
    env_file: ServerEnvFile = None,
    output: Annotated[
        OutputFormat, output_option("table", "json", "yaml", "csv", "name", help="Format of the list.")
    ] = OutputFormat.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """List the tokens in the file.

    VALID is the number of tokens that are accepted: two after a rotation, until the old one is revoked. Neither tokens
    nor their hashes are shown.
    """
    from dbgpt_ctl.auth.tokens_file import read_tokens_file
    from dbgpt_ctl.clock import SystemClock

    path = path_of(tokens_file, env_file)
    file, now = read_tokens_file(path), (ctx.obj or SystemClock()).now()
    tokens = [file.tokens[name] for name in sorted(file.tokens)]
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        print_document(_document(str(path), file, [_object(token, now) for token in tokens]), output)
    elif output is OutputFormat.CSV:
        print_csv(KEYS, [_csv_object(token, now) for token in tokens], headers=not no_headers)
    elif output is OutputFormat.NAME:
        print_lines(token.name for token in tokens)
    elif tokens:
        print_table(_COLUMNS, [_row(token, now) for token in tokens], headers=not no_headers)
    if not tokens:
        say(f"no tokens in {path}; ctl token create NAME --role ROLE makes one")
    if file.readable_by_others is not None:
        say(f"warning: others can read {path} (mode {file.readable_by_others:04o}): chmod 600 {path}")


def _document(path: str, file: TokensFile, tokens: list[PrintedToken]) -> TokensDocument:
    return {"version": 1, "file": path, "mode": file.mode, "digest": file.digest, "tokens": tokens}


def _object(token: Token, now: datetime) -> PrintedToken:
    return {
        "name": token.name,
        "role": token.role,
        "state": _state(token, now),
        "valid_tokens": _valid(token, now),
        "models": list(token.models),
        "hosts": list(token.hosts),
        "max_instances": token.max_instances,
        "expires": expires_text(token),
    }


def _csv_object(token: Token, now: datetime) -> dict[str, Any]:
    return {**_object(token, now), "models": ",".join(token.models), "hosts": ",".join(token.hosts)}


def _state(token: Token, now: datetime) -> str:
    if token.is_revoked:
        return "revoked"
    return "expired" if token.is_expired(now) else "valid"


def _valid(token: Token, now: datetime) -> int:
    return 0 if token.is_expired(now) else len(token.sha256)


def _row(token: Token, now: datetime) -> list[str]:
    state = _state(token, now)
    if state == "valid":
        left = None if token.expires is None else (token.expires - now).total_seconds()
        state = "never" if left is None else f"in {duration_text(left)}"
    is_worker = token.role == "worker"
    anything = "any" if is_worker else "-"
    return [
        token.name,
        str(token.role),
        ", ".join(token.models) or anything,
        ", ".join(token.hosts) or anything,
        str(token.max_instances or anything),
        state,
        str(_valid(token, now)),
    ]
