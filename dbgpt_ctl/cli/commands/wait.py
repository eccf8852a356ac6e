"""`ctl wait`, and the conditions that it shares with `ctl assert`."""

from __future__ import annotations

import operator
import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import ReportOutput, model_argument
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import escaped, quoted
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines, say
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.instance_filter import ModelFilter
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import ConditionNotMet, ControllerFailed, ControllerUnreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta

    from dbgpt_ctl.client.responses import KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.clock import Clock

ABSENT = "absent"
STATES = ("healthy", "unhealthy", "drained")
"""`healthy` means routable here. `drained` overlaps `unhealthy`."""
_CONDITION = re.compile(r"\s*([a-z]+)\s*(?:(>=|<=|==|=|>|<)\s*([0-9]{1,9}))?\s*")
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "==": operator.eq,
}

Name = Annotated[str | None, model_argument()]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="CONDITION",
        help="Condition on healthy, unhealthy or drained instances, as in 'healthy>=2'; 'absent': none is registered.  "
        "[default: healthy>=1]",
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
        3: "No controller can be reached when the time is over.",
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
    output: ReportOutput = OutputFormat.TEXT,
    session: Session,
) -> None:
    """Wait for instances in a state, or for a healthy controller.

    An outage does not end it.
    """
    if controller == (name is not None):
        raise UsageError("give either NAME or --controller")
    if controller and condition is not None:
        raise UsageError("--for is about instances of NAME: leave it out with --controller")
    timeout_secs, interval = parse_duration("--timeout", timeout), parse_duration("--every", every)
    wanted, models = Condition.parse("--for", condition or "healthy>=1"), ModelFilter.parse(name)
    with session.client() as client:
        check = (
            partial(check_controllers, client)
            if controller
            else partial(check_instances, client, models, wanted, session.clock)
        )
        last = poll(check, timeout_secs, interval, quiet=session.quiet, monotonic=time.monotonic, sleep=time.sleep)
    if last.met or output is OutputFormat.JSON:
        print_check(last, output)
    if not last.met:
        raise ConditionNotMet(f"{last.name} is not {last.condition} after {timeout_secs:g}s: {last.text}")


@dataclass(frozen=True, slots=True)
class Condition:
    """`healthy>=2`. A state alone means at least one instance; `absent` means no instance in any state."""

    state: str
    sign: str
    number: int

    @classmethod
    def parse(cls, option: str, text: str) -> Condition:
        """Raises UsageError, which names the option and the value."""
        match = _CONDITION.fullmatch(text.lower())
        if match and match[1] == ABSENT and match[2] is None:
            return cls(ABSENT, "=", 0)
        if match and match[1] in STATES:
            return cls(match[1], match[2] or ">=", int(match[3] or 1))
        states = ", ".join(STATES)
        raise UsageError(f"{option} {quoted(text)} is not a condition such as 'healthy>=2' (of {states}) or absent")

    def holds(self, counts: Counter[str]) -> bool:
        """Whether these numbers of instances per state meet the condition."""
        number = counts["total"] if self.state == ABSENT else counts[self.state]
        return _OPERATORS[self.sign](number, self.number)

    def __str__(self) -> str:
        return ABSENT if self.state == ABSENT else f"{self.state}{self.sign}{self.number}"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check of a condition. `text` is for people, `counts` for scripts."""

    name: str
    condition: str
    met: bool
    text: str
    counts: dict[str, int]


def poll(
    check: Callable[[], Check],
    timeout: float,
    interval: float,
    *,
    quiet: bool,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> Check:
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
            if not outage_printed and not quiet:
                say(f"{error}; still waiting")
            outage_printed = True
        else:
            if result.met or left <= 0:
                return result
        sleep(max(0.0, min(interval, left)))


def check_controllers(client: ControllerClient) -> Check:
    """Whether any controller is healthy."""
    controllers = client.health()
    healthy = sum(controller.ok for controller in controllers)
    text = "; ".join(f"{controller.controller}: {controller.detail}" for controller in controllers)
    return Check("controller", "healthy", healthy > 0, escaped(text), {"healthy": healthy})


def check_instances(
    client: ControllerClient, models: ModelFilter, wanted: Condition, clock: Clock, max_age: timedelta | None = None
) -> Check:
    """Whether the instances of a model meet the condition. With `max_age`, older heartbeats do not count."""
    answer = client.list(models.model_name)
    now = answer.time or clock.now()
    instances = [instance for instance in answer.instances if models.matches(instance.model_name)]
    counts = _count_states(instances)
    recent = _count_states(instance for instance in instances if max_age is None or _is_recent(instance, now, max_age))
    condition = str(wanted) if max_age is None else f"{wanted} within {max_age.total_seconds():g}s"
    text = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none"
    return Check(models.label, condition, wanted.holds(recent), text, dict(counts))


def _count_states(instances: Iterable[KnownInstance]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for instance in instances:
        counts["healthy"] += instance.routable
        counts["unhealthy"] += instance.state is InstanceState.UNHEALTHY
        counts["drained"] += instance.drain is not None
        counts["total"] += 1
    return counts


def _is_recent(instance: KnownInstance, now: datetime, max_age: timedelta) -> bool:
    return instance.last_heartbeat is not None and now - instance.last_heartbeat <= max_age


def print_check(check: Check, output: OutputFormat) -> None:
    """Prints a line, or an object with -o json."""
    if output is OutputFormat.JSON:
        print_json({"name": check.name, "condition": check.condition, "met": check.met, "counts": check.counts})
    else:
        print_lines([f"{check.name}: {check.text}"])
