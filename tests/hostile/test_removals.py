"""Removals of very many instances and events: nobody who sends a heartbeat waits for them, and the pulse goes on.

`pytest tests/hostile/test_removals.py -o log_cli=true -o log_cli_level=INFO` shows the figures.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from time import monotonic, sleep
from typing import TYPE_CHECKING

import httpx

from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, ModelInstance
from dbgpt_ctl.registry.contract import MAX_EVENTS
from tests.support.database_server import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hostile.conftest import Serve, Served
    from tests.support.database_server import PrivateDatabase

log = logging.getLogger(__name__)

MANY = 20_000
MANY_EVENTS = 500_000
LONG_AGO = datetime.now(UTC) - timedelta(days=30)
DAY_SECS = 86_400
LONGEST_PAUSE_SECS = 1.0
"""A heartbeat waits 0.2 s at most; a busy machine gets room."""
LONGEST_TICK_SECS = 4.0
"""From 5 s on it is a gap, and states are held."""
FORGOTTEN_WITHIN_SECS = 150.0
"""Of 10 s on a machine without other work."""
SWEEP_STARTS_WITHIN_SECS = 90.0
BEATING = {"model_name": "beating@llm", "host": "127.0.0.1", "port": 1}


def long_gone(number: int) -> ModelInstance:
    """An instance of the one model, silent for a month."""
    key = InstanceKey("gone@llm", f"10.0.{number // 250}.{number % 250}", 8000)
    unhealthy = InstanceState.UNHEALTHY
    return ModelInstance(key, 1.0, True, None, LONG_AGO, LONG_AGO, announced_state=unhealthy)


def alive(number: int) -> ModelInstance:
    """One of the same model that stays. In order of identity it stands before those that go."""
    key = InstanceKey("gone@llm", f"0.{number}", 8000)
    return long_gone(number)._replace(key=key, check_healthy=False, announced_state=InstanceState.HEALTHY)


class Worker:
    """It sends heartbeats, and knows the longest time for which it waited."""

    def __init__(self, controller: Served) -> None:
        self.longest = 0.0
        self.sent = 0
        self._client = httpx.Client(base_url=controller.url, timeout=30)
        self._beat()
        self.longest = 0.0

    def beat_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self._beat()
            sleep(0.005)

    def check(self, what: str) -> None:
        log.info("%s: the longest of %d heartbeats took %.3f s", what, self.sent, self.longest)
        assert self.longest < LONGEST_PAUSE_SECS

    def close(self) -> None:
        self._client.close()

    def _beat(self) -> None:
        began = monotonic()
        assert self._client.post("/api/controller/heartbeat", json=BEATING).json() is True
        self.longest = max(self.longest, monotonic() - began)
        self.sent += 1


class Ticks:
    """The ticks in the database, and the longest time between two of them."""

    def __init__(self, database: PrivateDatabase) -> None:
        self._database = database
        self._seen: list[datetime] = []
        self._next_look = 0.0

    def look(self) -> None:
        """Reads the pulse, at most ten times a second."""
        if monotonic() >= self._next_look:
            self._next_look = monotonic() + 0.1
            ((tick,),) = self._database.execute("SELECT ticked_at FROM ctl_pulse")
            assert isinstance(tick, datetime)
            if tick not in self._seen:
                self._seen.append(tick)

    def check(self) -> None:
        longest = max((after - before for before, after in zip(self._seen, self._seen[1:], strict=False)))
        log.info("%d ticks, at most %.2f s apart", len(self._seen), longest.total_seconds())
        assert longest.total_seconds() < LONGEST_TICK_SECS
        assert self._database.execute("SELECT gone_at FROM ctl_pulse") == [(None,)], "no gap was noticed"


def prune(controller: Served, *, dry_run: bool = False) -> int:
    """Removes what has been gone for a day; returns how many the answer lists."""
    fields = {"older_than_secs": DAY_SECS, "dry_run": dry_run}
    answer = httpx.post(f"{controller.url}/api/v1/prune", json=fields, timeout=300)
    assert answer.status_code == httpx.codes.OK, answer.text
    return len(answer.json()["instances"])


def in_memory(serve: Serve) -> Served:
    """A controller that starts with MANY instances that are long gone, and as many of the same model that stay."""
    return serve(instances=sorted((*map(alive, range(MANY)), *map(long_gone, range(MANY))), key=attrgetter("key")))


def over_database(serve: Serve, database: PrivateDatabase) -> Served:
    server = database.server
    argv = ["--registry", "database", "--registry-db-host", f"{server.host}:{server.port}"]
    argv += ["--registry-db-name", database.name, "--registry-db-user", server.user]
    return serve(*argv, env={"CONTROLLER_REGISTRY_DB_PASSWORD": PASSWORD})


def insert_long_gone(database: PrivateDatabase) -> None:
    """MANY instances as `long_gone`, in the tables that a controller has made."""
    database.execute(
        "INSERT INTO ctl_instance (model_name, host, port, weight, check_healthy, registered_at, last_heartbeat,"
        " drained, announced_state, flaps, removed) SELECT 'gone@llm', CONCAT('10.0.', seq DIV 250, '.', seq MOD 250),"
        f" 8000, 1.0, 1, '{LONG_AGO:%Y-%m-%d %H:%M:%S}', '{LONG_AGO:%Y-%m-%d %H:%M:%S}', 0, 'unhealthy', 0, 0"
        f" FROM seq_0_to_{MANY - 1}"
    )


def insert_old_events(database: PrivateDatabase) -> None:
    """MANY_EVENTS of a month ago."""
    (before,) = database.execute("SELECT last_event FROM ctl_stream")[0]
    assert isinstance(before, int)
    database.execute(
        "INSERT INTO ctl_event (id, at, model_name, host, port, old_state, new_state, verb, actor, drained)"
        f" SELECT {before} + seq, '{LONG_AGO:%Y-%m-%d %H:%M:%S}', 'gone@llm', '10.0.0.4', 8000, 'healthy', 'unhealthy',"
        f" 'expire', 'expiry', 0 FROM seq_1_to_{MANY_EVENTS}"
    )
    database.execute(f"UPDATE ctl_stream SET last_event = last_event + {MANY_EVENTS}")


def test_prunes_in_memory_let_heartbeats_pass(serve: Serve) -> None:
    """Before: 20,000 removals took 9 s, in which nobody was answered."""
    controller = in_memory(serve)
    with closing(Worker(controller)) as worker, ThreadPoolExecutor(1) as threads:
        began = monotonic()
        removed = threads.submit(prune, controller)
        worker.beat_until(removed.done)
        log.info("%d instances were removed in %.2f s", removed.result(), monotonic() - began)
        worker.check("a prune in memory")
    assert removed.result() == MANY


def test_fifty_prunes_in_memory_remove_each_instance_once(serve: Serve) -> None:
    controller = in_memory(serve)
    with closing(Worker(controller)) as worker, ThreadPoolExecutor(50) as threads:
        calls = [threads.submit(prune, controller) for _ in range(50)]
        worker.beat_until(lambda: all(call.done() for call in calls))
        worker.check("50 prunes in memory")
    assert sum(call.result() for call in calls) == MANY


def test_fifty_prunes_of_a_database_leave_it_to_the_others(serve: Serve, mariadb: PrivateDatabase) -> None:
    """Before, they took all threads: no tick was written for more than 5 s, so that states were held."""
    controller = over_database(serve, mariadb)
    insert_long_gone(mariadb)
    ticks = Ticks(mariadb)
    with closing(Worker(controller)) as worker, ThreadPoolExecutor(50) as threads:
        began = monotonic()
        calls = [threads.submit(prune, controller, dry_run=number % 2 == 1) for number in range(50)]

        def is_over() -> bool:
            ticks.look()
            return all(call.done() for call in calls)

        worker.beat_until(is_over)
        removed = sum(call.result() for call in calls[::2])
        log.info("%d instances were removed in %.2f s", removed, monotonic() - began)
        worker.check("50 prunes of a database")
    assert removed == MANY
    ticks.check()


def test_a_sweep_of_very_many_events_delays_no_tick(serve: Serve, mariadb: PrivateDatabase) -> None:
    """It starts a minute after the controller, and takes some 10 s."""
    controller = over_database(serve, mariadb)
    insert_old_events(mariadb)
    ticks, deadline = Ticks(mariadb), monotonic() + SWEEP_STARTS_WITHIN_SECS

    def left() -> int:
        ticks.look()
        ((count,),) = mariadb.execute("SELECT MAX(id) - MIN(id) + 1 FROM ctl_event")
        assert isinstance(count, int)
        return count

    with closing(Worker(controller)) as worker:
        worker.beat_until(lambda: left() < MANY_EVENTS or monotonic() > deadline)
        began = monotonic()
        worker.beat_until(lambda: left() <= MAX_EVENTS or monotonic() > began + FORGOTTEN_WITHIN_SECS)
        log.info("%d events were forgotten in %.2f s", MANY_EVENTS, monotonic() - began)
        worker.check("a sweep of events")
    assert left() <= MAX_EVENTS
    ticks.check()
