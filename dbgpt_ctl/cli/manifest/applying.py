"""Carries out the steps of a plan, one instance after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.commands.models.draining import Durability
from dbgpt_ctl.cli.manifest.plan import Kind
from dbgpt_ctl.cli.manifest.steps import as_difference, told, told_facts
from dbgpt_ctl.cli.output.results import Done
from dbgpt_ctl.domain.instance import Registration
from dbgpt_ctl.errors import ConditionNotMet, NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.cli.manifest.plan import Step
    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.domain.instance import InstanceKey

REASON = "apply"
_DONE = {Kind.CREATE: "created", Kind.CHANGE: "changed", Kind.KEEP: "unchanged", Kind.PRUNE: "pruned"}


class Applier:
    """Called with a key, does its step and tells what was done. Steps are repeatable: one that failed in the middle is
    finished by the next apply.
    """

    def __init__(
        self, client: ControllerClient, steps: Sequence[Step], session: Session, *, drains: bool, dry_run: bool
    ) -> None:
        self._client = client
        self._steps = {each.key: each for each in steps}
        self._remark = Durability(session)
        self._drains = drains
        self._dry_run = dry_run

    def __call__(self, key: InstanceKey) -> Done:
        """Raises CtlError."""
        step = self._steps[key]
        if step.switches is not None and not self._drains:
            raise NotSupported("this controller cannot drain: it is DB-GPT's own, or an older ctl; leave out enabled")
        if not self._dry_run:
            self._do(step)
        return self._done(step)

    def _do(self, step: Step) -> None:
        """A drain comes before a register and an undrain after it, so that no request slips in between."""
        if step.kind is Kind.PRUNE:
            self._client.deregister(step.key, remove=True)
            return
        if step.kind is Kind.CHANGE and step.switches is False:
            self._remark(self._client.drain(step.key, reason=REASON))
        if step.registers:
            self._client.register(Registration(step.key, **step.facts))
        if step.kind is Kind.CREATE and step.switches is False:
            self._remark(self._client.drain(step.key, reason=REASON))
        if step.switches is True:
            self._client.undrain(step.key)

    def _done(self, step: Step) -> Done:
        word = _DONE[step.kind]
        result = f"would be {word}" if self._dry_run and step.kind is not Kind.KEEP else word
        facts: dict[str, Any] = {"changes": as_difference(step)["changes"]}
        changes = told_facts(step) if step.kind is Kind.CREATE else told(step.differences)
        error = ConditionNotMet(f"{step.why_stuck} ({told(step.stuck)})") if step.why_stuck else None
        return Done(result, f"{result}: {changes}" if changes else result, facts, error)
