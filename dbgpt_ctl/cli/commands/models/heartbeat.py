"""`ctl models heartbeat`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.commands.models.selection import Selection, takes_selection
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import DryRun, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import Outcome, print_outcome, run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat, json_text, print_lines, say
from dbgpt_ctl.domain.instance import InstanceState, Registration
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import ControllerFailed, ControllerRefused, ControllerUnreachable, NotAllowed, UsageError
from dbgpt_ctl.text.escaping import shell_argument
from dbgpt_ctl.text.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.domain.instance import InstanceKey

Every = Annotated[
    str | None,
    typer.Option(
        "--every", metavar="TIME", help="Repeat at this interval, as in 10s, until Ctrl-C; outages do not end it."
    ),
]


@explained(
    "ctl models heartbeat qwen2.5@llm/10.0.0.4:8001",
    "ctl models heartbeat qwen2.5@llm/10.0.0.4:8001 --every 20s",
    "ctl models heartbeat --host 10.0.0.4",
    exit_codes={
        4: "A selector matches nothing.",
        6: "A heartbeat is refused: the instance was deregistered.",
    },
)
@takes_session
@takes_selection(creates=True)
def heartbeat(
    *,
    every: Every = None,
    dry_run: DryRun = False,
    output: ResultOutput = OutputFormat.TEXT,
    selection: Selection,
    session: Session,
) -> int:
    """Send a heartbeat for instances.

    An unknown instance is registered if a reference names it. A selector selects among the known ones, once: with
    --every it sends heartbeats for the same instances each time.
    """
    interval = None if every is None else parse_duration("--every", every)
    if dry_run and interval is not None:
        raise UsageError("--dry-run sends nothing that --every could repeat: give one of them")
    with session.client() as client:
        selected = selection.resolve(client, session, changes=True, lists=dry_run)
        keys, known = selected.keys, selected.known()

        def beat(key: InstanceKey) -> str:
            if dry_run:
                is_accepted = key not in known or known[key].state is not InstanceState.DEREGISTERED
            else:
                is_accepted = client.heartbeat(Registration(key))
            if not is_accepted:
                command = f"ctl models register {shell_argument(reference_of(key))}"
                refused = "would be refused" if dry_run else "refused"
                raise ControllerRefused(
                    f"heartbeat {refused}: the instance was deregistered; register it again with: {command}"
                )
            if dry_run:
                return "heartbeat would be accepted" if key in known else "would be registered by a heartbeat"
            return "heartbeat accepted"

        if interval is None:
            return run_for_each(keys, beat, output)
        return repeat_heartbeats(
            keys, beat, output, interval=interval, quiet=session.quiet, monotonic=time.monotonic, sleep=time.sleep
        )


def repeat_heartbeats(
    keys: Sequence[InstanceKey],
    beat: Callable[[InstanceKey], str],
    form: OutputFormat,
    *,
    interval: float,
    quiet: bool = False,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    """Beats for all keys every `interval` seconds, also after outages. Returns the exit code once all are refused.

    Ctrl-C ends it, and so does NotAllowed, which it raises because waiting does not help. After a late heartbeat the
    next ones keep the interval. With `quiet`, it prints that an outage begins but not that it is over.
    """
    accepted = list(keys)
    down_since: float | None = None
    while accepted:
        started = monotonic()
        try:
            accepted = [key for key in accepted if _is_accepted(key, beat, form)]
        except (ControllerUnreachable, ControllerFailed) as error:
            if down_since is None:
                down_since = started
                say(f"{error}; trying again every {interval:g}s")
        else:
            if down_since is not None and not quiet:
                say(f"the controller answers again, after {monotonic() - down_since:.0f}s")
            down_since = None
        if accepted:
            sleep(max(0.0, started + interval - monotonic()))
    return ControllerRefused.exit_code


def _is_accepted(key: InstanceKey, beat: Callable[[InstanceKey], str], form: OutputFormat) -> bool:
    """Sends one heartbeat and prints its outcome. False when it is refused, as the next ones would be."""
    try:
        outcome = Outcome(key, beat(key))
    except NotAllowed:
        raise
    except ControllerRefused as error:
        say(f"{reference_of(key)}: {error}")
        return False
    if form in (OutputFormat.JSON, OutputFormat.YAML):
        print_lines([("- " if form is OutputFormat.YAML else "") + json_text(outcome.as_object())])
    else:
        print_outcome(outcome, form)
    return True
