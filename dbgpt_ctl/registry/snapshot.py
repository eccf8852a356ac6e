"""The file in which the embedded registry outlives its process: JSON, written as a whole and put in place at once."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from dbgpt_ctl.errors import RegistryUnusable
from dbgpt_ctl.instance import InstanceKey, ModelInstance
from dbgpt_ctl.registry.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

FORMAT = "dbgpt_ctl snapshot"
VERSION = 1
_TIMES = ("registered_at", "last_heartbeat", "deregistered_at", "refused_at")
_FACTS = tuple(each.name for each in fields(ModelInstance) if each.name != "key")


class SnapshotFile:
    """Drains and tombstones are facts like all others, so they are in it too. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(f".{path.name}.new")

    def read(self) -> tuple[tuple[ModelInstance, ...], Pulse | None]:
        """The facts and the pulse at the last write; nothing when there is no file.

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
            return (), None
        try:
            return _decoded(text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._put_aside(error)
            return (), None

    def write(self, instances: Sequence[ModelInstance], pulse: Pulse | None) -> None:
        """Replaces the file: whoever reads it, also after a crash, finds the old one or the new one. Raises OSError."""
        with self._new.open("wb") as file:
            file.write(_encoded(instances, pulse))
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


def _encoded(instances: Sequence[ModelInstance], pulse: Pulse | None) -> bytes:
    rows = [[*each.key, *(getattr(each, name) for name in _FACTS)] for each in instances]
    columns = [*InstanceKey._fields, *_FACTS]
    told = asdict(pulse) if pulse else None
    return orjson.dumps({"format": FORMAT, "version": VERSION, "pulse": told, "columns": columns, "instances": rows})


def _decoded(text: bytes) -> tuple[tuple[ModelInstance, ...], Pulse | None]:
    document = orjson.loads(text)
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise ValueError(f"{document['format']!a} version {document['version']!a}")
    times: dict[str, Any] = {name: _time(value) for name, value in (document["pulse"] or {}).items()}
    instances = tuple(_instance(dict(zip(document["columns"], row, strict=True))) for row in document["instances"])
    return instances, Pulse(**times) if times else None


def _instance(row: dict[str, Any]) -> ModelInstance:
    key = InstanceKey(*(row.pop(name) for name in InstanceKey._fields))
    return ModelInstance(key, **row | {name: _time(row[name]) for name in _TIMES})


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
