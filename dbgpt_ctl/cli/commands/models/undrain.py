"""`ctl models undrain`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.commands.models.drain import Propagation, Timeout, action_of, rehearsal_of
from dbgpt_ctl.cli.commands.models.selection import Selection, takes_selection
from dbgpt_ctl.cli.framework.disruption import Confirmation, Yes
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import DryRun, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.text.times import parse_duration

Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until every controller of --address offers the instances to API servers.")
]


@explained(
    "ctl models undrain qwen2.5@llm/10.0.0.4:8001",
    "ctl models undrain --host 10.0.0.4 --wait --yes",
    exit_codes={
        1: "The answer to the question is not yes; nothing was changed.",
        4: "The only failures are instances that are not known; a selector matches nothing.",
        5: "--wait reached its --timeout, or an instance gets no requests for another reason.",
    },
)
@takes_session
@takes_selection()
def undrain(
    *,
    wait: Wait = False,
    timeout: Timeout = "30s",
    dry_run: DryRun = False,
    yes: Yes = False,
    output: ResultOutput = OutputFormat.TEXT,
    selection: Selection,
    session: Session,
) -> int:
    """Let drained instances get requests again.

    With a selector it asks first.
    """
    confirmation = Confirmation.needed("undrain", yes=yes or not selection.by_selector, dry_run=dry_run)
    propagation = Propagation(session, parse_duration("--timeout", timeout)) if wait else None
    with session.client() as client:
        selected = selection.resolve(client, session, changes=True, lists=dry_run, complete=True)
        confirmation.confirm(selected.keys)
        if dry_run:
            return run_for_each(selected.keys, rehearsal_of(client, selected.known(), "would be undrained"), output)
        return run_for_each(selected.keys, action_of(client, client.undrain, "undrained", session, propagation), output)
