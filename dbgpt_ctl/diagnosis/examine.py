"""The rules of a diagnosis, the likeliest cause first: what to check when DB-GPT reports no worker instances.

The rules of the scope OVERVIEW make the warnings of `ctl status` and of the console. There instances are counted by the
statuses, and only those of EXAMINED_STATES are looked at one by one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.diagnosis import access, addresses, answers, configuration, instances, models, pings, registries, silence
from dbgpt_ctl.diagnosis.facts import Facts, Finding, ObservedInstance, Rule, Scope, diagnose
from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
from dbgpt_ctl.domain.instance import DRAINED, InstanceState
from dbgpt_ctl.domain.texts import AS_LAST_KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.diagnosis.facts import ControllerFacts
    from dbgpt_ctl.wire.status import ModelCounts, Status


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


EXAMINED_STATES = (DRAINED, InstanceState.DEREGISTERED)
"""Values of `state` for which a controller lists the instances that these rules examine."""
EXAMINED = InstanceFilter(states=frozenset(EXAMINED_STATES))
"""The same as a filter."""


_OF_INSTANCES = {rule.code: rule.of_instance for rule in RULES if rule.of_instance and Scope.OVERVIEW in rule.scope}


class Sample(NamedTuple):
    """The instances of a controller to which rules apply, not more than a reader would look at.

    `left_out`: by code, to how many more the rule applies.
    """

    instances: tuple[KnownInstance, ...] = ()
    left_out: Mapping[str, int] = {}


def sample(controller: ControllerFacts, examined: Iterable[KnownInstance], most: int) -> Sample:
    """A sample that has at least `most` instances for each rule, if there are so many.

    It holds few objects however many there are. Python's garbage collector would examine very many of them in one go,
    and a controller stands still meanwhile.
    """
    kept: list[KnownInstance] = []
    found: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for known in examined:
        observed = ObservedInstance.of(known, controller)
        codes = [code for code, of_instance in _OF_INSTANCES.items() if of_instance(observed)]
        if any(found[code] < most for code in codes):
            kept.append(known)
            found.update(codes)
        else:
            left_out.update(codes)
    return Sample(tuple(kept), left_out)


def overview(
    controllers: Sequence[ControllerFacts], counted: Status, left_out: Mapping[str, int] | None = None
) -> list[Finding]:
    """What these rules find. The counts of `counted` are those of the cluster. One of the controllers has the instances
    of EXAMINED_STATES, as far as they are known, or a sample of them: then `left_out` is that of the sample.
    """
    facts = Facts(ModelFilter(), tuple(controllers), counts=_counts(counted), left_out=left_out or {})
    return diagnose(RULES, facts, Scope.OVERVIEW)


def _counts(status: Status) -> dict[str, ModelCounts]:
    """Without the models whose instances are all deregistered: an operator wanted that."""
    return {name: counts for name, counts in status.counts.items() if counts.healthy or counts.unhealthy}
