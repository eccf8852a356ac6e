"""The index by model: order, cached listings and tombstones."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance, Registration
from dbgpt_ctl.domain.registry_outage import Hold
from dbgpt_ctl.registry.embedded.index import SLACK, CachedListing, ExpiryQueue, ModelIndex
from tests.support.clock import START

TIMEOUT = timedelta(seconds=60)


def instance(model: str = "qwen@llm", port: int = 1, seconds: float = 0) -> ModelInstance:
    return ModelInstance.first(Registration(InstanceKey(model, "h", port)), at(seconds))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def index_of(*instances: ModelInstance) -> ModelIndex:
    index = ModelIndex()
    for added in instances:
        index.put(added)
    return index


def listed(index: ModelIndex, model: str | None = None, *, now: float = 0, hold: Hold | None = None) -> CachedListing:
    return index.list(model, at(now), TIMEOUT, hold, healthy_only=False)


def keys(cached: CachedListing) -> list[tuple[str, int]]:
    return [(entry.instance.key.model_name, entry.instance.key.port) for entry in cached.listing.entries]


def test_listings_are_in_order_of_identity() -> None:
    index = index_of(instance("b@llm"), instance("a@llm", 2), instance("a@llm", 1))
    assert keys(listed(index)) == [("a@llm", 1), ("a@llm", 2), ("b@llm", 1)]
    assert keys(listed(index, "a@llm")) == [("a@llm", 1), ("a@llm", 2)]
    assert keys(listed(index, "unknown@llm")) == []
    assert len(index) == 3


def test_the_order_stays_through_any_additions_and_removals() -> None:
    ports = list(range(1, 200))
    shuffled = Random(7).sample(ports, len(ports))
    index = index_of(*(instance(port=port) for port in shuffled))
    for number, port in enumerate(shuffled):
        assert keys(listed(index)) == [("qwen@llm", left) for left in sorted(shuffled[number:])]
        assert [key.port for key in index.keys()] == sorted(shuffled[number:])  # noqa: SIM118 - it is no dictionary
        index.remove(InstanceKey("qwen@llm", "h", port))
        if number % 3 == 0:
            index.put(instance(port=port))
            index.remove(InstanceKey("qwen@llm", "h", port))
    assert keys(listed(index)) == []


def test_the_oldest_tombstone_is_the_one_that_refused_a_heartbeat_first() -> None:
    removed = [instance(port=port).deregistered(at(port), remove=True) for port in (3, 1, 2)]
    index = index_of(instance(port=9), *removed)
    assert index.oldest_tombstone() == removed[1].key
    index.put(removed[1].with_heartbeat(at(10)))
    assert index.oldest_tombstone() == removed[2].key
    index.remove(removed[2].key)
    index.put(instance(port=3, seconds=5))
    assert index.oldest_tombstone() == removed[1].key
    index.remove(removed[1].key)
    assert index.oldest_tombstone() is None


def test_a_listing_is_cached_until_a_fact_changes_or_a_heartbeat_gets_too_old() -> None:
    index = index_of(instance("a@llm"), instance("b@llm", seconds=10))
    for model in (None, "a@llm"):
        first = listed(index, model)
        assert listed(index, model, now=60) is first
        assert listed(index, model, now=61) is not first, "the heartbeat of a is too old"
    both, b_only = listed(index), listed(index, "b@llm")
    index.replace(instance("a@llm", seconds=5))
    assert listed(index) is not both
    assert listed(index, "b@llm") is b_only, "another model's"


def test_a_listing_is_cached_until_the_first_drain_is_over() -> None:
    until = START + timedelta(seconds=30)
    index = index_of(
        instance("a@llm").drained(START, by=None, reason=None, until=until + timedelta(seconds=10)),
        instance("b@llm").drained(START, by=None, reason=None, until=until),
        instance("c@llm").drained(START, by=None, reason=None, until=None),
    )
    for healthy_only in (False, True):
        first = index.list(None, START, TIMEOUT, None, healthy_only=healthy_only)
        last_time = until - timedelta.resolution
        assert index.list(None, last_time, TIMEOUT, None, healthy_only=healthy_only) is first
        assert [entry.drain is None for entry in first.listing.entries] == ([] if healthy_only else [False] * 3)
        second = index.list(None, until, TIMEOUT, None, healthy_only=healthy_only)
        assert [entry.instance.key.model_name for entry in second.listing.entries if entry.routable] == ["b@llm"]


def test_a_listing_is_not_valid_before_it_was_made() -> None:
    index = index_of(instance())
    first = listed(index, now=5)
    assert listed(index, now=4) is not first, "the clock was set back"


def test_a_listing_reports_a_hold_that_keeps_an_instance_alive() -> None:
    index = index_of(instance("a@llm"), instance("b@llm", seconds=90))
    hold = Hold(at(0), at(90), at(150))
    cached = listed(index, now=100, hold=hold)
    assert cached.listing.held_until == at(150)
    index.replace(instance("a@llm", seconds=95))
    cached = listed(index, now=100, hold=hold)
    assert cached.listing.held_until is None
    assert listed(index, now=100) is not cached, "without the hold states may differ"


def test_tombstones_are_in_no_listing_and_the_oldest_is_known() -> None:
    index = index_of(instance(port=1), instance(port=2), instance(port=3))
    assert index.oldest_tombstone() is None
    for port, seconds in ((1, 20), (2, 10)):
        index.put(instance(port=port).deregistered(at(seconds), remove=True))
    assert keys(listed(index)) == [("qwen@llm", 3)]
    assert (len(index), index.oldest_tombstone()) == (3, instance(port=2).key)
    index.put(instance(port=2)._replace(removed=False))
    assert index.oldest_tombstone() == instance(port=1).key
    index.remove(instance(port=1).key)
    assert (len(index), index.oldest_tombstone()) == (2, None)
    assert index.get(instance(port=1).key) is None


ONE, OTHER, THIRD = (InstanceKey("qwen@llm", "10.0.0.4", port) for port in (1, 2, 3))


def test_due_keys_come_in_order_of_time_and_once() -> None:
    queue = ExpiryQueue()
    for key, second in ((THIRD, 3), (ONE, 2), (OTHER, 1), (OTHER, 4), (THIRD, 0)):
        queue.schedule(key, START + timedelta(seconds=second))
    due = START + timedelta(seconds=1)
    assert [key for key, _ in queue.pop_due(due)] == [THIRD, OTHER]
    assert list(queue.pop_due(due)) == []
    assert [key for key, _ in queue.pop_due(START + timedelta(seconds=9))] == [ONE], "an earlier time replaces a later"


def test_a_key_that_is_scheduled_again_comes_again() -> None:
    queue = ExpiryQueue()
    queue.reset([(ONE, START), (OTHER, START + timedelta(seconds=1))])
    popped = []
    for key, at in queue.pop_due(START + timedelta(seconds=2)):
        popped.append(key)
        if at == START:
            queue.schedule(key, START + timedelta(seconds=2))
    assert popped == [ONE, OTHER, ONE]


def test_a_discarded_key_never_comes() -> None:
    queue = ExpiryQueue()
    queue.reset([(ONE, START), (OTHER, START + timedelta(seconds=1))])
    queue.discard(ONE)
    queue.discard(THIRD)
    assert queue.first() == OTHER
    queue.schedule(ONE, START + timedelta(seconds=2))
    assert queue.first() == OTHER
    assert [key for key, _ in queue.pop_due(START + timedelta(seconds=9))] == [OTHER, ONE]
    assert queue.first() is None


def test_discarded_keys_do_not_gather() -> None:
    queue = ExpiryQueue()
    for second in range(10 * SLACK):
        queue.schedule(ONE, START + timedelta(seconds=second))
        queue.discard(ONE)
    assert len(queue._heap) <= SLACK + 2
