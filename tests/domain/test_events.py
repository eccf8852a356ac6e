"""How causes of events read."""

from __future__ import annotations

from dbgpt_ctl.domain.events import WORKER, Actor, ActorKind


def test_an_actor_reads_as_its_kind_name_and_address() -> None:
    assert str(Actor(ActorKind.OPERATOR, "192.0.2.7")) == "operator 192.0.2.7"
    assert str(Actor(ActorKind.OPERATOR, "192.0.2.7", "anna")) == "operator anna (192.0.2.7)"
    assert str(Actor(ActorKind.WORKER, name="gpu")) == "worker gpu"
    assert str(WORKER) == "worker"


def test_the_caller_is_what_is_known_of_name_and_address() -> None:
    assert Actor(ActorKind.OPERATOR, "192.0.2.7", "anna").caller == "anna (192.0.2.7)"
    assert Actor(ActorKind.OPERATOR, "192.0.2.7").caller == "192.0.2.7"
    assert Actor(ActorKind.OPERATOR, name="anna").caller == "anna"
    assert WORKER.caller is None
