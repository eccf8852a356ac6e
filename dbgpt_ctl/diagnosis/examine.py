"""The rules of a diagnosis, the likeliest cause first: what to check when DB-GPT reports no worker instances."""

from __future__ import annotations

from dataclasses import replace

from dbgpt_ctl.diagnosis import access, addresses, answers, configuration, instances, models, pings, registries, silence
from dbgpt_ctl.diagnosis.facts import Facts, Finding, Rule, Scope, diagnose
from dbgpt_ctl.domain.texts import AS_LAST_KNOWN

RULES: tuple[Rule[Facts], ...] = tuple(
    value
    for module in (answers, registries, models, pings, silence, addresses, instances, access, configuration)
    for value in vars(module).values()
    if isinstance(value, Rule)
)
"""All rules, in the order of these modules and in the order in which they stand there."""


def examine(facts: Facts, scope: Scope) -> list[Finding]:
    """What the rules of a scope find. A finding about instances says so where it rests on a stale list."""
    stale_keys = {instance.key for instance in facts.instances if instance.controller.stale_since}
    return [
        finding if stale_keys.isdisjoint(finding.keys) else replace(finding, summary=finding.summary + AS_LAST_KNOWN)
        for finding in diagnose(RULES, facts, scope)
    ]
