"""`ctl models drain`, and what it shares with `undrain`: the dry run, and the wait for every controller."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.commands.models.selection import Selection, takes_selection
from dbgpt_ctl.cli.framework.disruption import Confirmation, Force, Yes, refuse_disruption, refused_references
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import DryRun, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import Action, Outcome, run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.suggestions import Suggestions
from dbgpt_ctl.domain.fields import MAX_DRAIN_DAYS, parse_reason
from dbgpt_ctl.domain.instance import SERVICE, InstanceState
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import (
    ConditionNotMet,
    ControllerFailed,
    ControllerUnreachable,
    InvalidInstance,
    NotFound,
    UsageError,
)
from dbgpt_ctl.settings.addresses import parse_address
from dbgpt_ctl.text.escaping import unescaped
from dbgpt_ctl.text.times import parse_duration, until_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from dbgpt_ctl.client.results import Drained, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey

PAUSE_SECS = 0.25
_WHY_NOT_SERVICE = (
    "DB-GPT finds a worker's control port through it: without it `dbgpt model stop` and `start` fail there"
)

For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="End the drain after this time, as in 30m, 2h or 7d; at most 366d."),
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Reason, shown in lists and events.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until no controller of --address offers the instances to API servers.")
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="TIME", help="Longest wait for each instance, as in 2m; goes with --wait.")
]


@explained(
    "ctl models drain qwen2.5@llm/10.0.0.4:8001 --reason 'new driver'",
    "ctl models drain qwen2.5@llm/10.0.0.4:8001 --for 2h",
    "ctl models drain --host 10.0.0.4 --wait --yes",
    "ctl models drain --model 'qwen*@llm' --state unhealthy --dry-run",
    exit_codes={
        1: "The answer to the question is not yes; nothing was changed.",
        2: "Wrong usage, or a model would lose too many instances; nothing was changed.",
        4: "The only failures are instances that are not known; a selector matches nothing.",
        5: "A reference was refused, because its model would have no routable instance; --wait reached its --timeout.",
    },
)
@takes_session
@takes_selection()
def drain(
    *,
    duration: For = None,
    reason: Reason = None,
    wait: Wait = False,
    timeout: Timeout = "30s",
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: ResultOutput = OutputFormat.TEXT,
    selection: Selection,
    session: Session,
) -> int:
    """Stop new requests to instances.

    API servers ask the controller before each request, so new requests go to other instances at once. Requests in
    progress go on: no controller sees them, and --wait does not wait for their end. Heartbeats and registers of the
    workers do not end a drain; `ctl models undrain` does, or the time of --for. Draining again replaces the time, and
    without --for takes it away.

    With a selector it asks first. A drain is refused if a model had a routable instance and would have none, or if a
    selector would take more than half of them. With a selector nothing is drained then. With references, also from
    standard input, only those of that model are refused, and the others are drained. A reference of type service is
    refused before any change, because DB-GPT cannot stop or start models on its host without that instance. --force
    drains all the same.
    """
    text = _parse_reason(reason)
    time_left = None if duration is None else timedelta(seconds=_parse_for(duration))
    propagation = Propagation(session, parse_duration("--timeout", timeout)) if wait else None
    confirmation = Confirmation.needed("drain", yes=yes or not selection.by_selector, dry_run=dry_run)
    with session.client() as client:
        selected = selection.resolve(client, session, changes=True, lists=True, complete=True)
        keys, known = selected.keys, selected.known()
        refused: Mapping[InstanceKey, str] = {}
        if not force and selection.by_selector:
            refuse_disruption(keys, known.values(), "drained", by_selector=True)
        elif not force:
            _refuse_services(keys)
            refused = refused_references(keys, known.values(), "drained")
        confirmation.confirm(keys)
        if dry_run:
            action = rehearsal_of(client, known, "would be drained")
        else:
            before = {key: instance.drain for key, instance in known.items()}
            call = partial(client.drain, reason=text, duration=time_left)
            action = action_of(client, call, "drained", session, propagation, before=before)
        return run_for_each(keys, _unless_refused(action, refused), output)


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


def _refuse_services(keys: Sequence[InstanceKey]) -> None:
    """Raises UsageError if one is of type service."""
    for key in keys:
        if key.type == SERVICE:
            raise UsageError(f"{reference_of(key)} is of type {SERVICE}: {_WHY_NOT_SERVICE}; --force drains it too")


def _unless_refused(action: Action, refused: Mapping[InstanceKey, str]) -> Action:
    """The action, and for a refused instance ConditionNotMet: code 2 would say that nothing at all was changed."""

    def refuse_or_act(key: InstanceKey) -> str | Outcome:
        if key in refused:
            raise ConditionNotMet(refused[key])
        return action(key)

    return refuse_or_act


def rehearsal_of(client: ControllerClient, known: Mapping[InstanceKey, KnownInstance], result: str) -> Action:
    """The action of a dry run: the outcome for an instance of the list, as it is now."""
    suggestions = Suggestions(client)

    def action(key: InstanceKey) -> Outcome:
        if key not in known:
            raise NotFound(f"not registered{suggestions.for_instance(key)}")
        now = known[key]
        return Outcome(key, result, facts={"state": now.state.value, "drain": now.object.get("drain")})

    return action


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
    suggestions = Suggestions(client)

    def action(key: InstanceKey) -> Outcome:
        try:
            drained = call(key)
        except NotFound:
            raise NotFound(f"not registered{suggestions.for_instance(key)}") from None
        if result == "drained":
            warn_of_memory(session, drained)
        now = drained.instance
        facts = {"state": now.state.value, "drain": now.object.get("drain"), "durable": drained.durable}
        outcome = Outcome(key, result, line=_line(before.get(key), now), facts=facts)
        return outcome if propagation is None else propagation.completed(outcome)

    return action


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
