"""Any sequence of calls leaves a registry where the plain model is, and gets the same answers."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from dbgpt_ctl.domain.events import OPERATOR
from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey, Registration
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.model_counts import CountsByModel
from tests.registry.backends import DATABASES, TIMEOUT, Backend
from tests.registry.plain_model import FULL, Act, ModelDrain, ModelEvent, PlainModel
from tests.support.database_server import SERVERS

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from dbgpt_ctl.domain.events import Change, EventPage
    from dbgpt_ctl.domain.instance import ListedInstance
    from dbgpt_ctl.registry.contract import Listing, ModelRegistry

pytestmark = pytest.mark.slow

MICROSECOND = timedelta(microseconds=1).total_seconds()
STEPS = [0.0, 1.0, TIMEOUT.total_seconds() / 2, TIMEOUT.total_seconds(), MICROSECOND]
STEPS_BACK = [-1.0, -5.0, -5.0 - MICROSECOND, -100.0]
FEW, MANY = 3, 100

KEYS = [
    InstanceKey("a@llm", "h", 1),
    InstanceKey("a@llm", "h", 2),
    InstanceKey("A@llm", "h", 1),
    InstanceKey("ä@llm", "h", 1),
    InstanceKey("ß@text2vec", "H", 1),
]
SENT = st.builds(
    Registration,
    key=st.sampled_from(KEYS),
    weight=st.sampled_from([1.0, 0.1]),
    check_healthy=st.sampled_from([True, True, False]),
    enabled=st.sampled_from([True, True, False]),
    prompt_template=st.sampled_from([None, "vicuna"]),
)
VERBS = ["register", "register drained", "heartbeat", "heartbeat", "deregister", "remove", "drain", "undrain"]
ACTS = st.builds(
    Act,
    st.sampled_from(VERBS),
    SENT,
    st.sampled_from([None, "disk", "upgrade"]),
    st.sampled_from([None, 1.0, *(steps for steps in STEPS if steps > 1)]),
)


@dataclass
class Arena:
    """Registries of one kind, opened once, emptied for each run."""

    backend: Backend
    runner: asyncio.Runner
    opened: dict[int, ModelRegistry]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    def empty(self, most: int) -> ModelRegistry:
        """A registry without instances."""
        self.backend.clock.advance(1000)  # so that an older count of rows is not trusted
        registry = self.opened.get(most)
        if not isinstance(registry, DatabaseModelRegistry):
            registry = self.opened[most] = self.run(self.backend.open(max_instances=most))
        if isinstance(registry, DatabaseModelRegistry):
            with registry._database.engine.begin() as connection:
                connection.execute(text("DELETE FROM ctl_instance"))
        return registry


class Comparison(RuleBasedStateMachine):
    """One registry beside the plain model."""

    arena: Arena
    registry: ModelRegistry
    model: PlainModel
    before: int
    """The last event that an earlier run left."""

    @initialize(most=st.sampled_from([FEW, FEW, MANY]))
    def begin(self, most: int) -> None:
        self.registry = self.arena.empty(most)
        self.model = PlainModel(TIMEOUT, most)
        self.before = self.arena.run(self.registry.events(limit=1)).last_id

    @rule(act=ACTS)
    def one(self, act: Act) -> None:
        self.compare([act])

    @rule(acts=st.lists(ACTS, min_size=2, max_size=8))
    def together(self, acts: list[Act]) -> None:
        self.compare(acts)

    @rule(seconds=st.sampled_from(STEPS))
    def time_passes(self, seconds: float) -> None:
        self.arena.backend.clock.advance(seconds)

    @rule(seconds=st.sampled_from(STEPS), unchecked=st.booleans())
    def prune(self, seconds: float, *, unchecked: bool) -> None:
        older_than, now = timedelta(seconds=seconds), self.arena.backend.clock.now()
        wanted = list(self.arena.run(self.registry.prune(older_than, dry_run=True, unchecked=unchecked)))
        removed = list(self.arena.run(self.registry.prune(older_than, unchecked=unchecked)))
        assert wanted == removed == self.model.prune(older_than, now, unchecked=unchecked)

    # The clock decides when a tombstone is forgotten, which is not defined while the clock goes back.
    @precondition(lambda self: self.model.most == MANY)
    @rule(seconds=st.sampled_from(STEPS_BACK))
    def time_goes_back(self, seconds: float) -> None:
        if self.model.ended_drains:  # a plain heartbeat does not announce the end of a drain, and the model's does
            self.arena.run(self.registry.announce())
            self.model.pass_time(self.arena.backend.clock.now())
        self.arena.backend.clock.advance(seconds)

    @rule()
    def events_agree(self) -> None:
        """Each of one instance in its order; of calls at the same time any instance may be first."""
        self.model.pass_time(self.arena.backend.clock.now())
        page = self.arena.run(self.all_events())
        assert [event.id for event in page.events] == list(range(self.before + 1, page.last_id + 1))
        assert in_order([model_event(event.change) for event in page.events]) == in_order(self.model.events)

    async def all_events(self) -> EventPage:
        await self.registry.announce()
        return await self.registry.events(after=self.before, limit=10_000)

    @rule(key=st.sampled_from(KEYS))
    def facts_agree(self, key: InstanceKey) -> None:
        lookup = self.arena.run(self.registry.get(key))
        now = self.arena.backend.clock.now()
        row = self.model.rows.get(key)
        if row is None or self.model.forgotten(row, now):
            assert lookup is None
            return
        known = lookup.entry.instance
        assert (known.removed, known.deregistered_at, known.refused_at) == (
            row.removed,
            row.deregistered,
            row.last_refusal,
        )
        assert model_drain(lookup.entry) == self.model.drain(row, now)
        assert str(lookup.entry.state) == self.model.state(row, now)

    @precondition(lambda self: self.model.most == FEW)  # a registry in memory counts what is announced
    @rule()
    def counts_agree(self) -> None:
        listed = CountsByModel()
        self.arena.run(listed.add_all(self.arena.run(self.registry.list()).entries))
        counted = self.arena.run(self.registry.count())
        assert (dict(counted.rows()), counted.oldest_drain) == (dict(listed.rows()), listed.oldest_drain)

    @invariant()
    def lists_agree(self) -> None:
        now = self.arena.backend.clock.now()
        expected = self.model.listed(now)
        everything, routable, one, one_routable = self.arena.run(self.lists())
        assert shown(everything) == expected
        assert list(shown(everything)) == sorted(expected)
        assert shown(routable) == {key: facts for key, facts in expected.items() if facts[-2:] == (None, "healthy")}
        assert shown(one) == {key: facts for key, facts in expected.items() if key.model_name == "a@llm"}
        assert shown(one_routable) == {key: facts for key, facts in shown(routable).items() if key in shown(one)}

    async def lists(self) -> list[Listing]:
        calls = [(None, False), (None, True), ("a@llm", False), ("a@llm", True)]
        return await asyncio.gather(*(self.registry.list(name, healthy_only=only) for name, only in calls))

    def compare(self, acts: list[Act]) -> None:
        if self.model.most == MANY:
            acts = [act._replace(verb="deregister") if act.verb == "remove" else act for act in acts]
        now = self.arena.backend.clock.now()
        assert self.arena.run(answers(self.registry, acts)) == [self.model.do(act, now) for act in acts]


async def answers(registry: ModelRegistry, acts: list[Act]) -> list[object]:
    """Of calls that are made at the same time, in this order."""
    return await asyncio.gather(*(answer(registry, act) for act in acts))


async def answer(registry: ModelRegistry, act: Act) -> object:
    duration = None if act.secs is None else timedelta(seconds=act.secs)
    try:
        match act.verb:
            case "register":
                return await registry.register(act.sent)
            case "register drained":
                wanted = DrainRequest(act.reason, duration)
                found = await registry.register(act.sent, drain=wanted, actor=OPERATOR)
            case "heartbeat":
                return await registry.heartbeat(act.sent)
            case "drain":
                found = await registry.drain(act.sent.key, reason=act.reason, duration=duration)
            case "undrain":
                found = await registry.undrain(act.sent.key)
            case _:
                return await registry.deregister(act.sent.key, remove=act.verb == "remove")
    except RegistryFull:
        return FULL
    return found is not None


def model_event(change: Change) -> ModelEvent:
    """A change in the model's words."""
    cause = change.cause
    actor = str(cause.actor.kind)
    return ModelEvent(
        change.key, change.time, change.old, change.new, cause.verb, actor, cause.reason, drained=change.drained
    )


