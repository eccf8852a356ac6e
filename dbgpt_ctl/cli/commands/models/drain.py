"""`ctl models drain`, and what it shares with `undrain`: the choice of instances, and the wait for every controller."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.addresses import parse_address
from dbgpt_ctl.cli.diagnosis.caveats import warn_of_caveats
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import ModelType, ResultOutput, references_argument
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import quoted, unescaped
from dbgpt_ctl.cli.output.instances import until_text
from dbgpt_ctl.cli.output.results import Action, Outcome, run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.instance_filter import DRAINED
from dbgpt_ctl.cli.parsing.references import parse_targets, reference_of
from dbgpt_ctl.cli.parsing.suggestions import Suggestions
from dbgpt_ctl.domain.fields import MAX_DRAIN_DAYS, parse_host, parse_reason
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import (
    ConditionNotMet,
    ControllerFailed,
    ControllerUnreachable,
    CtlError,
    InvalidInstance,
    NotFound,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from dbgpt_ctl.client.responses import Drained, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey

SERVICE = "service"
PAUSE_SECS = 0.25
_WHY_NOT_SERVICE = (
    "DB-GPT finds a worker's control port through it: without it `dbgpt model stop` and `start` fail there"
)

References = Annotated[list[str] | None, references_argument("--host")]
Host = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="All instances on this host, except those of type service.")
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="End the drain after this time, as in 30m, 2h or 7d; at most 366d."),
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Reason, shown in lists and events.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Also drain instances of type service: DB-GPT cannot stop or start models there then."
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until no controller of --address offers the instances to API servers.")
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="TIME", help="Longest wait for each instance, as in 2m; goes with --wait.")
]


@explained(
    "ctl models drain qwen2.5@llm/10.0.0.4:8001 --reason 'new driver'",
    "ctl models drain qwen2.5@llm/10.0.0.4:8001 --for 2h",
    "ctl models drain --host 10.0.0.4 --wait",
    exit_codes={
        4: "The only failures are instances that are not known.",
        5: "--wait reached its --timeout.",
    },
)
@takes_session
def drain(
    references: References = None,
    *,
    model_type: ModelType = None,
    host: Host = None,
    duration: For = None,
    reason: Reason = None,
    wait: Wait = False,
    timeout: Timeout = "30s",
    force: Force = False,
    output: ResultOutput = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Stop new requests to instances.

    API servers ask the controller before each request, so new requests go to other instances at once. Requests in
    progress go on: no controller sees them, and --wait does not wait for their end. Heartbeats and registers of the
    workers do not end a drain; `ctl models undrain` does, or the time of --for. Draining again replaces the time, and
    without --for takes it away.
    """
    text = _parse_reason(reason)
    time_left = None if duration is None else timedelta(seconds=_parse_for(duration))
    propagation = Propagation(session, parse_duration("--timeout", timeout)) if wait else None
    with session.client() as client:
        keys = select_instances(client, session, references or [], model_type, host, force=force, verb="drain")
        before = _drains_before(client, keys) if output is OutputFormat.TEXT else {}
        call = partial(client.drain, reason=text, duration=time_left)
        return run_for_each(keys, action_of(client, call, "drained", session, propagation, before=before), output)


def _parse_for(text: str) -> float:
    """By the controller's limits, before anything is sent. Raises UsageError."""
    return parse_duration("--for", text, shortest_secs=1, longest_days=MAX_DRAIN_DAYS)


def _parse_reason(text: str | None) -> str | None:
    """By the controller's rule, before anything is sent. Raises UsageError."""
    try:
        reason = None if text is None else parse_reason(unescaped(text))
    except InvalidInstance as error:
        raise UsageError(f"--reason: {error}") from None
    if text is not None and reason is None:
        raise UsageError("--reason is empty: give a reason, or leave the option out")
    return reason


def select_instances(
    client: ControllerClient,
    session: Session,
    references: Sequence[str],
    model_type: str | None,
    host: str | None,
    *,
    force: bool,
    verb: str,
) -> list[InstanceKey]:
    """The instances that references name, or all of a host except those of type service (with `force` these too).

    Raises UsageError before anything is sent, NotFound when nothing is registered with that host.
    """
    if bool(references) == (host is not None):
        raise UsageError(f"give either references NAME[@TYPE]/HOST:PORT or --host HOST to {verb}")
    if host is not None:
        if model_type is not None:
            raise UsageError("--type is for a reference without a type: leave it out with --host")
        return _instances_on(client, session, parse_host(unescaped(host)), force=force)
    keys = parse_targets(references, model_type, None, None, creates=False)
    services = [key for key in keys if key.type == SERVICE]
    if services and not force and verb == "drain":
        raise UsageError(f"{reference_of(services[0])} is of type {SERVICE}: {_WHY_NOT_SERVICE}; --force drains it too")
    return list(dict.fromkeys(keys))


