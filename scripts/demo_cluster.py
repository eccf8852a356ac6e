"""A cluster for pictures: two real controllers over a MariaDB, workers that beat, and an hour that has been eventful.

Nobody waits an hour: each event is real, and the times in the database are set back afterwards.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, Registration
from dbgpt_ctl.domain.registry_outage import MAX_GAP
from tests.chaos.controllers import Controller, controllers
from tests.support.database_server import private_server
from tests.support.dbgpt_process import until
from tests.support.mariadb import MariaDBServer
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


DATABASE = "dbgpt"
MODELS = {
    "qwen3-32b@llm": 24,
    "qwen2.5-coder@llm": 18,
    "deepseek-r1@llm": 16,
    "glm-4-9b@llm": 12,
    "llama-3.3-70b@llm": 10,
    "minicpm-v@llm": 2,
    "bge-m3@text2vec": 20,
    "text2vec-large@text2vec": 8,
    "bge-reranker@reranker": 12,
    "WorkerManager@service": 8,
}
"""How many instances each model has."""
BEAT_SECS = 4.0
TIMEOUT_SECS = 20
"""The heartbeat timeout, and so the time for which states are held."""
SPREAD_SECS = 40
"""The events of one step are spread over so many seconds."""
ROUNDS_AGO = (57, 53, 48, 45, 38, 34, 31, 23, 20, 17, 11, 6)
"""Minutes since each time when some workers fell silent and came back."""
CHANCE = random.Random(7)  # noqa: S311 - the same picture each time


@dataclass
class DemoCluster:
    """What a browser needs of it. Its database can go away."""

    server: MariaDBServer
    controllers: list[Controller]
    operator_token: str
    reader_token: str
    workers: ControllerClient
    anna: ControllerClient
    pipeline: ControllerClient
    beating: set[InstanceKey] = field(default_factory=set)
    one_beat: threading.Lock = field(default_factory=threading.Lock)
    """Held while a heartbeat is on its way."""

    @property
    def url(self) -> str:
        """Of the controller whose console is shown."""
        return self.controllers[0].url

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Runs one statement in the database of the registry."""
        return self.server.execute(statement, DATABASE)

    def last_event(self) -> int:
        """The number of the newest event."""
        [[number]] = self.sql("SELECT last_event FROM ctl_stream")
        return int(str(number))

    @contextmanager
    def minutes_ago(self, minutes: float) -> Iterator[None]:
        """What happens in the block has happened then."""
        before = self.last_event()
        yield
        step = SPREAD_SECS / max(1, self.last_event() - before)
        ago = f"UTC_TIMESTAMP(6) - INTERVAL {int(minutes * 60)} SECOND"
        self.sql(f"UPDATE ctl_event SET at = {ago} + INTERVAL (id - {before}) * {step} SECOND WHERE id > {before}")
        self.sql(f"UPDATE ctl_instance SET drain_since = {ago} WHERE drain_since > UTC_TIMESTAMP() - INTERVAL 1 MINUTE")

    def fall_silent(self, keys: Sequence[InstanceKey]) -> None:
        """These instances have sent no heartbeat for five minutes, and are unhealthy."""
        self.beating -= set(keys)
        for key in keys:
            self.sql(f"UPDATE ctl_instance SET last_heartbeat = UTC_TIMESTAMP(6) - INTERVAL 5 MINUTE {_where(key)}")
        self.until_events_say(keys, InstanceState.UNHEALTHY)

    def beat_again(self, keys: Sequence[InstanceKey]) -> None:
        """They are healthy."""
        for key in keys:
            self.workers.heartbeat(Registration(key))
        self.beating |= set(keys)

    def until_events_say(self, keys: Sequence[InstanceKey], state: InstanceState) -> None:
        """Waits until the newest event of each tells this state."""
        for key in keys:
            newest = f"SELECT new_state FROM ctl_event {_where(key)} ORDER BY id DESC LIMIT 1"
            until(f"{state} {key}", lambda newest=newest: self.sql(newest) == [(str(state),)])  # type: ignore[misc]

    def drain(self, operator: ControllerClient, keys: Sequence[InstanceKey], reason: str, **options: Any) -> None:
        """Takes them out of service."""
        for key in keys:
            operator.drain(key, reason=reason, **options)

    def undrain(self, keys: Sequence[InstanceKey]) -> None:
        """Takes them back into service."""
        for key in keys:
            self.anna.undrain(key)

    def deregister(self, keys: Sequence[InstanceKey]) -> None:
        """Their workers end politely."""
        for key in keys:
            self.beating.discard(key)
            self.workers.deregister(key)

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Answers are stale in the block, and afterwards states are held, because the workers stay silent."""
        with self.one_beat:
            self.beating.clear()
        gone_at = time.monotonic()
        self.server.stop()
        yield
        until("outage that is long enough", lambda: time.monotonic() > gone_at + TIMEOUT_SECS + MAX_GAP.total_seconds())
        self.server.start()


def _where(key: InstanceKey) -> str:
    return f"WHERE model_name = '{key.model_name}' AND host = '{key.host}' AND port = {key.port}"


@contextmanager
def demo_cluster(folder: Path) -> Iterator[DemoCluster]:
    """The cluster after its hour. Its workers beat until the block is left."""
    tokens = folder / "tokens.toml"

    def token(name: str, role: str) -> str:
        return ctl("token", "create", name, "--role", role, "--tokens-file", str(tokens), "-q").out.strip()

    anna, pipeline, worker, reader = (
        token(name, role)
        for name, role in (("anna", "operator"), ("nightly", "operator"), ("gpu-east", "worker"), ("ben", "reader"))
    )
    ctl("auth", "mode", "enforce", "--tokens-file", str(tokens))
    options = ("--tokens-file", str(tokens), "--heartbeat-timeout-secs", str(TIMEOUT_SECS))
    with (
        private_server(MariaDBServer) as server,
        controllers(folder, [server], 2, *options, database=DATABASE) as both,
        _client(both[0], "gpu-east", worker) as workers,
        _client(both[0], "anna", anna) as as_anna,
        _client(both[0], "nightly", pipeline) as as_pipeline,
    ):
        cluster = DemoCluster(server, both, anna, reader, workers, as_anna, as_pipeline)
        with _beating(cluster):
            _live_an_hour(cluster)
            yield cluster


def _client(controller: Controller, name: str, token: str) -> ControllerClient:
    return ControllerClient(controller.url.replace("//", f"//{name}:{token}@"))


@contextmanager
def _beating(cluster: DemoCluster) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECS):
            for key in sorted(cluster.beating):
                with cluster.one_beat:
                    if key in cluster.beating and not over.is_set():
                        cluster.workers.heartbeat(Registration(key))

    thread = threading.Thread(target=beat, name="workers of the demo")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _keys() -> dict[str, list[InstanceKey]]:
    """The instances of each model, eight on one host."""
    found: dict[str, list[InstanceKey]] = {}
    count = 0
    for model_name, instances in MODELS.items():
        for _ in range(instances):
            host, slot = divmod(count, 8)
            found.setdefault(model_name, []).append(
                InstanceKey(model_name, f"10.20.{host // 10}.{host % 10 + 11}", 8001 + slot)
            )
            count += 1
    return found


def _live_an_hour(cluster: DemoCluster) -> None:
    keys = _keys()
    every = [key for found in keys.values() for key in found]
    with cluster.minutes_ago(3 * 60):
        for key in every:
            cluster.workers.register(Registration(key))
    cluster.sql("UPDATE ctl_instance SET registered_at = registered_at - INTERVAL 3 DAY")
    cluster.beating |= set(every)
    steps = {
        **_operations(cluster, keys),
        **_outages(cluster, [*keys["qwen2.5-coder@llm"], *keys["bge-m3@text2vec"][12:]]),
    }
    for minutes in sorted(steps, reverse=True):
        with cluster.minutes_ago(minutes):
            steps[minutes]()


def _outages(cluster: DemoCluster, some: list[InstanceKey]) -> dict[float, Callable[[], None]]:
    """What happens so many minutes ago: workers fall silent, and come back."""
    steps: dict[float, Callable[[], None]] = {}
    for minutes in ROUNDS_AGO:
        silent = CHANCE.sample(some, CHANCE.randint(2, 9))
        steps[minutes + 1.7] = partial(cluster.fall_silent, silent)
        steps[minutes + 0.1] = partial(cluster.beat_again, silent)
    return steps


def _operations(cluster: DemoCluster, keys: dict[str, list[InstanceKey]]) -> dict[float, Callable[[], None]]:
    """What happens so many minutes ago: it ends with all that is out of service now."""
    qwen, bge, reranker = keys["qwen3-32b@llm"], keys["bge-m3@text2vec"], keys["bge-reranker@reranker"]
    return {
        42: partial(cluster.drain, cluster.anna, qwen[8:16], "new driver on 10.20.0.12"),
        26: partial(cluster.undrain, qwen[8:14]),
        15: partial(cluster.drain, cluster.anna, keys["deepseek-r1@llm"][5:6], "ECC errors, ticket 4711"),
        13: partial(cluster.drain, cluster.pipeline, bge[3:4], "ping", duration=timedelta(minutes=30)),
        9: partial(cluster.deregister, reranker[-2:]),
        4: partial(cluster.fall_silent, [*keys["minicpm-v@llm"], *keys["glm-4-9b@llm"][:3]]),
        2: partial(cluster.fall_silent, [bge[11]]),
    }
