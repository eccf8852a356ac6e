"""`ctl wait`, and the conditions that it shares with `ctl assert`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.diagnosis.caveats import caveat_fields, refuse_stale
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import AllowStale, ReportOutput, model_argument
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.status_line import Progress, status_line
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines
from dbgpt_ctl.cli.parsing.conditions import Condition, StateTally
from dbgpt_ctl.domain.controllers import ControllerCondition
from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
from dbgpt_ctl.errors import (
    Attempt,
    ConditionNotMet,
    ControllerFailed,
    ControllerUnreachable,
    CtlError,
    ErrorKind,
    UsageError,
)
from dbgpt_ctl.text.escaping import escaped
from dbgpt_ctl.text.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from dbgpt_ctl.cli.documents.instances import Caveats
    from dbgpt_ctl.cli.documents.reports import CheckDocument
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient

Name = Annotated[str | None, model_argument()]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="CONDITION",
        help="Condition on healthy, unhealthy, drained or deregistered instances, as in 'healthy>=2'; 'absent': none "
        "is listed.  [default: healthy>=1]",
    ),
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="Longest wait, as in 10m.")]
Every = Annotated[str, typer.Option("--every", metavar="TIME", help="Interval of the checks.")]
OfController = Annotated[bool, typer.Option("--controller", help="Wait for a healthy controller, not for NAME.")]


@explained(
    "ctl wait qwen2.5@llm --for 'healthy>=2' --timeout 10m",
    "ctl wait qwen2.5 --for absent",
    "ctl wait --controller --timeout 30s",
    exit_codes={
        3: "No controller can be reached, or only the last known list, when the time is over.",
        5: "The condition is not met when the time is over.",
    },
)
@takes_session
def wait(
    name: Name = None,
    *,
    condition: For = None,
    timeout: Timeout = "5m",
    every: Every = "1s",
    controller: OfController = False,
    allow_stale: AllowStale = False,
    output: ReportOutput = OutputFormat.TEXT,
    session: Session,
) -> None:
    """Wait for instances in a state, or for a healthy controller.

    `healthy` means that it gets requests. `absent` means that none is listed in any state: a deregistered one still is,
    unless it was removed with `ctl models deregister --remove`. An instance that counts as healthy only because the
    registry itself was away is unknown, and so is one to which not all controllers route because their heartbeat
    timeouts differ: the condition has to hold whatever its state is. An outage does not end the wait.
    """
    if controller == (name is not None):
        raise UsageError("give either NAME or --controller")
    if controller and condition is not None:
        raise UsageError("--for is about instances of NAME: leave it out with --controller")
    timeout_secs, interval = parse_duration("--timeout", timeout), parse_duration("--every", every)
    wanted, models = Condition.parse("--for", condition or "healthy>=1"), ModelFilter.parse(name)
    goal = "a healthy controller" if controller else f"{wanted} of {models.label}"
    with session.client() as client, status_line(wanted=not session.quiet and not session.verbose) as draw:
        progress = Progress(draw, goal, timeout_secs, monotonic=time.monotonic, sleep=time.sleep)
        session = replace(session, print_message=progress.say)
        check = (
            partial(check_controllers, client)
            if controller
            else partial(check_instances, session, client, models, wanted, allow_stale=allow_stale)
        )
        shown = partial(_check_and_show, check, progress)
        last = poll(shown, timeout_secs, interval, say=session.say, monotonic=time.monotonic, sleep=progress.sleep)
    if last.met or output is OutputFormat.JSON:
        print_check(last, output)
    if not last.met:
        raise ConditionNotMet(f"{last.name} is {last.verdict} {last.condition} after {timeout_secs:g}s: {last.text}")


@dataclass(frozen=True, slots=True)
class ConditionCheck:
    """The result of one check of a condition. `text` is for people, `counts` for scripts."""

    name: str
    condition: str
    met: bool
    text: str
    counts: dict[str, int]
    caveats: Caveats | None = None
    """Of the list that the counts are from."""
    is_open: bool = False
    """It is not met, and may be once the state of the unknown instances is known."""

    @property
    def verdict(self) -> str:
        """Of a condition that is not met, for a message."""
        return "not known to be" if self.is_open else "not"


def _check_and_show(check: Callable[[], ConditionCheck], progress: Progress) -> ConditionCheck:
    try:
        result = check()
    except CtlError:
        progress.state = "not known"
        raise
    progress.state = result.text
    return result


def poll(
    check: Callable[[], ConditionCheck],
    timeout: float,
    interval: float,
    *,
    say: Callable[[str], None],
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> ConditionCheck:
    """Checks until the condition is met or the timeout is over, and once more then. Returns the last check.

    Raises the error of the last check. Of an outage it prints the first error only.
    """
    deadline, outage_printed = monotonic() + timeout, False
    while True:
        left = deadline - monotonic()
        try:
            result = check()
        except (ControllerUnreachable, ControllerFailed) as error:
            if left <= 0:
                raise
            if not outage_printed:
                say(f"{error}; still waiting")
            outage_printed = True
        else:
            if result.met or left <= 0:
                return result
        sleep(max(0.0, min(interval, left)))


def check_controllers(client: ControllerClient) -> ConditionCheck:
    """Whether any controller serves. Raises ControllerUnreachable when none answers."""
    controllers = client.health()
    if all(controller.condition is ControllerCondition.UNREACHABLE for controller in controllers):
        from dbgpt_ctl.client.failover import ADVICE  # `ctl --help` imports this module, and needs no client

        attempts = [Attempt(found.controller, found.detail, found.cause) for found in controllers]
        raise ControllerUnreachable.of_attempts(attempts, ErrorKind.NO_ANSWER, ADVICE)
    healthy = sum(controller.ok for controller in controllers)
    text = "; ".join(f"{controller.controller}: {controller}" for controller in controllers)
    return ConditionCheck("controller", "healthy", healthy > 0, escaped(text), {"healthy": healthy})


def check_instances(
    session: Session,
    client: ControllerClient,
    models: ModelFilter,
    wanted: Condition,
    *,
    max_age: timedelta | None = None,
    allow_stale: bool = False,
) -> ConditionCheck:
    """Whether the instances of a model meet the condition. With `max_age`, older heartbeats do not count.

    Raises NotSupported for a condition on deregistered instances where the controller shows them as unhealthy.
    Warns of an answer that is stale, held or disputed. Raises StaleList for a stale one, unless `allow_stale`.
    """
    condition = str(wanted) if max_age is None else f"{wanted} within {max_age.total_seconds():g}s"
    answer = client.inventory(InstanceFilter(models), require_complete=wanted.is_about_deregistered)
    now = answer.time or session.clock.now()
    refuse_stale(session, answer, f"whether {models.label} is {condition} is not known", allow_stale=allow_stale)
    instances = [instance for instance in answer.instances if models.matches(instance.model_name)]
    tally = StateTally.of(instances)
    recent = StateTally.of(instance for instance in instances if max_age is None or _is_recent(instance, now, max_age))
    met = wanted.is_met_by(recent)
    return ConditionCheck(
        models.label,
        condition,
        met,
        str(tally),
        tally.counts,
        caveat_fields(answer),
        is_open=not met and wanted.may_be_met_by(recent),
    )


def _is_recent(instance: KnownInstance, now: datetime, max_age: timedelta) -> bool:
    return instance.last_heartbeat is not None and now - instance.last_heartbeat <= max_age


def print_check(check: ConditionCheck, output: OutputFormat) -> None:
    """Prints a line, or an object with -o json."""
    if output is OutputFormat.JSON:
        document: CheckDocument = {
            "name": check.name,
            "condition": check.condition,
            "met": check.met,
            "counts": check.counts,
        }
        print_json({**document, **(check.caveats or {})})
    else:
        print_lines([f"{check.name}: {check.text}"])
