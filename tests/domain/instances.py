"""Instances in every state, for the tests of the rules."""

from __future__ import annotations

from datetime import timedelta

from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState, ModelInstance, Registration
from tests.support.clock import START

TIMEOUT = timedelta(seconds=60)
LATER = START + timedelta(seconds=10)
KEY = InstanceKey("qwen@llm", "10.0.0.4", 8001)
SENT = Registration(KEY)

HEALTHY = ModelInstance.first(SENT, START)
DISABLED = ModelInstance.first(Registration(KEY, enabled=False), START)
"""Its own first register had `enabled` false."""
DRAINED = HEALTHY.drained(START, by="192.0.2.7", reason="disk", until=None)
DRAINED_FOR_30_S = DRAINED._replace(drain=DrainFacts(START, "192.0.2.7", "disk", START + timedelta(seconds=30)))
EXPIRED = HEALTHY._replace(announced_state=InstanceState.UNHEALTHY, flaps=1)
DEREGISTERED = HEALTHY.deregistered(LATER, remove=False)._replace(announced_state=InstanceState.DEREGISTERED)
TOMBSTONE = HEALTHY.deregistered(LATER, remove=True)._replace(announced_state=InstanceState.DEREGISTERED)
