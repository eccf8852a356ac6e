"""`ctl models undrain`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.commands.models.drain import Host, Propagation, References, Timeout, action_of, select_instances
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import ModelType, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.durations import parse_duration

Force = Annotated[bool, typer.Option("--force", help="Also undrain instances of type service; goes with --host.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until every controller of --address offers the instances to API servers.")
]


@explained(
    "ctl models undrain qwen2.5@llm/10.0.0.4:8001",
    "ctl models undrain --host 10.0.0.4 --wait",
    exit_codes={
        4: "The only failures are instances that are not known.",
        5: "--wait reached its --timeout, or an instance gets no requests for another reason.",
    },
)
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
    """Let drained instances get requests again."""
    propagation = Propagation(session, parse_duration("--timeout", timeout)) if wait else None
    with session.client() as client:
        keys = select_instances(client, session, references or [], model_type, host, force=force, verb="undrain")
        return run_for_each(keys, action_of(client, client.undrain, "undrained", session, propagation), output)
