"""`ctl models prune`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from dbgpt_ctl.cli.framework.disruption import Confirmation, Yes
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import DryRun, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.times import parse_duration

LONGEST_AGE_DAYS = 3650

OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", metavar="TIME", help="Shortest time in that state, as in 7d.  [required]"),
]
Unchecked = Annotated[
    bool,
    typer.Option("--unchecked", help="Also instances that are never checked, if silent for longer than --older-than."),
]


@explained(
    "ctl models prune --older-than 7d --dry-run",
    "ctl models prune --older-than 7d --yes",
    "ctl models prune --older-than 7d --unchecked --yes",
    exit_codes={
        1: "The answer to the question is not yes; nothing was removed.",
    },
)
@takes_session
def prune(
    *,
    older_than: OlderThan = None,
    unchecked: Unchecked = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: ResultOutput = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Remove instances that are unhealthy or deregistered for long.

    They have been in that state for longer than --older-than. Drained instances stay. A worker that returns registers
    its instance again. On a terminal the command asks first.

    Instances that were registered with --no-check-healthy stay healthy for ever. With --unchecked those of them go,
    too, whose last heartbeat is older than --older-than. That may be one that serves and for which nobody sends
    heartbeats, so look at --dry-run first.
    """
    if older_than is None:
        raise UsageError("--older-than is required, as in --older-than 7d")
    age = timedelta(seconds=parse_duration("--older-than", older_than, longest_days=LONGEST_AGE_DAYS))
    confirmation = Confirmation.needed("remove", yes=yes, dry_run=dry_run)
    with session.client() as client:
        removed = client.prune(age, dry_run=dry_run or confirmation.asks, unchecked=unchecked)
        if confirmation.asks and removed:
            confirmation.confirm(removed)
            # This also removes what has come of age while the person thought.
            removed = client.prune(age, unchecked=unchecked)
    if not removed:
        states = "unhealthy, deregistered or unchecked and silent" if unchecked else "unhealthy or deregistered"
        session.say(f"no instance has been {states} for longer than {older_than.strip()}")
    result = "would be removed" if dry_run else "removed"
    return run_for_each(removed, lambda _key: result, output)
