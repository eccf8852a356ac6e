"""What apply says before it changes anything."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dbgpt_ctl.cli.manifest.declarations import Declaration
from dbgpt_ctl.cli.manifest.notes import notes
from dbgpt_ctl.cli.manifest.plan import make_plan
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from tests.support.clock import START

FIRST, SECOND = InstanceKey("qwen@llm", "h", 1), InstanceKey("qwen@llm", "h", 2)
OTHER, MANAGER = InstanceKey("bge@text2vec", "h", 3), InstanceKey("WorkerManager@service", "h", 1)
DRAINED: dict[str, Any] = {"enabled": False, "drain": DrainFacts()}
UNSERVED = "after this: the last instances that API servers find are drained or removed"
BEAT = "a register counts as one heartbeat"


def there(key: InstanceKey = FIRST, **facts: Any) -> KnownInstance:
    return KnownInstance(*key, **facts)


def said(
    wanted: dict[InstanceKey, dict[str, Any]], *registered: KnownInstance, complete: bool = True, **more: Any
) -> list[str]:
    declarations = [Declaration(key, fields) for key, fields in wanted.items()]
    steps = make_plan(declarations, registered, prune=more.pop("prune", False), now=START)
    return list(notes(steps, registered, complete=complete, **more))


def test_what_no_worker_beats_for_will_expire() -> None:
    shows = "ctl models list --state unhealthy shows"
    assert said({FIRST: {}}, heartbeat_timeout_secs=60.0) == [
        (
            f"warning: qwen@llm/h:1 is new: {BEAT}, so it is healthy for 60s, and unhealthy after that unless its "
            f"worker sends heartbeats; {shows} it then"
        )
    ]
    assert said({SECOND: {}, FIRST: {}}) == [
        (
            f"warning: 2 instances are new, qwen@llm/h:2 is the first: {BEAT}, so they are healthy for the heartbeat "
            f"timeout, and unhealthy after that unless their workers send heartbeats; {shows} them then"
        )
    ]


def test_an_unchecked_instance_does_not_expire() -> None:
    assert said({FIRST: {"check_healthy": False}, SECOND: {}}, there(SECOND)) == []


def test_a_drain_that_is_over_is_said() -> None:
    (line,) = said({FIRST: {"enabled": False, "drain_until": START - timedelta(1)}}, there())
    assert "the end of its drain in the file has passed" in line


def test_what_a_controller_does_not_tell_apart_is_said() -> None:
    gone = there(state=InstanceState.UNHEALTHY)
    assert said({FIRST: {}}, gone)[0].startswith("qwen@llm/h:1: unhealthy; apply")
    assert said({FIRST: {}}, gone, complete=False)[0].startswith("qwen@llm/h:1: unhealthy or deregistered")


def test_a_model_that_loses_its_last_routable_instance_is_named() -> None:
    line = f"warning: qwen@llm gets no requests {UNSERVED}"
    assert said({FIRST: {"enabled": False}}, there()) == [line]
    assert said({FIRST: {"enabled": False}}, there(), there(SECOND, **DRAINED)) == [line]
    assert line in said({FIRST: {}}, there(**DRAINED), there(SECOND), prune=True)
    assert said({FIRST: {"enabled": False}, OTHER: {"enabled": False}}, there(), there(OTHER)) == [
        f"warning: bge@text2vec and 1 more get no requests {UNSERVED}"
    ]


@pytest.mark.parametrize(
    ("wanted", "registered"),
    [
        ({FIRST: {"enabled": False}}, [there(), there(SECOND)]),
        ({FIRST: {"enabled": False}, SECOND: {"enabled": True}}, [there(), there(SECOND, **DRAINED)]),
        ({FIRST: {"enabled": False}, SECOND: {"check_healthy": False}}, [there()]),
        ({FIRST: {"drain_reason": "disk"}}, [there(**DRAINED)]),
        ({FIRST: {"enabled": False}}, [there(state=InstanceState.UNHEALTHY)]),
        ({MANAGER: {"enabled": False}}, [there(MANAGER)]),
    ],
)
def test_a_model_that_keeps_one_or_has_none_is_not(
    wanted: dict[InstanceKey, dict[str, Any]], registered: list[KnownInstance]
) -> None:
    assert not [line for line in said(wanted, *registered) if "no requests" in line]
