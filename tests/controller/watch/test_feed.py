"""The one reader of events that all subscribers share, without HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.client.watch import read_messages
from dbgpt_ctl.controller.http.v1_params import Cursor
from dbgpt_ctl.controller.watch.feed import Feed
from dbgpt_ctl.controller.watch.messages import BATCHES_PER_TURN
from dbgpt_ctl.controller.watch.subscriber import MAX_BATCH_BYTES
from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnavailable, TooManyWatchers
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.addresses import parse_address
from tests.controller.conftest import TIMEOUT
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dbgpt_ctl.client.watch import Message
    from dbgpt_ctl.controller.watch.subscriber import Subscriber
    from dbgpt_ctl.domain.events import EventPage

ALL = InstanceFilter()
ADDRESS = parse_address("http://127.0.0.1:1")
TIMEOUT_SECS = 20.0


class Counting(EmbeddedModelRegistry):
    """Counts how often its events are read; unavailable while `away` is set, and no answer before `hang` is."""

    def __init__(self) -> None:
        super().__init__(clock=ManualClock(), heartbeat_timeout=TIMEOUT)
        self.reads = 0
        self.away = False
        self.hang: asyncio.Event | None = None

    async def events(self, **query: Any) -> EventPage:
        self.reads += 1
        if self.away:
            raise RegistryUnavailable("it is away")
        if self.hang is not None:
            await self.hang.wait()
        return await super().events(**query)

    async def change(self, *ports: int, name: str = "qwen@llm") -> None:
        for port in ports:
            await self.register(Registration(InstanceKey(name, "10.0.0.4", port)))


class Reader:
    """Collects the messages of one subscriber."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.batches = subscriber.messages()
        self.messages: list[Message] = []
        self.raw: list[bytes] = []

    async def until(self, count: int) -> list[str]:
        """The first `count` messages, once they are there: their kind, or the id of a change."""
        async with asyncio.timeout(TIMEOUT_SECS):
            while len(self.messages) < count and await self.more():
                pass
        return self.names

    async def more(self) -> bool:
        try:
            self.raw.append(await anext(self.batches))
        except StopAsyncIteration:
            self.subscriber.end()  # as the response does
            return False
        self.messages += read_messages([self.raw[-1]], ADDRESS)
        return True

    @property
    def names(self) -> list[str]:
        return [(each.id or "").rpartition(".")[2] if each.event == "change" else each.event for each in self.messages]


@asynccontextmanager
async def feeding(registry: EmbeddedModelRegistry, **options: Any) -> AsyncIterator[Feed]:
    feed = Feed(lambda: registry, **{"poll_secs": 0.001, **options})
    try:
        yield feed
    finally:
        await feed.close()
        await registry.close()


async def reader(feed: Feed, instance_filter: InstanceFilter = ALL, cursor: Cursor | None = None) -> Reader:
    return Reader(await feed.subscribe(instance_filter, cursor))


def run(scenario: Any) -> None:
    asyncio.run(scenario)


def test_a_watcher_gets_what_happens_from_now_on() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry) as feed:
            await registry.change(1)
            one = await reader(feed)
            assert await one.until(1) == ["ready"]
            await registry.change(2, 3)
            assert await one.until(3) == ["ready", "2", "3"]

    run(scenario())


def test_it_reads_once_for_all_and_only_while_somebody_watches() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry, poll_secs=3600) as feed:
            readers = [await reader(feed) for _ in range(100)]
            for each in readers:
                await each.until(1)
            await asyncio.sleep(0)
            assert registry.reads == 2  # where the events are, and the first look
            assert feed.watchers == 100
            for each in readers:
                each.subscriber.end()
            assert feed.watchers == 0
            await asyncio.sleep(0)
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "read events"]

    run(scenario())


def test_an_event_is_encoded_once_and_what_waits_goes_out_together() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry) as feed:
            readers = [await reader(feed) for _ in range(3)]
            for each in readers:
                await each.until(1)
            await registry.change(*range(1, 51))
            for each in readers:
                assert await each.until(51) == ["ready", *map(str, range(1, 51))]
                assert len(each.raw) == 2
            before = feed._ring.entry(0)
            assert before is not None
            assert before is feed._ring.entry(0)
            assert before.data in readers[0].raw[1]

    run(scenario())


def test_only_what_was_asked_for_is_sent() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry) as feed:
            one = await reader(feed, InstanceFilter(ModelFilter("bge@text2vec")))
            await one.until(1)
            await registry.change(1)
            await registry.change(1, name="bge@text2vec")
            assert await one.until(2) == ["ready", "2"]

    run(scenario())


