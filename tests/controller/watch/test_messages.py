"""Watching over real connections: order, once each, resuming, slow readers, the end; and positions in the ring."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.http.v1_params import Cursor
from dbgpt_ctl.controller.watch.feed import Feed
from dbgpt_ctl.controller.watch.messages import Entry, EventRing
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import ControllerUnreachable
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.server import running_app, running_controller
from tests.support.watching import RawWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from dbgpt_ctl.client.results import Watched
    from tests.support.database_server import PrivateDatabase

KEY = InstanceKey("qwen@llm", "10.0.0.4", 8001)
TIMEOUT_SECS = 30.0
WATCHERS, CHANGES = 50, 200


def embedded() -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=TIMEOUT)


@pytest.fixture
def url() -> Iterator[str]:
    with running_controller(embedded()) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[ControllerClient]:
    with ControllerClient(url, actor="operator") as client:
        yield client


def change(client: ControllerClient, *ports: int, name: str = "qwen@llm") -> None:
    for port in ports:
        client.register(Registration(InstanceKey(name, "10.0.0.4", port)))


def name_of(watched: Watched) -> str:
    return str(watched.event.id) if watched.event else watched.kind


def test_a_change_arrives_with_all_that_is_known_of_it(client: ControllerClient) -> None:
    with closing(client.watch()) as watch:
        ready = next(watch)
        assert (ready.kind, ready.cursor) == ("ready", f"{client.events().stream}.0")
        client.register(Registration(KEY))
        client.drain(KEY, reason="why")
        first, second = next(watch), next(watch)
    assert (first.event, second.event) == client.events().events
    assert first.cursor == f"{client.events().stream}.1"
    assert second.object == client.events().objects[1]


def test_only_what_is_asked_for_arrives(client: ControllerClient) -> None:
    with (
        closing(client.watch(model_name="bge@text2vec")) as by_model,
        closing(client.watch(host="10.0.0.9")) as by_host,
    ):
        assert [next(by_model).kind, next(by_host).kind] == ["ready", "ready"]
        change(client, 1)
        change(client, 1, name="bge@text2vec")
        client.register(Registration(KEY._replace(host="10.0.0.9")))
        assert [name_of(next(by_model)), name_of(next(by_host))] == ["2", "3"]


def test_it_goes_on_from_a_cursor(client: ControllerClient, url: str) -> None:
    change(client, 1, 2, 3)
    stream = client.events().stream
    with closing(client.watch(cursor=f"{stream}.1")) as watch:
        assert [name_of(next(watch)) for _ in range(3)] == ["ready", "2", "3"]
    with httpx.stream("GET", f"{url}/api/v1/watch", headers={"Last-Event-ID": f"{stream}.2"}, trust_env=False) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-store"
        lines = reply.iter_lines()
        assert [next(lines) for _ in range(6)][4:] == ["event: change", f"id: {stream}.3"]


def test_a_cursor_of_another_start_is_a_reset_that_gives_a_new_one(client: ControllerClient) -> None:
    change(client, 1)
    with closing(client.watch(cursor="another.7")) as watch:
        assert next(watch).kind == "ready"
        reset = next(watch)
        assert (reset.kind, reset.cursor) == ("reset", f"{client.events().stream}.1")
        assert reset.reason
        change(client, 2)
        assert name_of(next(watch)) == "2"


def make_changes(url: str, count: int) -> None:
    with ControllerClient(url) as client:
        change(client, *range(1, count + 1))


def test_every_watcher_gets_every_change_once_and_in_order_over_reconnects(url: str) -> None:
    """Every third leaves its connection again and again, without a word."""

    async def watch(number: int, watcher: RawWatch) -> list[int]:
        ids = list[int]()
        while len(ids) < CHANGES:
            await watcher.take(ids, CHANGES if number % 3 else min(CHANGES, len(ids) + 20 + number))
        return ids

    async def scenario() -> None:
        with ControllerClient(url) as client:
            start = f"{client.events().stream}.0"
        watching = [asyncio.create_task(watch(number, RawWatch(url, start))) for number in range(WATCHERS)]
        async with asyncio.timeout(TIMEOUT_SECS):
            await asyncio.to_thread(make_changes, url, CHANGES)
            for ids in await asyncio.gather(*watching):
                assert ids == list(range(1, CHANGES + 1))

    asyncio.run(scenario())


def test_a_slow_watcher_is_dropped_and_goes_on_without_loss() -> None:
    app = create_app(ControllerSettings(), embedded())
    controller = app.state.controller
    controller.feed = Feed(lambda: controller.registry, poll_secs=0.01, ring_size=64)
    count = 1500

    async def scenario(url: str) -> tuple[list[int], list[str]]:
        watcher, ids, ends = RawWatch(url, limit=2**10, receive_buffer=4096), list[int](), list[str]()
        messages = watcher.messages()
        await watcher.open()
        assert (await anext(messages))[0] == "ready"
        await asyncio.to_thread(make_changes, url, count)  # nothing is read meanwhile
        async for kind, data in messages:
            ends.append(kind)
            if kind == "change":
                ids.append(json.loads(data)["id"])
        await watcher.close()
        while len(ids) < count:
            ends.append(await watcher.take(ids, count))
        return ids, ends

    with running_app(app, send_buffer=4096) as url:
        ids, ends = asyncio.run(asyncio.wait_for(scenario(url), 2 * TIMEOUT_SECS))
    assert ids == list(range(1, count + 1))
    assert "dropped" in ends


def test_a_watch_ends_when_the_controller_leaves_and_delays_nothing() -> None:
    app = create_app(ControllerSettings(), embedded())
    with ExitStack() as stack:
        with running_app(app) as url:
            client = stack.enter_context(ControllerClient(url))
            watches = [stack.enter_context(closing(client.watch())) for _ in range(20)]
            assert {next(watch).kind for watch in watches} == {"ready"}
            assert client.status().watchers == 20
        assert [[each.kind for each in watch] for watch in watches] == [["leaving"]] * 20


def test_a_client_that_is_gone_is_not_counted(client: ControllerClient) -> None:
    watch = client.watch()
    next(watch)
    assert client.status().watchers == 1
    watch.close()
    deadline = threading.Event()
    while client.status().watchers:
        assert not deadline.wait(0.01)


def test_a_watch_breaks_where_the_controller_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                body = b'event: ready\nid: s.1\ndata: {"cursor":"s.1"}\n\n'
                connection.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(body), body))

        thread = threading.Thread(target=serve)
        thread.start()
        with ControllerClient(f"http://127.0.0.1:{server.getsockname()[1]}") as client:
            watch = client.watch()
            assert next(watch).cursor == "s.1"
            with pytest.raises(ControllerUnreachable, match="broke off"):
                next(watch)
        thread.join()


def on(url: URL) -> DatabaseModelRegistry:
    return DatabaseModelRegistry(url, heartbeat_timeout=timedelta(seconds=60))


def test_two_controllers_on_one_database_send_the_same(database: PrivateDatabase) -> None:
    """A change made through the one arrives at the other, and a watch goes on there from its last id."""

    async def within_a_second(url: str, changing: ControllerClient) -> str | None:
        watcher = RawWatch(url)
        await watcher.open()
        messages = watcher.messages()
        assert (await anext(messages))[0] == "ready"
        await asyncio.to_thread(changing.register, Registration(KEY))
        async with asyncio.timeout(1):
            kind, data = await anext(messages)
        await watcher.close()
        assert (kind, json.loads(data)["new"]) == ("change", "healthy")
        return watcher.cursor

    with (
        running_controller(on(database.url), registry_type="database", registry_db_type="sqlite") as one,
        running_controller(on(database.url), registry_type="database", registry_db_type="sqlite") as two,
        ControllerClient(one, actor="operator") as client,
        ControllerClient(two, actor="operator") as other,
    ):
        cursor = asyncio.run(within_a_second(two, client))
        client.drain(KEY)
        other.undrain(KEY)
        with closing(client.watch(cursor=cursor)) as watch:
            messages = [next(watch) for _ in range(3)]
        assert [each.event.change.cause.verb for each in messages if each.event] == ["drain", "undrain"]


def ring_with(numbers: list[int | None], *, size: int = 4) -> EventRing:
    """A ring of the stream `s`; None is a reset."""
    ring = EventRing(size)
    for number in numbers:
        ring.append(Entry(number, None, b"%d" % (number or 0)))
        ring.cursor = Cursor("s", number or 0)
    return ring


def test_an_entry_is_kept_until_it_is_overwritten() -> None:
    ring = ring_with([1, 2, 3, 4, 5])
    assert ring.head == 5
    assert [entry and entry.number for entry in map(ring.entry, range(5))] == [None, 2, 3, 4, 5]
    ring.clear()
    assert ring.head == 5
    assert ring.entry(4) is None


@pytest.mark.parametrize(
    ("cursor", "position"),
    [
        (Cursor("s", 5), 5),
        (Cursor("s", 4), 4),
        (Cursor("s", 1), 1),
        (Cursor("s", 0), None),
        (Cursor("s", 9), 5),
        (Cursor("other", 4), None),
    ],
    ids=["at the end", "before the last", "before the oldest", "overwritten", "ahead", "another stream"],
)
def test_the_position_after_a_cursor(cursor: Cursor, position: int | None) -> None:
    assert ring_with([1, 2, 3, 4, 5]).position_after(cursor) == position


def test_nothing_before_a_reset_is_after_a_cursor() -> None:
    assert ring_with([7, 8, None, 1]).position_after(Cursor("s", 7)) == 4
    assert ring_with([7, 8, None, 2]).position_after(Cursor("s", 0)) is None