def _instances_on(client: ControllerClient, session: Session, host: str, *, force: bool) -> list[InstanceKey]:
    answer = client.instances(host=host)
    warn_of_caveats(session, answer)
    all_keys = [instance.key for instance in answer.instances if instance.host == host]
    keys = [key for key in all_keys if force or key.type != SERVICE]
    if not all_keys:
        raise NotFound(f"nothing is registered with host {quoted(host)}; ctl models list shows what is")
    if len(keys) < len(all_keys):
        skipped = ", ".join(reference_of(key) for key in all_keys if key not in keys)
        session.say(f"skipped: {skipped}: {_WHY_NOT_SERVICE}")
    if not keys:
        raise NotFound(f"only type {SERVICE} is registered with host {quoted(host)}")
    return keys


def action_of(
    client: ControllerClient,
    call: Callable[[InstanceKey], Drained],
    result: str,
    session: Session,
    propagation: Propagation | None,
    *,
    before: Mapping[InstanceKey, DrainFacts | None] = MappingProxyType({}),
) -> Action:
    """Drains or undrains an instance and waits for `propagation`. `before`: the drains that it replaces.

    The error for an unknown instance suggests one that is registered.
    """

    def action(key: InstanceKey) -> Outcome:
        try:
            drained = call(key)
        except NotFound:
            raise NotFound(f"not registered{Suggestions(client).for_instance(key)}") from None
        if result == "drained":
            warn_of_memory(session, drained)
        now = drained.instance
        facts = {"state": now.state.value, "drain": now.object.get("drain"), "durable": drained.durable}
        outcome = Outcome(key, result, line=_line(before.get(key), now), facts=facts)
        return outcome if propagation is None else propagation.completed(outcome)

    return action


def _drains_before(client: ControllerClient, keys: Sequence[InstanceKey]) -> dict[InstanceKey, DrainFacts | None]:
    """The drains of these instances by one request; empty also where the drains will fail, with a better message."""
    with suppress(CtlError):
        found = [client.get(keys[0])] if len(keys) == 1 else client.instances(state=DRAINED).instances
        return {instance.key: instance.drain for instance in found}
    return {}


def _line(before: DrainFacts | None, now: KnownInstance) -> str | None:
    """`drained until 2026-01-31T12:00:00Z, in 2h`, with the end of the drain before if it was another; else None."""
    ends = [drain.until for drain in (before, now.drain) if drain is not None]
    if now.drain is None or now.time is None or not any(ends):
        return None
    changed = f"; before: {_end(before, now.time)}" if before is not None and before.until != now.drain.until else ""
    return f"drained {_end(now.drain, now.time)}{changed}"


def _end(drain: DrainFacts, now: datetime) -> str:
    return "until undrain" if drain.until is None else f"until {until_text(drain.until, now)}"


def warn_of_memory(session: Session, drained: Drained) -> None:
    """Warns once when drains end with the controller."""
    if not drained.durable:
        session.say_once("the registry is in the controller's memory: the drain ends with its process")


@dataclass(frozen=True, slots=True)
class Propagation:
    """Waits until every controller follows a drain or undrain.

    A controller that does not answer counts as following: it offers nothing, and reads the registry when it returns.
    """

    session: Session
    timeout: float
    """Seconds for each instance."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def completed(self, outcome: Outcome) -> Outcome:
        """Waits until each controller offers an undrained instance to API servers, or none a drained one.

        A timeout is an error in the result, and so is an undrained instance that gets no requests for another reason.
        """
        key, state, undrained = outcome.key, outcome.facts["state"], outcome.result == "undrained"
        if undrained and state != InstanceState.HEALTHY:
            late: str | None = f"it gets no requests: it is {state}"
        else:
            late = self._wait(lambda client: _is_routable(client, key) == undrained)
        return outcome if late is None else replace(outcome, error=ConditionNotMet(f"{outcome.result}, but {late}"))

    def _wait(self, follows: Callable[[ControllerClient], bool]) -> str | None:
        """None, or the controller that does not follow within the timeout."""
        deadline = self.monotonic() + self.timeout
        for address in filter(None, map(str.strip, self.session.settings.address.split(","))):
            with self.session.client(address) as client:
                while not self._follows(client, follows):
                    left = deadline - self.monotonic()
                    if left <= 0:
                        return f"{parse_address(address)} did not follow within {self.timeout:g}s"
                    self.sleep(min(PAUSE_SECS, left))
        return None

    def _follows(self, client: ControllerClient, follows: Callable[[ControllerClient], bool]) -> bool:
        try:
            return follows(client)
        except (ControllerUnreachable, ControllerFailed) as error:
            self.session.say(f"not waiting for it: {error}")
            return True


def _is_routable(client: ControllerClient, key: InstanceKey) -> bool:
    return any(instance.key == key for instance in client.list(key.model_name, healthy_only=True).instances)