@pytest.mark.parametrize("ring", [4096, 4], ids=["from the ring", "from the registry"])
def test_a_cursor_goes_on_without_loss_or_double(ring: int) -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry, ring_size=ring) as feed:
            first = await reader(feed)
            await first.until(1)
            await registry.change(1, 2, 3)
            await first.until(4)
            stream = (await registry.events()).stream
            await registry.change(*range(4, 31))
            while feed._ring.cursor.number < 30:
                await asyncio.sleep(0.001)
            again = await reader(feed, cursor=Cursor(stream, 2))
            assert await again.until(29) == ["ready", *map(str, range(3, 31))]
            await registry.change(31)
            assert (await again.until(30))[-1] == "31"

    run(scenario())


def test_a_cursor_that_is_ahead_of_the_reader_but_not_of_the_registry_is_taken() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry, poll_secs=3600) as feed:
            first = await reader(feed)
            await first.until(1)
            await asyncio.sleep(0)
            await registry.change(1, 2)
            stream = (await registry.events()).stream
            ahead = await reader(feed, cursor=Cursor(stream, 1))
            assert await ahead.until(2) == ["ready", "2"]
            same = await reader(feed, cursor=Cursor(stream, 2))
            assert await same.until(1) == ["ready"]
            feed.leave()
            assert await same.until(2) == ["ready", "leaving"]

    run(scenario())


@pytest.mark.parametrize("cursor", [Cursor("another", 1), None], ids=["of another stream", "from the future"])
def test_a_cursor_that_means_nothing_is_a_reset(cursor: Cursor | None) -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry) as feed:
            await registry.change(1)
            stream = (await registry.events()).stream
            one = await reader(feed, cursor=cursor or Cursor(stream, 99))
            assert await one.until(2) == ["ready", "reset"]
            assert one.messages[1].id == f"{stream}.1"
            await registry.change(2)
            assert await one.until(3) == ["ready", "reset", "2"]

    run(scenario())


def test_another_registry_is_a_reset_to_all() -> None:
    async def scenario() -> None:
        before, after = Counting(), Counting()
        now = [before]
        feed = Feed(lambda: now[0], poll_secs=0.001)
        one = await reader(feed)
        await one.until(1)
        await before.change(1)
        await one.until(2)
        now[0] = after
        assert await one.until(3) == ["ready", "1", "reset"]
        await after.change(1)
        assert await one.until(4) == ["ready", "1", "reset", "1"]
        assert one.messages[-1].id == f"{(await after.events()).stream}.1"
        await feed.close()

    run(scenario())


def test_a_reader_that_the_ring_has_passed_is_dropped_and_can_go_on() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry, ring_size=8) as feed:
            slow, quick = await reader(feed), await reader(feed)
            await slow.until(1)
            await quick.until(1)
            for port in range(1, 31):
                await registry.change(port)
                await quick.until(port + 1)
            assert quick.names == ["ready", *map(str, range(1, 31))]
            assert await slow.until(2) == ["ready", "dropped"]
            assert not await slow.more()
            again = await reader(feed, cursor=Cursor(feed._ring.cursor.stream, 0))
            assert await again.until(31) == quick.names

    run(scenario())


def test_a_registry_that_is_away_ends_no_watch() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry) as feed:
            one = await reader(feed)
            await one.until(1)
            registry.away = True
            reads = registry.reads
            while registry.reads == reads:
                await asyncio.sleep(0.001)
            await registry.change(1)
            registry.away = False
            assert await one.until(2) == ["ready", "1"]

    run(scenario())


def test_nobody_can_begin_while_the_registry_is_away() -> None:
    async def scenario() -> None:
        registry = Counting()
        registry.away = True
        async with feeding(registry) as feed:
            with pytest.raises(RegistryUnavailable):
                await feed.subscribe(ALL, None)
            assert feed.watchers == 0

    run(scenario())


def test_there_is_a_bound_on_watchers() -> None:
    async def scenario() -> None:
        async with feeding(Counting(), max_watchers=2) as feed:
            first = await feed.subscribe(ALL, None)
            await feed.subscribe(ALL, None)
            with pytest.raises(TooManyWatchers, match="serves 2 watchers already"):
                await feed.subscribe(ALL, None)
            first.end()
            await feed.subscribe(ALL, None)

    run(scenario())


def test_those_that_wait_for_the_registry_count_and_are_refused_when_the_controller_leaves() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with (
            feeding(registry, max_watchers=2) as feed,
            asyncio.timeout(TIMEOUT_SECS),
            asyncio.TaskGroup() as tasks,
        ):
            registry.hang = asyncio.Event()
            waiting = [tasks.create_task(feed.subscribe(ALL, None)) for _ in range(2)]
            while not registry.reads:
                await asyncio.sleep(0)
            with pytest.raises(TooManyWatchers):
                await feed.subscribe(ALL, None)
            waiting[1].cancel()
            await asyncio.wait(waiting[1:])
            feed.leave()
            with pytest.raises(RegistryUnavailable, match="leaving"):
                await feed.subscribe(ALL, None)
            registry.hang.set()

    run(scenario())


