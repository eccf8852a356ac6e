"""The snapshot of the embedded registry: a JSON file with which its facts and events outlive the process.

The file is written as a whole and put in place in one step.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from dbgpt_ctl.domain.events import Actor, ActorKind, Cause, Change, Event
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState, ModelInstance
from dbgpt_ctl.domain.registry_outage import Pulse
from dbgpt_ctl.errors import RegistryUnusable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

FORMAT = "dbgpt_ctl snapshot"
VERSION = 1
_TIMES = ("registered_at", "last_heartbeat", "deregistered_at", "refused_at")
_EVENT = ("id", "time", *InstanceKey._fields, "old", "new", "verb", "actor", "address", "reason", "drained")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state of an embedded registry. `stream` is None where there is no file."""

    instances: tuple[ModelInstance, ...] = ()
    pulse: Pulse | None = None
    stream: str | None = None
    last_id: int = 0
    events: tuple[Event, ...] = ()
    complete: bool = False
    """Whether no change followed it: it was written when the registry was closed."""


class SnapshotFile:
    """The file. It holds all facts, so drains and tombstones too. `read` and `write` block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(f".{path.name}.new")
        self._running: asyncio.Task[OSError | None] | None = None
        self._next: asyncio.Task[OSError | None] | None = None

    def read(self) -> Snapshot:
        """The last snapshot; an empty one when there is no file.

        A torn or foreign file is renamed, with a warning. Raises RegistryUnusable when the file cannot be read or
        replaced.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = self.path.read_bytes() if self.path.exists() else None
            self._new.touch()  # a folder without write access is an error now, not at the first write
            self._new.unlink()
        except OSError as error:
            raise RegistryUnusable(
                f"snapshot {self.path} cannot be read and written: {error.strerror or error}"
            ) from None
        if text is None:
            return Snapshot()
        try:
            return _decoded(text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._put_aside(error)
            return Snapshot()

    def write(self, snapshot: Snapshot) -> None:
        """Replaces the file: every reader, also after a crash, finds the old one or the new one. Raises OSError."""
        with self._new.open("wb") as file:
            file.write(_encoded(snapshot))
            file.flush()
            os.fsync(file.fileno())
        self._new.replace(self.path)

    async def write_latest(self, state: Callable[[], Snapshot]) -> OSError | None:
        """Writes `state()` in a thread. When it returns None, the file holds every change before the call.

        Concurrent calls share one write, and only one runs at a time: two would use the same new file.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._write_after(self._running, state), name="snapshot")
        return await asyncio.shield(self._next)  # the other callers still need the write when this one is cancelled

    async def _write_after(
        self, running: asyncio.Task[OSError | None] | None, state: Callable[[], Snapshot]
    ) -> OSError | None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None  # a change from here on needs another write
        try:
            await asyncio.to_thread(self.write, state())
        except OSError as error:
            return error
        finally:
            self._running = None
        return None

    def _put_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.unreadable")
        try:
            self.path.replace(aside)
        except OSError as failure:
            raise RegistryUnusable(
                f"snapshot {self.path} is unreadable and cannot be moved: {failure.strerror}"
            ) from None
        log.warning("snapshot %s is not one of ours (%s): kept as %s, starting empty", self.path, error, aside)


def _encoded(snapshot: Snapshot) -> bytes:
    return orjson.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "pulse": asdict(snapshot.pulse) if snapshot.pulse else None,
            "columns": [*InstanceKey._fields, *ModelInstance._fields[1:]],
            "instances": [[*key, *facts] for key, *facts in snapshot.instances],
            "stream": snapshot.stream,
            "last_id": snapshot.last_id,
            "complete": snapshot.complete,
            "event_columns": _EVENT,
            "events": [_event_row(event.id, event.change) for event in snapshot.events],
        },
        default=tuple,  # the facts of a drain
    )


def _event_row(number: int, change: Change) -> tuple[object, ...]:
    cause = change.cause
    return (
        number,
        change.time,
        *change.key,
        change.old,
        change.new,
        cause.verb,
        *cause.actor,
        cause.reason,
        change.drained,
    )


def _decoded(text: bytes) -> Snapshot:
    document = orjson.loads(text)
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise ValueError(f"{document['format']!a} version {document['version']!a}")
    times: dict[str, Any] = {name: _time(value) for name, value in (document["pulse"] or {}).items()}
    instances = tuple(_instance(dict(zip(document["columns"], row, strict=True))) for row in document["instances"])
    pulse = Pulse(**times) if times else None
    columns = document["event_columns"]
    events = tuple(_event(dict(zip(columns, row, strict=True))) for row in document["events"])
    last_id = document["last_id"]
    if [event.id for event in events] != [last_id - behind for behind in reversed(range(len(events)))]:
        raise ValueError(f"events up to {last_id!a} whose ids do not follow on each other")
    return Snapshot(instances, pulse, document["stream"], last_id, events, document["complete"])


def _instance(row: dict[str, Any]) -> ModelInstance:
    key = InstanceKey(*(row.pop(name) for name in InstanceKey._fields))
    times = {name: _time(row[name]) for name in _TIMES}
    announced = InstanceState(row["announced_state"])
    return ModelInstance(key, **row | times | {"drain": _drain(row["drain"]), "announced_state": announced})


def _drain(values: list[str | None] | None) -> DrainFacts | None:
    if values is None:
        return None
    since, by, reason, until = values
    return DrainFacts(_time(since), by, reason, _time(until))


def _event(row: dict[str, Any]) -> Event:
    key = InstanceKey(*(row[name] for name in InstanceKey._fields))
    cause = Cause(row["verb"], Actor(ActorKind(row["actor"]), row["address"]), row["reason"])
    time = datetime.fromisoformat(row["time"])
    return Event(row["id"], Change(time, key, row["old"], row["new"], cause, row["drained"]))


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
