"""A thousand watchers: how long a change takes to reach all, and whether they get all changes once and in order."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.mysql import durable_mariadb
from benchmarks.report import Bound, MeasurementError, Row, Section, say
from benchmarks.sides import start_ctl
from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.support.database_server import PrivateDatabase
from tests.support.watching import RawWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab
    from tests.support.mariadb import MariaDBServer

WATCHERS, CHANGES, SPREAD_SECS = 1_000, 1_000, 20.0
RESUMING = 10
"""One of this many watchers drops its connection now and then, and resumes with its last id."""
STAY_SECS = (1.0, 5.0)
SHARED_WATCHERS, SHARED_CHANGES, SHARED_SECS = 20, 500, 10.0
RECEIPT_SECS = 60.0
EVENT_ID = b'"id":'


@dataclass
class Watch:
    """One watcher over all its connections, and when it got which change."""

    raw: RawWatch
    count: int
    random: random.Random
    leaves: bool = False
    got: list[tuple[int, float]] = field(default_factory=list)
    connections: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until it has received all changes."""
        while len(self.got) < self.count:
            await self.raw.open()
            self.connections += 1
            self.connected.set()
            stays = self.random.uniform(*STAY_SECS) if self.leaves else None
            with suppress(TimeoutError):
                async with asyncio.timeout(stays):
                    await self._take()
            await self.raw.close()
            if self.leaves:
                await asyncio.sleep(self.random.random())

    async def _take(self) -> None:
        async for kind, data in self.raw.messages():
            if kind == "change":
                at = time.monotonic()
                begin = data.index(EVENT_ID) + len(EVENT_ID)
                self.got.append((int(data[begin : data.index(b",", begin)]), at))
                if len(self.got) >= self.count:
                    return
            elif kind not in {"ready", "dropped"}:
                raise MeasurementError(f"a watcher received {kind}: {data!r}")


@dataclass(frozen=True)
class Outcome:
    """Of all watchers: seconds from a change to its receipt; how many changes were lost, double or out of order."""

    delays: Sequence[float]
    misses: int
    connections: int


def run(lab: Lab, seconds: float) -> list[Section]:  # noqa: ARG001 - a section's shape
    """Over the embedded registry and over a shared database."""
    ctl = start_ctl(lab, "watch", 0, "--log-level", "warning")
    one = asyncio.run(_measured([ctl.url], WATCHERS, CHANGES, SPREAD_SECS))
    ctl.process.kill()  # its work is done, and the next part needs the machine
    with durable_mariadb() as mariadb:
        urls = [server.url for server in _two_on_one(lab, mariadb)]
        two = asyncio.run(_measured(urls, SHARED_WATCHERS, SHARED_CHANGES, SHARED_SECS))
    return [
        _section(f"Watch: {WATCHERS:,} watchers, {CHANGES:,} changes", one),
        _section(f"Watch: two controllers, one MariaDB, {SHARED_CHANGES:,} changes", two),
    ]


def _two_on_one(lab: Lab, mariadb: MariaDBServer) -> list[Server]:
    database = PrivateDatabase(mariadb, "ctl_watch")
    database.create()
    flags = ("--registry", "database", "--log-level", "warning", "--shutdown-grace-secs", "0")
    return [start_ctl(lab, f"watch-{name}", 0, *flags, env=database.variables) for name in ("one", "two")]


def _section(title: str, outcome: Outcome) -> Section:
    delays = sorted(outcome.delays)
    middle, late = delays[len(delays) // 2], delays[len(delays) * 99 // 100]
    return Section(
        (title, "figure"),
        [
            Row(("change to receipt, p50, s", f"{middle:.3f}")),
            Row(("change to receipt, p99, s", f"{late:.3f}"), late, Bound(most=1.0)),
            Row(("lost, double or out of order", str(outcome.misses)), float(outcome.misses), Bound(most=0)),
            Row(("connections", f"{outcome.connections:,}")),
        ],
    )


async def _measured(urls: Sequence[str], watchers: int, changes: int, spread_secs: float) -> Outcome:
    async with AsyncControllerClient(urls[0]) as client:
        page = await client.events()
    start = f"{page.stream}.{page.last_id}"
    watches = [
        Watch(RawWatch(urls[number % len(urls)], start), changes, random.Random(number), number % RESUMING == 0)
        for number in range(watchers)
    ]
    running = [asyncio.create_task(watch.run()) for watch in watches]
    await asyncio.gather(*(watch.connected.wait() for watch in watches))
    say(f"{watchers} watchers")
    called = await _change(urls, changes, spread_secs)
    try:
        async with asyncio.timeout(RECEIPT_SECS):
            await asyncio.gather(*running)
    except TimeoutError:
        say("some watchers lack changes")
    return _outcome(watches, page.last_id, called)


async def _change(urls: Sequence[str], changes: int, spread_secs: float) -> list[float]:
    """Registers at a steady rate through all controllers in turn; the times of the calls, in the order of the ids."""
    called = []
    clients = [AsyncControllerClient(url) for url in urls]
    began = time.monotonic()
    for number in range(changes):
        await asyncio.sleep(began + number * spread_secs / changes - time.monotonic())
        called.append(time.monotonic())
        key = InstanceKey("watched@llm", f"10.0.{number // 250}.{number % 250}", 8001)
        await clients[number % len(clients)].register(Registration(key))
    for client in clients:
        await client.aclose()
    return called


def _outcome(watches: Sequence[Watch], before: int, called: Sequence[float]) -> Outcome:
    expected = list(range(before + 1, before + 1 + len(called)))
    delays: list[float] = []
    misses = 0
    for watch in watches:
        ids = [number for number, _ in watch.got]
        if ids != expected:
            misses += max(1, len(set(expected) - set(ids)), len(ids) - len(set(ids)))
        delays += [
            at - called[number - before - 1] for number, at in watch.got if before < number <= before + len(called)
        ]
    if not delays:
        raise MeasurementError("no watcher got anything")
    return Outcome(delays, misses, sum(watch.connections for watch in watches))
