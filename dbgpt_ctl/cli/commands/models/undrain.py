"""`ctl models undrain`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.commands.models.drain import Host, Propagation, References, Timeout, action_of, select_instances
from dbgpt_ctl.cli.framework.options import ModelType, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.durations import parse_duration

Force = Annotated[bool, typer.Option("--force", help="With --host: also instances of type service.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until every controller of --address offers it to API servers again.")
]


@takes_session
def undrain(
    references: References = None,
    *,
    model_type: ModelType = None,
    host: Host = None,
    wait: Wait = False,
    timeout: Timeout = "30s",
    force: Force = False,
    output: ResultOutput = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Let drained instances get requests again.

    With --wait, exits with 5 when an instance gets no requests for another reason, or when --timeout is over.
    """
    propagation = Propagation(session, parse_duration("--timeout", timeout)) if wait else None
    with session.client() as client:
        keys = select_instances(client, session, references or [], model_type, host, force=force, verb="undrain")
        return run_for_each(keys, action_of(client, client.undrain, "undrained", session, propagation), output)
