"""`ctl apply` and `ctl diff`: a file says which instances there are to be."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dbgpt_ctl.cli.completion.candidates import files
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import ResultFormat


class ApplyFormat(StrEnum):
    """The values of `-o`."""

    TEXT = "text"
    JSON = "json"


FileName = Annotated[
    str | None,
    typer.Option("--file", "-f", metavar="FILE", autocompletion=files, help="YAML or JSON; - reads standard input."),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Also remove what is registered under a model of the file and not in it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]
Output = Annotated[ApplyFormat, typer.Option("--output", "-o", help="How to print the results.")]


@takes_session
def apply(
    file: FileName = None,
    *,
    prune: Prune = False,
    dry_run: DryRun = False,
    output: Output = ApplyFormat.TEXT,
    session: Session,
) -> int:
    """Make the registered instances as a file declares them.

    instances: a list of model, host, port and, if they matter, weight, enabled, prompt_template, check_healthy. What is
    absent is registered, which counts as one heartbeat; enabled false drains. Nothing that is unhealthy or deregistered
    is made healthy. Doing it twice changes nothing.
    """
    from dbgpt_ctl.cli.manifest.run import apply_file

    return apply_file(file, session, ResultFormat(output.value), prune=prune, dry_run=dry_run)


@takes_session
def diff(
    file: FileName = None,
    *,
    prune: Prune = False,
    output: Output = ApplyFormat.TEXT,
    session: Session,
) -> int:
    """Show what `ctl apply` would change.

    + is absent, ~ differs, - is not in the file (only with --prune). Exits with 0 when all is as declared, with 5 when
    it is not.
    """
    from dbgpt_ctl.cli.manifest.run import diff_file

    return diff_file(file, session, prune=prune, as_json=output is ApplyFormat.JSON)
