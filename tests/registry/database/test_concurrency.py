"""Many threads, two registries on one database: every outcome is one that some order of the calls allows."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from copy import deepcopy
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT, Backend, sent
from tests.registry.plain_model import Act, PlainModel
from tests.registry.test_stateful import answer, shown
from tests.support.clock import START, ManualClock
from tests.support.database_server import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from sqlalchemy import URL

    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.plain_model import Verb
    from tests.support.database_server import PrivateDatabase

pytestmark = pytest.mark.slow

THREADS = 64
PATIENCE_SECS = 60


class Served:
    """A registry in an event loop of its own, as in a controller's process. Any thread may call."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Served:
        self._thread.start()
        self.call(self.registry.open())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self.registry.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_SECS)


@pytest.fixture
def url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> URL:
    if database_kind not in SERVERS:
        return Backend(database_kind, tmp_path).url
    database: PrivateDatabase = request.getfixturevalue(database_kind)
    return database.url


@pytest.fixture
def pair(url: URL) -> Iterator[list[Served]]:
    """Two controllers' registries on one database; time stands still."""
    clock = ManualClock()
    with ExitStack() as stack:
        registries = [DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, clock=clock) for _ in range(2)]
        yield [stack.enter_context(Served(registry)) for registry in registries]


@contextmanager
def together(threads: int) -> Iterator[Callable[[Callable[[int], Any]], list[Any]]]:
    """Calls a function with the number of each thread, in all threads at the same moment; gives the results."""
    barrier = threading.Barrier(threads)

    def one(function: Callable[[int], Any], number: int) -> Any:
        barrier.wait(PATIENCE_SECS)
        return function(number)

    with ThreadPoolExecutor(threads) as pool:
        yield lambda function: [
            call.result(PATIENCE_SECS) for call in [pool.submit(one, function, number) for number in range(threads)]
        ]


def test_one_identity_registered_by_all_is_one_row(pair: list[Served]) -> None:
    with together(THREADS) as run:

        def register(number: int) -> None:
            for served in pair if number % 2 else reversed(pair):
                served.call(served.registry.register(sent(weight=float(number))))

        run(register)
    lists = [served.call(served.registry.list()) for served in pair]
    assert [len(listing.entries) for listing in lists] == [1, 1]
    assert lists[0].entries == lists[1].entries


def test_many_identities_registered_by_all_are_one_row_each(pair: list[Served]) -> None:
    everybody = [sent(f"m{number % 3}@llm", port=number) for number in range(1, 41)]
    with together(THREADS) as run:

        def register(number: int) -> None:
            served = pair[number % 2]
            for registration in random.Random(number).sample(everybody, 10):
                served.call(served.registry.heartbeat(registration))

        run(register)
    for served in pair:
        listed = [entry.instance.key for entry in served.call(served.registry.list()).entries]
        assert listed == sorted(set(listed))
        assert set(listed) <= {registration.key for registration in everybody}
        assert len(listed) > 30


VERBS: list[Verb] = ["register", "heartbeat", "heartbeat", "deregister", "remove"]
ROUNDS = 40


def test_whatever_meets_has_an_outcome_that_some_order_allows(pair: list[Served]) -> None:
    chance = random.Random(4711)
    # Tombstones are in no list, so one outcome may leave several ways to go on.
    models = [PlainModel(TIMEOUT, 1000)]
    with together(5) as run:
        for _ in range(ROUNDS):
            acts = [Act(chance.choice(VERBS), sent(weight=float(number))) for number in range(5)]
            answers = run(partial(meet, acts, [chance.choice(pair) for _ in acts]))
            listed = shown(pair[0].call(pair[0].registry.list()))
            outcomes = [outcome for model in models for outcome in allowed(model, acts)]
            matching = [after for given, after in outcomes if given == answers and after.listed(START) == listed]
            assert matching, (acts, answers, listed)
            models = list({repr(model.rows): model for model in matching}.values())


def meet(acts: list[Act], homes: list[Served], number: int) -> object:
    """One thread's part."""
    return homes[number].call(answer(homes[number].registry, acts[number]))


def allowed(model: PlainModel, acts: list[Act]) -> Iterator[tuple[list[object], PlainModel]]:
    """Each order's answers, in the order of `acts`, and what it leads to."""
    for order in permutations(range(len(acts))):
        after = deepcopy(model)
        given = {number: after.do(acts[number], START) for number in order}
        yield [given[number] for number in range(len(acts))], after


def test_a_deadlock_is_survived(database: PrivateDatabase) -> None:
    """The other transaction has b and wants a. The registry's has a, wants b and is rolled back: as the lighter one on
    MySQL and MariaDB, as the one that looks for a deadlock first on PostgreSQL.
    """
    is_postgresql = database.server.db_type == "postgresql"
    if is_postgresql:
        database.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '300ms'")
    first, second = sent("a@llm"), sent("b@llm")
    heavy = [sent("heavy@llm", port=number) for number in range(1, 200)]
    errors: list[Any] = []
    registry = DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT)
    with Served(registry) as served:
        for engine in (registry._database.engine, registry._database.readers):
            event.listen(engine, "handle_error", lambda context: errors.append(context.original_exception))

        async def at_once(verb: str, who: list[Any]) -> list[Any]:
            return await asyncio.gather(*(getattr(served.registry, verb)(registration) for registration in who))

        served.call(at_once("register", [first, second, *heavy]))
        for verb in ("heartbeat", "register"):
            errors.clear()
            with other_transaction(database) as cursor, ThreadPoolExecutor(1) as pool:
                if is_postgresql:
                    cursor.execute("SET LOCAL deadlock_timeout = '1min'")
                cursor.execute("UPDATE ctl_instance SET weight = weight + 1 WHERE model_name = 'heavy@llm'")
                cursor.execute("SELECT * FROM ctl_instance WHERE model_name = 'b@llm' FOR UPDATE")
                answers = pool.submit(served.call, at_once(verb, [first, second]))
                while not database.server.waits_for_locks():
                    pass
                cursor.execute("SELECT * FROM ctl_instance WHERE model_name = 'a@llm' FOR UPDATE")
                assert not answers.done()
                cursor.connection.commit()
                assert answers.result(PATIENCE_SECS) == [True if verb == "heartbeat" else None] * 2
            code_of = registry._database.dialect.error_code
            assert code_of(database.server.errors["deadlock"]) in map(code_of, errors)
        assert served.registry.health().ready


@contextmanager
def other_transaction(database: PrivateDatabase) -> Iterator[Any]:
    with closing(database.server.connect(database.name)) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")  # of the next one; PostgreSQL has no other
        cursor.execute("BEGIN")
        yield cursor