def model_drain(entry: ListedInstance) -> ModelDrain | None:
    """The drain in the model's words."""
    drain = entry.drain
    return None if drain is None else ModelDrain(drain.since, drain.reason, drain.until)


def in_order(events: list[ModelEvent]) -> list[ModelEvent]:
    return sorted(events, key=lambda event: event.key)


def shown(listing: Listing) -> dict[InstanceKey, tuple[object, ...]]:
    """A list in the model's words."""
    return {
        entry.instance.key: (
            entry.instance.weight,
            entry.instance.check_healthy,
            entry.instance.prompt_template,
            entry.instance.last_heartbeat,
            model_drain(entry),
            str(entry.state),
        )
        for entry in listing.entries
    }


@pytest.mark.parametrize("kind", ["embedded", *DATABASES])
def test_any_sequence_of_calls_agrees_with_the_plain_model(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(kind).url if kind in SERVERS else None
    with asyncio.Runner() as runner:
        arena = Arena(Backend(kind, tmp_path, url), runner, {})
        machine = type("ComparisonWith" + kind.title(), (Comparison,), {"arena": arena})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=60,
                    stateful_step_count=25,
                    deadline=None,
                    derandomize="CI" in os.environ,
                    database=None,
                    phases=[Phase.generate],  # to shrink a failure may take longer than a test may
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(arena.backend.stack.aclose())
