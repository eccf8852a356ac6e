"""The `ctl` command: a verb checks its arguments, makes the client, calls it once and hands the answer to `output`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl import __version__
from dbgpt_ctl.cli import output
from dbgpt_ctl.cli.lazy import application

__all__ = ["app", "main"]

MODELS = application(
    "See and change which model instances are registered.",
    {
        "list": "models_list:list_",
        "get": "details:get",
        "register": "models:register",
        "deregister": "models:deregister",
        "heartbeat": "models:heartbeat",
        "drain": "operate:drain",
        "undrain": "operate:undrain",
        "prune": "operate:prune",
    },
)
app = application(
    "The model controller of a DB-GPT cluster, and the tool to operate it.",
    {
        "serve": "serve:serve",
        "apply": "apply:apply",
        "diff": "apply:diff",
        "status": "status:status",
        "events": "events:events",
        "health": "health:health",
        "wait": "gates:wait",
        "assert": "gates:assert_",
        "why": "why:why",
        "doctor": "doctor:doctor",
        "completion": "completion:completion",
        "models": MODELS,
        "context": "context:app",
        "db": "db:app",
    },
    name="ctl",
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


def main() -> None:
    """The console script. Exits."""
    app()
