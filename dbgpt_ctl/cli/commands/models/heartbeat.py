"""`ctl models heartbeat`."""

from __future__ import annotations

import time
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import Host, ModelType, Port, References, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import Outcome, print_outcome, run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat, json_text, print_lines, say
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.references import parse_targets, reference_of
from dbgpt_ctl.domain.instance import Registration
from dbgpt_ctl.errors import ControllerFailed, ControllerRefused, ControllerUnreachable, NotAllowed

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
    exit_codes={
        6: "A heartbeat is refused: the instance was deregistered.",
    },
)
@takes_session
def heartbeat(
    references: References,
    *,
    model_type: ModelType = None,
    host: Host = None,
    port: Port = None,
    every: Every = None,
    output: ResultOutput = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Send a heartbeat for instances.

    An unknown instance is registered.
    """
    keys = parse_targets(references, model_type, host, port, creates=True)
    interval = None if every is None else parse_duration("--every", every)
    with session.client() as client:

        def beat(key: InstanceKey) -> str:
            if not client.heartbeat(Registration(key)):
                command = f"ctl models register {quote(reference_of(key))}"
                raise ControllerRefused(
                    f"heartbeat refused: the instance was deregistered; register it again with: {command}"
                )
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
