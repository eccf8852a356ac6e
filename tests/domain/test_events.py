"""How causes of events read."""

from __future__ import annotations

from dbgpt_ctl.domain.events import WORKER, Actor, ActorKind


def test_an_actor_reads_as_its_kind_and_address() -> None:
    assert str(Actor(ActorKind.OPERATOR, "192.0.2.7")) == "operator 192.0.2.7"
    assert str(WORKER) == "worker"
