"""The order in which instances are checked for an expiry."""

from __future__ import annotations

from datetime import timedelta

from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.registry.embedded.expiry_queue import SLACK, ExpiryQueue
from tests.support.clock import START

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
