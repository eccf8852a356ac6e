"""The `ctl` command: a verb checks its arguments, makes the client, calls it once and hands the answer to `output`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl import __version__
from dbgpt_ctl.cli import (
    apply,
    completion,
    context,
    db,
    doctor,
    events,
    gates,
    health,
    models,
    operate,
    output,
    serve,
    status,
    why,
)
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
for verb in (operate.drain, operate.undrain, operate.prune):
    models.app.command(verb.__name__, cls=Command)(verb)
app.add_typer(models.app, name="models")
app.command("apply", cls=Command)(apply.apply)
app.command("diff", cls=Command)(apply.diff)
app.command("status", cls=Command)(status.status)
app.command("events", cls=Command)(events.events)
app.command("health", cls=Command)(health.health)
app.command("wait", cls=Command)(gates.wait)
app.command("assert", cls=Command)(gates.assert_)
app.command("why", cls=Command)(why.why)
app.command("doctor", cls=Command)(doctor.doctor)
app.add_typer(context.app, name="context")
app.add_typer(db.app, name="db")
app.command("completion", cls=Command)(completion.completion)


def main() -> None:
    """The console script. Exits."""
    app()
