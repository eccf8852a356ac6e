"""`ctl wait` and `ctl assert`: gates for scripts. Exit 0 when the condition holds, 5 when it does not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.commands.conditions import Condition, count, told
from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.stdout import print_json, print_lines, say
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.references import ModelFilter
from dbgpt_ctl.errors import ConditionNotMet, ControllerFailed, ControllerUnreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.client import ControllerClient, ReportedInstance


class GateFormat(StrEnum):
    """The values of `-o`."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found: `text` is for people, `counts` for scripts."""

    name: str
    condition: str
    met: bool
    text: str
    counts: dict[str, int]


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME[@TYPE]",
        autocompletion=candidates.models,
        show_default=False,
        help="The model; without a type: all types of it.",
    ),
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@TYPE]", autocompletion=candidates.models, help="The model; without a type: all types of it."
    ),
]
Output = Annotated[GateFormat, typer.Option("--output", "-o", help="How to print what was found.")]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="CONDITION",
        help="As 'healthy>=2'; also of unhealthy and drained; absent: in no list. [healthy>=1]",
    ),
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait, as in 10m.")]
Every = Annotated[str, typer.Option("--every", metavar="TIME", help="How often to look.")]
OfController = Annotated[bool, typer.Option("--controller", help="Wait for a controller to be healthy, not for NAME.")]
MinHealthy = Annotated[
    str, typer.Option("--min-healthy", metavar="NUMBER", help="So many must be healthy and not drained.")
]
MaxAge = Annotated[
    str | None, typer.Option("--max-age", metavar="TIME", help="And have beaten within that, as in 30s.")
]


@takes_session
def wait(
    name: Name = None,
    *,
    condition: For = None,
    timeout: Timeout = "5m",
    every: Every = "1s",
    controller: OfController = False,
    output: Output = GateFormat.TEXT,
    session: Session,
) -> None:
    """Wait until instances of a model are in a state, or until a controller is healthy.

    Goes on over outages. Exits with 5 when the time is over, with 3 if no controller could be reached then.
    """
    if controller == (name is not None):
        raise UsageError("give either NAME or --controller")
    if controller and condition is not None:
        raise UsageError("--for is about instances of NAME: leave it out with --controller")
    patience, pause = parse_duration("--timeout", timeout), parse_duration("--every", every)
    wanted, subject = Condition.parse("--for", condition or "healthy>=1"), ModelFilter.parse(name, None)
    with session.client() as client:
        look = partial(_controllers, client) if controller else partial(_instances, client, subject, wanted)
        found = wait_for(look, patience, pause, quiet=session.quiet, monotonic=time.monotonic, sleep=time.sleep)
    if found.met or output is GateFormat.JSON:
        _print(found, output)
    if not found.met:
        raise ConditionNotMet(f"{found.name} is not {found.condition} after {patience:g}s: {found.text}")


@takes_session
def assert_(
    name: ModelName,
    *,
    min_healthy: MinHealthy = "1",
    max_age: MaxAge = None,
    output: Output = GateFormat.TEXT,
    session: Session,
) -> int:
    """Insist that so many instances of a model get requests now.

    Exits with 5 when they do not, after printing what there is.
    """
    subject, wanted = ModelFilter.parse(name, None), Condition.parse("--min-healthy", f"healthy>={min_healthy}")
    youngest = None if max_age is None else timedelta(seconds=parse_duration("--max-age", max_age))
    with session.client() as client:
        found = _instances(client, subject, wanted, youngest)
    _print(found, output)
    if not found.met:
        say(f"not {found.condition}{subject}: {found.text}")
    return 0 if found.met else ConditionNotMet.exit_code


def wait_for(
    look: Callable[[], Finding],
    patience: float,
    pause: float,
    *,
    quiet: bool,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> Finding:
    """The first finding that is met, or what the last look found: it looks once more when `patience` seconds are over.

    Raises what kept that last look from finding anything. An outage is told once.
    """
    deadline, told_outage = monotonic() + patience, False
    while True:
        left = deadline - monotonic()
        try:
            found = look()
        except (ControllerUnreachable, ControllerFailed) as error:
            if left <= 0:
                raise
            if not told_outage and not quiet:
                say(f"{error}; waiting on")
            told_outage = True
        else:
            if found.met or left <= 0:
                return found
        sleep(max(0.0, min(pause, left)))


def _controllers(client: ControllerClient) -> Finding:
    answers = client.health()
    healthy = any(each.ok for each in answers)
    text = "; ".join(f"{each.controller}: {each.detail}" for each in answers)
    return Finding("controller", "healthy", healthy, escaped(text), {"healthy": sum(each.ok for each in answers)})


def _instances(
    client: ControllerClient, subject: ModelFilter, wanted: Condition, youngest: timedelta | None = None
) -> Finding:
    answer = client.list(subject.model_name)
    now = answer.date or datetime.now(UTC)
    ours = [each for each in answer.instances if subject.matches(each.model_name)]
    counts = count(ours)
    fresh = count(each for each in ours if youngest is None or _is_fresh(each, now, youngest))
    condition = str(wanted) if youngest is None else f"{wanted} within {youngest.total_seconds():g}s"
    name = escaped(subject.model_name or subject.name or "")
    return Finding(name, condition, wanted.holds(fresh), told(counts), dict(counts))


def _is_fresh(instance: ReportedInstance, now: datetime, youngest: timedelta) -> bool:
    return instance.last_heartbeat is not None and now - instance.last_heartbeat <= youngest


def _print(found: Finding, output: GateFormat) -> None:
    if output is GateFormat.JSON:
        print_json({"name": found.name, "condition": found.condition, "met": found.met, "counts": found.counts})
    else:
        print_lines([f"{found.name}: {found.text}"])
