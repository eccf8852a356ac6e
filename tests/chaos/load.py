"""Threads that call controllers until they are told to stop."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from threading import Event
from time import monotonic, time
from typing import TYPE_CHECKING

from tests.chaos.ledger import Fate, Ledger
from tests.chaos.wire import Instance, Reply, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Any, Self

RETRY_SECS = 0.02
PATIENCE_SECS = 60.0
"""No call is tried for longer: what takes that long will not come back."""
MOST_THREADS = 64


class Load:
    """Starts the threads; at its exit it stops them, and raises what one of them raised."""

    def __init__(self) -> None:
        self.stop = Event()
        self._threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="load")
        self._running: list[Future[Any]] = []

    def run(self, work: Callable[..., Any], *args: Any) -> None:
        self._running.append(self._threads.submit(work, self.stop, *args))

    def check(self) -> None:
        """Raises what a thread that ended raised."""
        for each in self._running:
            if each.done():
                each.result()

    def end(self) -> None:
        self.stop.set()
        self._threads.shutdown()
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop.set()
        self._threads.shutdown()
        if error is None:
            self.check()


def keep_registering(stop: Event, url: str, name: str, ledger: Ledger, pace: float = 0.0) -> None:
    """One instance after the other lives its life: registered; of each four one is then deregistered, one removed.

    Each call is repeated until it is acknowledged. Between two lives it waits `pace` seconds.
    """
    with Wire(url) as wire:
        for number in count():
            instance = Instance(f"{name}-{number}@llm")
            ledger.fates[instance.model_name] = _live(stop, wire, instance, ledger, number)
            if stop.wait(pace):
                return


def _live(stop: Event, wire: Wire, instance: Instance, ledger: Ledger, number: int) -> frozenset[Fate]:
    fate = Fate.ABSENT
    for wanted in (Fate.REGISTERED, *((), (), (Fate.DEREGISTERED,), (Fate.REMOVED,))[number % 4]):
        if not acknowledged(stop, partial(_make, wire, instance, wanted), ledger):
            return frozenset({fate, wanted})
        fate = wanted
    return frozenset({fate})


def _make(wire: Wire, instance: Instance, fate: Fate) -> Reply:
    if fate is Fate.REGISTERED:
        return wire.register(instance)
    return wire.deregister(instance, remove=fate is Fate.REMOVED)


def acknowledged(stop: Event, call: Callable[[], Reply], ledger: Ledger) -> bool:
    """Repeats a call until it is acknowledged. False when it was told to stop before."""
    started = monotonic()
    while True:
        reply = call()
        if reply.is_acknowledged:
            ledger.pauses.append(monotonic() - started)
            return True
        ledger.failures.append(reply)
        assert reply.status in {0, 503}, f"neither true nor 503: {reply}"
        assert monotonic() - started < PATIENCE_SECS, f"not acknowledged in {PATIENCE_SECS:.0f} s: {reply}"
        if stop.wait(RETRY_SECS):
            return False


@dataclass
class Worker:
    """A worker that beats, and what it was told. Of its controllers it asks the one that answered last."""

    instance: Instance
    urls: Sequence[str]
    interval: float = 1.0
    ledger: Ledger = field(default_factory=Ledger)
    beaten_at: float = 0.0
    """When it sent its last beat that was acknowledged, in seconds of this machine's clock."""
    refusals: list[Reply] = field(default_factory=list)
    """Answers that were not 200."""

    def beat(self, stop: Event) -> None:
        wires = [Wire(url) for url in self.urls]
        try:
            while True:
                sent_at = time()
                reply = wires[0].heartbeat(self.instance)
                if reply.is_acknowledged:
                    self.beaten_at = sent_at
                    self.ledger.pauses.append(reply.seconds)
                else:
                    assert reply.status in {0, 503}, f"a beat of {self.instance.model_name}: {reply}"
                    self.refusals.append(reply)
                    wires.append(wires.pop(0))
                if stop.wait(self.interval):
                    return
        finally:
            for wire in wires:
                wire.__exit__(None, None, None)


@dataclass
class Watcher:
    """Asks for the routable instances of one model over and over, as API servers do, and notes what it sees."""

    url: str
    model_name: str
    pace: float = 0.05
    others: Sequence[str] = ()
    """The controllers that it asks when that one does not answer, as API servers do that have several addresses."""
    lists: int = 0
    stale: int = 0
    held: int = 0
    longest: float = 0.0
    failures: list[Reply] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    """Who was in the last list."""
    missed: list[str] = field(default_factory=list)
    """Each time one of `wanted` was not there, or one of `unwanted` was: when, and who."""
    wanted: set[int] = field(default_factory=set)
    """The ports of those who must be in every list."""
    unwanted: set[int] = field(default_factory=set)
    """The ports of those who must be in none."""

    def watch(self, stop: Event) -> None:
        started = monotonic()
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(url)) for url in (self.url, *self.others)]
            while not stop.wait(self.pace):
                # Who is about to die is not wanted already, and only who was dead before may not be there.
                wanted, unwanted = self.wanted.copy(), self.unwanted.copy()
                for wire in wires:
                    reply = wire.list(self.model_name, healthy_only=True)
                    if reply.status == 200:
                        break
                self.lists += 1
                self.longest = max(self.longest, reply.seconds)
                if reply.status != 200:
                    self.failures.append(reply)
                    continue
                self.stale += reply.is_stale
                self.held += reply.is_held
                self.ports = {each["port"] for each in json.loads(reply.body)}
                wrong = ((wanted & self.wanted) - self.ports) | (unwanted & self.ports)
                if wrong:
                    self.missed.append(f"{monotonic() - started:.2f} s: {sorted(wrong)}, {reply}")
