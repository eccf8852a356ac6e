"""The file in which the embedded registry outlives its process: JSON, written as a whole and put in place at once."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from dbgpt_ctl.domain.events import Actor, ActorKind, Cause, Change, Event
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, ModelInstance
from dbgpt_ctl.domain.registry_outage import Pulse
from dbgpt_ctl.errors import RegistryUnusable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

FORMAT = "dbgpt_ctl snapshot"
VERSION = 2
_READABLE = (1, VERSION)
_TIMES = ("registered_at", "last_heartbeat", "deregistered_at", "refused_at", "drained_at")
_FACTS = tuple(each.name for each in fields(ModelInstance) if each.name != "key")
_EVENT = ("id", "time", *InstanceKey._fields, "old", "new", "verb", "actor", "address", "reason")


@dataclass(frozen=True, slots=True)
class Saved:
    """All that a registry in memory knows. `stream` is None in a file of version 1, which knew of no events and not
    which states were told.
    """

    instances: tuple[ModelInstance, ...] = ()
    pulse: Pulse | None = None
    stream: str | None = None
    last_id: int = 0
    events: tuple[Event, ...] = ()
    complete: bool = False
    """Whether nothing happened after it: it was written when the registry was closed."""


class SnapshotFile:
    """Drains and tombstones are facts like all others, so they are in it too. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(f".{path.name}.new")

    def read(self) -> Saved:
        """What was written last; nothing when there is no file.

        A torn or foreign file is kept aside with a warning. Raises RegistryUnusable when it cannot be read or
        replaced.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = self.path.read_bytes() if self.path.exists() else None
            self._new.touch()  # said now, not when the first write fails
            self._new.unlink()
        except OSError as error:
            raise RegistryUnusable(
                f"snapshot {self.path} cannot be read and written: {error.strerror or error}"
            ) from None
        if text is None:
            return Saved()
        try:
            return _decoded(text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._put_aside(error)
            return Saved()

    def write(self, saved: Saved) -> None:
        """Replaces the file: whoever reads it, also after a crash, finds the old one or the new one. Raises OSError."""
        with self._new.open("wb") as file:
            file.write(_encoded(saved))
            file.flush()
            os.fsync(file.fileno())
        self._new.replace(self.path)

    def _put_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.unreadable")
        try:
            self.path.replace(aside)
        except OSError as failure:
            raise RegistryUnusable(
                f"snapshot {self.path} is unreadable and cannot be moved: {failure.strerror}"
            ) from None
        log.warning("snapshot %s is not one of ours (%s): kept as %s, starting empty", self.path, error, aside)


class SnapshotWriter:
    """Writes one at a time, in a thread: both would use the same new file. `state` tells what to write."""

    def __init__(self, file: SnapshotFile, state: Callable[[], Saved]) -> None:
        self._file = file
        self._state = state
        self._running: asyncio.Task[OSError | None] | None = None
        self._next: asyncio.Task[OSError | None] | None = None

    async def write(self) -> None:
        """All that was true before the call is in the file when it returns; calls that wait share one write.

        Raises OSError.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._write_after(self._running), name="snapshot")
        error = await asyncio.shield(self._next)  # whoever is cancelled leaves it to the others
        if error is not None:
            raise error

    async def _write_after(self, running: asyncio.Task[OSError | None] | None) -> OSError | None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None  # what changes from here on needs another write
        try:
            await asyncio.to_thread(self._file.write, self._state())
        except OSError as error:
            return error
        finally:
            self._running = None
        return None


def _encoded(saved: Saved) -> bytes:
    return orjson.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "pulse": asdict(saved.pulse) if saved.pulse else None,
            "columns": [*InstanceKey._fields, *_FACTS],
            "instances": [[*each.key, *(getattr(each, name) for name in _FACTS)] for each in saved.instances],
            "stream": saved.stream,
            "last_id": saved.last_id,
            "complete": saved.complete,
            "event_columns": _EVENT,
            "events": [_event_row(each.id, each.change) for each in saved.events],
        }
    )


def _event_row(number: int, change: Change) -> tuple[object, ...]:
    cause = change.cause
    return (number, change.time, *change.key, change.old, change.new, cause.verb, *cause.actor, cause.reason)


def _decoded(text: bytes) -> Saved:
    document = orjson.loads(text)
    if document["format"] != FORMAT or document["version"] not in _READABLE:
        raise ValueError(f"{document['format']!a} version {document['version']!a}")
    times: dict[str, Any] = {name: _time(value) for name, value in (document["pulse"] or {}).items()}
    instances = tuple(_instance(dict(zip(document["columns"], row, strict=True))) for row in document["instances"])
    pulse = Pulse(**times) if times else None
    if document["version"] == 1:
        return Saved(instances, pulse)
    columns = document["event_columns"]
    events = tuple(_event(dict(zip(columns, row, strict=True))) for row in document["events"])
    last_id = document["last_id"]
    if [each.id for each in events] != [last_id - behind for behind in reversed(range(len(events)))]:
        raise ValueError(f"events up to {last_id!a} whose ids do not follow on each other")
    return Saved(instances, pulse, document["stream"], last_id, events, document["complete"])


def _instance(row: dict[str, Any]) -> ModelInstance:
    key = InstanceKey(*(row.pop(name) for name in InstanceKey._fields))
    times = {name: _time(row[name]) for name in _TIMES if name in row}
    told = {"announced_state": InstanceState(row["announced_state"])} if "announced_state" in row else {}
    return ModelInstance(key, **row | times | told)


def _event(row: dict[str, Any]) -> Event:
    key = InstanceKey(*(row[name] for name in InstanceKey._fields))
    cause = Cause(row["verb"], Actor(ActorKind(row["actor"]), row["address"]), row["reason"])
    return Event(row["id"], Change(datetime.fromisoformat(row["time"]), key, row["old"], row["new"], cause))


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
