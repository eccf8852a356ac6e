"""Instances and their numbers, as a controller reports them, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.texts import drained_text, state_label

if TYPE_CHECKING:
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.wire.status import ModelCounts


def state_text(instance: KnownInstance) -> str:
    """Its state, and whether it is drained or held."""
    return state_label(instance.state, drained=instance.drain is not None, held=instance.held)


def counted_text(counts: ModelCounts) -> str:
    """`3 healthy (1 drained), 2 unhealthy (2 drained); 1 held, 2 unchecked`: each state with its drained ones, and how
    many are healthy though nobody knows of their workers; empty for none.

    An instance counts in one state only, and so does its drain: the numbers in brackets add up to all drained ones.
    """
    drained = {
        InstanceState.HEALTHY: counts.healthy - counts.routable,
        InstanceState.UNHEALTHY: counts.unhealthy_drained,
        InstanceState.DEREGISTERED: counts.drained - counts.unhealthy_drained - counts.healthy + counts.routable,
    }
    states = ", ".join(
        f"{count} {state}{drained_text(drained[state])}" for state in InstanceState if (count := getattr(counts, state))
    )
    besides = ", ".join(f"{count} {name}" for name in ("held", "unchecked") if (count := getattr(counts, name)))
    return f"{states}; {besides}" if besides else states
