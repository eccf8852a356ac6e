"""What `ctl status` and the console of a controller warn of: the rules of the scope OVERVIEW, on statuses.

Instances are counted by the statuses. Only those of EXAMINED_STATES are looked at one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Facts, Scope, diagnose
from dbgpt_ctl.cli.diagnosis.rules import RULES
from dbgpt_ctl.cli.parsing.instance_filter import DRAINED, InstanceFilter, ModelFilter
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Finding
    from dbgpt_ctl.client.responses import ControllerStatus, ModelCounts

EXAMINED_STATES = (DRAINED, InstanceState.DEREGISTERED)
"""Values of `state` for which a controller lists the instances that these rules examine."""
EXAMINED = InstanceFilter(states=frozenset(EXAMINED_STATES))
"""The same as a filter."""


def overview(controllers: Sequence[ControllerFacts], counted: ControllerStatus) -> list[Finding]:
    """What these rules find. The counts of `counted` are those of the cluster. One of the controllers has the instances
    of EXAMINED_STATES, as far as they are known.
    """
    return diagnose(RULES, Facts(ModelFilter(), tuple(controllers), counts=_counts(counted)), Scope.OVERVIEW)


def _counts(status: ControllerStatus) -> dict[str, ModelCounts]:
    """Without the models whose instances are all deregistered: an operator wanted that."""
    return {name: counts for name, counts in (status.models or {}).items() if counts.healthy or counts.unhealthy}
