"""A small cluster under load: workers that beat, workers that come and go, and API servers that ask who is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING

from tests.chaos.controllers import DATABASE
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load, Watcher, Worker, keep_registering
from tests.chaos.wire import Instance, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.controllers import Controller
    from tests.support.database_server import DatabaseServer

MODEL = "steady@llm"
INTERVAL_SECS = 1.0
TIMEOUT_SECS = 10.0
OPTIONS = ("--heartbeat-interval-secs", f"{INTERVAL_SECS:g}", "--heartbeat-timeout-secs", f"{TIMEOUT_SECS:g}")
"""For `ctl serve`: expiry is waited for here, so it is shorter than an operator would set it."""
WORKERS = 12
DEAD, DYING = 9001, 9002
"""Ports of a worker that was dead before anything happened, and of one that dies when it does."""


@dataclass
class Cluster:
    """`begin` starts the load within `load`, which the caller enters and leaves."""

    controllers: Sequence[Controller]
    load: Load
    ledger: Ledger = field(default_factory=Ledger)
    workers: list[Worker] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    watchers_fail_over: bool = False
    """Whether an API server asks another controller when its own does not answer."""

    def begin(self, *, pace: float = 0.05) -> None:
        """Returns when all workers are listed everywhere and the dead one no longer is."""
        urls = [each.url for each in self.controllers]
        with Wire(urls[0]) as wire:
            assert wire.register(Instance(MODEL, DEAD)).is_acknowledged
        for number in range(WORKERS):
            own = [*urls[number % len(urls) :], *urls[: number % len(urls)]]
            self.workers.append(Worker(Instance(MODEL, 8001 + number), own, INTERVAL_SECS))
            self.load.run(self.workers[-1].beat)
        for url in urls:
            others = [other for other in urls if other != url and self.watchers_fail_over]
            self.watchers.append(Watcher(url, MODEL, others=others))
            self.load.run(self.watchers[-1].watch)
            for number in range(2):
                self.load.run(keep_registering, url, f"passing-{len(self.watchers)}-{number}", self.ledger, pace)
        self.until("all workers in every list", lambda: all(each.ports == self.ports for each in self.watchers))
        sleep(3 * INTERVAL_SECS)  # the last known list, which may have to answer, is at most one interval old (rule 10)
        for each in self.watchers:
            each.wanted |= self.ports
            each.unwanted.add(DEAD)

    @property
    def ports(self) -> set[int]:
        """Of the workers that beat."""
        return {each.instance.port for each in self.workers}

    def last_words(self) -> None:
        """One more worker registers, beats no more, and is no longer wanted."""
        with Wire(self.controllers[-1].url) as wire:
            assert wire.register(Instance(MODEL, DYING)).is_acknowledged

    def until(self, what: str, seen: Callable[[], bool], seconds: float = 30.0) -> float:
        """Waits for it and returns how long that took."""
        started = monotonic()
        while not seen():
            self.load.check()
            assert monotonic() - started < seconds, f"no {what} within {seconds:g} s"
            sleep(0.01)
        return monotonic() - started

    def until_all_beat_again(self) -> float:
        """Each worker has had a beat acknowledged that it sent after this was called."""
        before = {each.instance.port: len(each.ledger.pauses) for each in self.workers}
        return self.until(
            "beats of all workers",
            lambda: all(len(each.ledger.pauses) > before[each.instance.port] + 1 for each in self.workers),
        )

    def until_well(self) -> float:
        """Every controller answers from its database again, and says that nothing is wrong."""
        return self.until("healthy controllers", lambda: all(self._is_well(each) for each in self.controllers))

    @staticmethod
    def _is_well(controller: Controller) -> bool:
        with Wire(controller.url, timeout=5) as wire:
            return wire.health().body == b'{"status":"ok"}' and not wire.list(MODEL).is_stale

    @property
    def failed_lists(self) -> list[str]:
        return [str(failure) for each in self.watchers for failure in each.failures]

    @property
    def wrong_lists(self) -> list[str]:
        """Lists without one who beats, or with one who was dead."""
        assert all(each.lists > 50 for each in self.watchers), "nobody watched"
        return [missed for each in self.watchers for missed in each.missed]

    @property
    def acknowledged(self) -> int:
        """Registers, deregisters and beats."""
        return self.ledger.acknowledged + sum(each.ledger.acknowledged for each in self.workers)

    @property
    def disturbances(self) -> dict[str, float]:
        """What callers noticed, for `Figures.summary`."""
        return {
            "longest_pause_secs": self.ledger.longest_pause,
            "failed_calls": len(self.ledger.failures) + sum(len(each.refusals) for each in self.workers),
            "failed_lists": len(self.failed_lists),
            "longest_list_secs": max(each.longest for each in self.watchers),
            "wrong_lists": len(self.wrong_lists),
        }

    def unstored_beats(self, server: DatabaseServer) -> list[str]:
        """Beats that were acknowledged and are not stored. The server has this machine's clock."""
        rows = server.read_latest(
            f"SELECT port, last_heartbeat FROM ctl_instance WHERE model_name = '{MODEL}'", DATABASE
        )
        stored = {port: at.replace(tzinfo=UTC) for port, at in rows if isinstance(at, datetime)}
        return [
            f"port {each.instance.port}: {stored.get(each.instance.port)}, acknowledged {each.beaten_at}"
            for each in self.workers
            if each.instance.port not in stored or stored[each.instance.port].timestamp() < each.beaten_at
        ]
