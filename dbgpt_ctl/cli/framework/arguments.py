"""Arguments and options of the verbs that name instances."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.output.results import ResultFormat

References = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME[@TYPE]/HOST:PORT",
        autocompletion=candidates.references,
        show_default=False,
        help="Instances as `ctl models list -o name` prints them; or one NAME with --host and --port.",
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--type", metavar="TYPE", autocompletion=candidates.types, help="Type of a NAME that has none. [default: llm]"
    ),
]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Host of NAME, as it is registered.")]
Port = Annotated[str | None, typer.Option("--port", metavar="PORT", help="Port of NAME.")]
Output = Annotated[ResultFormat, typer.Option("--output", "-o", help="How to print the results.")]
