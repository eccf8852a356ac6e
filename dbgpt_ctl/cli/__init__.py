"""The `ctl` command: a verb checks its arguments, makes the client, calls it once and hands the answer to `output`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl import __version__
from dbgpt_ctl.cli import completion, db, gates, health, models, output, serve
from dbgpt_ctl.cli.funnel import Command, Group

__all__ = ["app", "main"]

app = typer.Typer(
    name="ctl",
    cls=Group,
    help="The model controller of a DB-GPT cluster, and the tool to operate it.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it
    if wanted:
        output.print_lines([f"ctl {__version__}"])
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("serve", cls=Command, context_settings=serve.CONTEXT_SETTINGS)(serve.serve)
app.add_typer(models.app, name="models")
app.command("health", cls=Command)(health.health)
app.command("wait", cls=Command)(gates.wait)
app.command("assert", cls=Command)(gates.assert_)
app.add_typer(db.app, name="db")
app.command("completion", cls=Command)(completion.completion)


def main() -> None:
    """The console script. Exits."""
    app()
