"""`ctl apply`."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.commands.models.drain import warn_of_memory
from dbgpt_ctl.cli.completion.candidates import files
from dbgpt_ctl.cli.diagnosis.caveats import refuse_stale
from dbgpt_ctl.cli.framework.disruption import Confirmation, Yes
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import AllowStale, output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.manifest.notes import notes, will_expire
from dbgpt_ctl.cli.manifest.plan import Action, make_plan
from dbgpt_ctl.cli.output.results import NOT_TRIED, Outcome, attempt_all, conclude, not_tried
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.domain.instance import DrainRequest, Registration
from dbgpt_ctl.errors import ConditionNotMet, CtlError, NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from dbgpt_ctl.cli.manifest.plan import Step
    from dbgpt_ctl.client.results import Drained, Inventory
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.instance import InstanceKey

REASON = "apply"
"""Of a drain to which the file gives no reason."""
SHORTEST_DRAIN = timedelta(seconds=1)
_RESULTS = {
    Action.CREATE: "created",
    Action.CHANGE: "changed",
    Action.KEEP: "unchanged",
    Action.PRUNE: "pruned",
}

FileNames = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        autocompletion=files,
        help="YAML or JSON file, or a folder of them; - reads standard input. Repeat it for several.",
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Also remove instances of the declared models that no file declares.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done and change nothing.")]
Output = Annotated[OutputFormat, output_option("text", "json", help="Format of the results.")]


@explained(
    "ctl apply -f instances.yaml --dry-run",
    "ctl apply -f models.yaml -f embeddings.yaml",
    "ctl apply -f cluster/ --prune --yes",
    exit_codes={
        1: "--prune asked, and the answer was not yes.",
        3: "No controller can be reached, or only the last known list.",
        5: "Something in the files could not be applied.",
    },
)
@takes_session
def apply(
    file_names: FileNames = None,
    *,
    prune: Prune = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    allow_stale: AllowStale = False,
    output: Output = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Make the registered instances match files.

    A file contains `instances:`, a list of entries with model, host and port, and optionally weight, enabled, drain,
    prompt_template and check_healthy. An absent instance is registered, which counts as one heartbeat. enabled: false
    drains; so does drain: with a mapping of reason and until, each optional. Apply never makes an unhealthy or
    deregistered instance healthy. A second run changes nothing. A folder stands for its *.yaml, *.yml and *.json files,
    in the order of their names, without those of its subfolders.
    """
    from dbgpt_ctl.cli.manifest.declarations import read_files  # imports yaml

    confirmation = Confirmation.needed("prune", yes=yes or not prune, dry_run=dry_run)
    declarations = read_files(file_names or [], prune=prune)
    with session.client() as client:
        inventory = client.inventory()
        refuse_stale(session, inventory, "nothing was changed", allow_stale=allow_stale)
        now = inventory.time or session.clock.now()
        steps = make_plan(declarations, inventory.instances, prune=prune, now=now)
        print_notes(session, client, steps, inventory)
        applier = Applier(client, steps, session, now, can_drain=inventory.complete, dry_run=dry_run)
        declared = [step.key for step in steps if step.action is not Action.PRUNE]
        pruned = [step.key for step in steps if step.action is Action.PRUNE]
        confirmation.confirm(pruned)
        outcomes = attempt_all(declared, applier, output)
        failed = any(outcome.error or outcome.result == NOT_TRIED for outcome in outcomes)
        outcomes += not_tried(pruned) if failed else attempt_all(pruned, applier, output)
        return conclude(outcomes, output)


def print_notes(session: Session, client: ControllerClient, steps: Sequence[Step], inventory: Inventory) -> None:
    """Prints what a person should know before the steps are carried out, with the controller's heartbeat timeout."""
    timeout = None
    if inventory.complete and not session.quiet and any(map(will_expire, steps)):
        with suppress(CtlError):  # it is only for a message
            timeout = client.status().heartbeat_timeout_secs
    lines = notes(steps, inventory.instances, complete=inventory.complete, heartbeat_timeout_secs=timeout)
    for line in lines:
        session.say(line)


class Applier:
    """Carries out the step of an instance. A step that failed in the middle is completed by the next apply."""

    def __init__(
        self,
        client: ControllerClient,
        steps: Sequence[Step],
        session: Session,
        now: datetime,
        *,
        can_drain: bool,
        dry_run: bool,
    ) -> None:
        """`now` is the registry's time."""
        self._client = client
        self._steps = {step.key: step for step in steps}
        self._session = session
        self._ahead = now - session.clock.now()
        self._can_drain = can_drain
        self._dry_run = dry_run
        self._drains_at_register = True

    def __call__(self, key: InstanceKey) -> Outcome:
        """Raises CtlError."""
        step = self._steps[key]
        if (step.drain or step.undrains) and not self._can_drain:
            raise NotSupported(
                "this controller cannot drain: it is DB-GPT's own, or an older ctl; leave out enabled and drain"
            )
        if not self._dry_run:
            self._carry_out(step)
        return self._result(step)

    def _carry_out(self, step: Step) -> None:
        """An undrain comes last, so that no request reaches the instance before it is as declared."""
        if step.action is Action.PRUNE:
            self._client.deregister(step.key, remove=True)
            return
        drained = self._register_and_drain(step, self._wanted_drain(step))
        if drained is not None:
            warn_of_memory(self._session, drained)
        if step.undrains:
            self._client.undrain(step.key)

    def _register_and_drain(self, step: Step, drain: DrainRequest | None) -> Drained | None:
        """Does what the step needs of both, if possible in one call: then no request reaches the instance in between,
        also when the connection breaks.
        """
        if step.registers:
            sent = Registration(step.key, **step.facts)
            if drain is None or not self._drains_at_register:
                self._client.register(sent)
            else:
                try:
                    return self._client.register(sent, drain=drain)
                except NotSupported:  # an older ctl, which has stored nothing
                    self._drains_at_register = False
                    self._client.register(sent)
        return None if drain is None else self._client.drain(step.key, reason=drain.reason, duration=drain.duration)

    def _wanted_drain(self, step: Step) -> DrainRequest | None:
        if step.drain is None:
            return None
        is_new = any(diff.field == "enabled" for diff in step.differences)
        reason = step.drain.reason or (REASON if is_new else None)
        if step.drain.until is None:
            return DrainRequest(reason)
        left = step.drain.until - self._session.clock.now() - self._ahead
        return DrainRequest(reason, max(left, SHORTEST_DRAIN))

    def _result(self, step: Step) -> Outcome:
        result = _RESULTS[step.action]
        if self._dry_run and step.action is not Action.KEEP:
            result = f"would be {result}"
        facts: dict[str, Any] = {"changes": step.as_object()["changes"]}
        changes, reason = step.text(step.differences), step.blocked_reason
        error = ConditionNotMet(f"{step.text(step.blocked)}: {reason}") if reason else None
        return Outcome(step.key, result, error, f"{result}: {changes}" if changes else result, facts)