def test_few_batches_go_out_before_other_requests_have_their_turn() -> None:
    async def scenario() -> None:
        registry, sent = Counting(), 0

        async def take(one: Reader) -> None:
            nonlocal sent
            while await one.more():
                sent += 1

        async with feeding(registry) as feed:
            readers = [await reader(feed) for _ in range(4 * BATCHES_PER_TURN)]
            tasks = [asyncio.create_task(take(each)) for each in readers]
            async with asyncio.timeout(TIMEOUT_SECS):
                for goal in (1, 2, 3):  # ready, a change, and the end
                    while sent < goal * len(readers):
                        before = sent
                        await asyncio.sleep(0)
                        assert goal == 1 or sent - before <= BATCHES_PER_TURN
                    await registry.change(goal)
                    if goal == 2:
                        feed.leave()
                await asyncio.gather(*tasks)

    run(scenario())


def test_long_events_that_are_read_again_go_out_in_small_batches() -> None:
    async def scenario() -> None:
        registry = Counting()
        name = "m" * 100 + "@llm"
        await registry.change(*range(1, 201), name=name)
        async with feeding(registry, ring_size=4) as feed:
            one = await reader(feed, cursor=Cursor((await registry.events()).stream, 0))
            assert await one.until(201) == ["ready", *map(str, range(1, 201))]
            longest = max(map(len, one.raw[1].split(b"\n\n")))
            assert max(map(len, one.raw)) <= MAX_BATCH_BYTES + longest + 2

    run(scenario())


def test_silence_is_broken_by_a_comment() -> None:
    async def scenario() -> None:
        async with feeding(Counting(), keep_alive_secs=0.01) as feed:
            one = await reader(feed)
            async with asyncio.timeout(TIMEOUT_SECS):
                while b": keep-alive\n\n" not in one.raw:
                    await one.more()
            assert one.names == ["ready"]

    run(scenario())


def test_leaving_is_told_after_what_was_still_to_be_told() -> None:
    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry) as feed:
            one = await reader(feed)
            await one.until(1)
            await registry.change(1)
            while feed._ring.head == 0:
                await asyncio.sleep(0.001)
            feed.leave()
            assert await one.until(3) == ["ready", "1", "leaving"]
            assert not await one.more()
            assert feed.watchers == 0
            with pytest.raises(RegistryUnavailable):
                await feed.subscribe(ALL, None)

    run(scenario())


def test_those_who_come_back_find_in_the_ring_what_they_missed() -> None:
    """Also after the last watcher left: the registry is read once, not by each of them."""

    async def scenario() -> None:
        registry = Counting()
        async with feeding(registry, poll_secs=60) as feed:
            first = Reader(await feed.subscribe(ALL, None))
            assert await first.until(1) == ["ready"]
            cursor = feed._ring.cursor
            await first.batches.aclose()
            await registry.change(*range(1, 51))
            registry.reads = 0
            readers = [Reader(await feed.subscribe(ALL, cursor)) for _ in range(20)]
            for each in readers:
                assert (await each.until(51))[1:] == [str(number) for number in range(1, 51)]
                await each.batches.aclose()
            assert registry.reads <= 2

    asyncio.run(scenario())


def test_catching_up_leaves_others_their_turn() -> None:
    """A hundred clients that read events from before the ring, and select none of them, do not delay a heartbeat."""

    async def scenario() -> None:
        registry, nothing = Counting(), InstanceFilter(ModelFilter("none@llm"))
        await registry.change(*range(1, 3001))
        turns, done = 0, False

        async def take_turns() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await asyncio.sleep(0)

        async with feeding(registry, ring_size=16) as feed:
            others = asyncio.create_task(take_turns())
            first = Reader(await feed.subscribe(ALL, None))
            readers = [Reader(await feed.subscribe(nothing, Cursor(feed._ring.cursor.stream, 0))) for _ in range(100)]
            turns = 0
            registry.reads = 0
            catching_up = [asyncio.create_task(each.until(2)) for each in readers]
            async with asyncio.timeout(TIMEOUT_SECS):
                while registry.reads < 300:
                    await asyncio.sleep(0)
            done = True
            await others
            assert turns >= 300
            for each in catching_up:
                each.cancel()
            await asyncio.gather(*catching_up, return_exceptions=True)
            for reader in [first, *readers]:
                await reader.batches.aclose()

    asyncio.run(scenario())
