"""Which instances the refused heartbeats belong to.

A request without a valid token is refused before its body is read, so only its source is known. It is compared with the
host of an instance where that is an address. A name is not looked up: it may have another meaning at the controller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.auth.tokens import Reason
from dbgpt_ctl.domain.hosts import addresses_of
from dbgpt_ctl.text.escaping import escaped
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.wire.auth import RefusedWorkerObject
    from dbgpt_ctl.wire.status import Status


class Refused(NamedTuple):
    """A worker that a controller refuses."""

    controller: str
    """Its URL."""
    status: Status
    worker: RefusedWorkerObject

    @property
    def place(self) -> tuple[str, RefusedWorkerObject]:
        """The worker and the controller, which can be a key."""
        return self.controller, self.worker


class RefusedHeartbeats:
    """The workers that the controllers refuse. Each controller counts for itself, and all of them count here."""

    def __init__(self, controllers: Iterable[tuple[str, Status]]) -> None:
        self.all = tuple(
            Refused(url, status, worker)
            for url, status in controllers
            if status.auth
            for worker in status.auth.refused_workers
        )
        self._found: dict[InstanceKey | str, list[Refused]] = {}
        """By instance where it is known, else by the spellings of the source."""
        for refused in self.all:
            key, source = refused.worker.key, refused.worker.source or ""
            for place in {source, *map(str, addresses_of(source))} if key is None else (key,):
                self._found.setdefault(place, []).append(refused)

    def of(self, key: InstanceKey, silent_for: timedelta | None) -> list[Refused]:
        """Those of this instance or from its host, since its last heartbeat, which is `silent_for` ago."""
        host = key.host.removeprefix("[").removesuffix("]")
        found = (refused for place in (key, host) for refused in self._found.get(place, ()))
        return [refused for refused in found if silent_for is None or refused.worker.age <= silent_for]


def refused_text(refused: Sequence[Refused]) -> str:
    """How many heartbeats were refused, from where, when the last one was, and why."""
    workers = [each.worker for each in refused]
    number = sum(worker.count for worker in workers)
    sources = ", ".join(dict.fromkeys(escaped(worker.source or "a Unix socket") for worker in workers))
    reasons = ", ".join(dict.fromkeys(map(_reason_text, workers)))
    last = duration_text(min(worker.age for worker in workers).total_seconds())
    if number == 1:
        return f"1 heartbeat from {sources} was refused {last} ago: {reasons}"
    return f"{number:,} heartbeats from {sources} were refused, the last one {last} ago: {reasons}"


def _reason_text(worker: RefusedWorkerObject) -> str:
    phrase = next((reason.phrase for reason in Reason if reason == worker.reason), escaped(worker.reason))
    return f"{phrase} ({escaped(worker.token)})" if worker.token else phrase
