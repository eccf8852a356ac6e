"""The three surfaces on which one story is told: the registry itself, the client over HTTP, and `ctl` as a real
process.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.controller.http.serializers import wire_object
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clock import ManualClock

TIMEOUT_SECS = 60


class Surface(Protocol):
    """The verbs as a reader of the story knows them."""

    def register(self, ref: str, **fields: Any) -> None: ...

    def heartbeat(self, ref: str) -> bool: ...

    def deregister(self, ref: str, *, remove: bool = False) -> bool: ...

    def list(self, *, healthy_only: bool = False) -> dict[str, dict[str, Any]]:
        """By reference, each instance as the wire shows it."""
        ...


def key_of(ref: str) -> InstanceKey:
    name, _, place = ref.rpartition("/")
    host, _, port = place.rpartition(":")
    return InstanceKey(name, host, int(port))


def by_reference(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{each['model_name']}/{each['host']}:{each['port']}": each for each in objects}


class OnRegistry:
    def __init__(self, registry: EmbeddedModelRegistry) -> None:
        self._registry = registry

    def register(self, ref: str, **fields: Any) -> None:
        asyncio.run(self._registry.register(Registration(key_of(ref), **fields)))

    def heartbeat(self, ref: str) -> bool:
        return asyncio.run(self._registry.heartbeat(Registration(key_of(ref))))

    def deregister(self, ref: str, *, remove: bool = False) -> bool:
        return asyncio.run(self._registry.deregister(key_of(ref), remove=remove))

    def list(self, *, healthy_only: bool = False) -> dict[str, dict[str, Any]]:
        listing = asyncio.run(self._registry.list(healthy_only=healthy_only))
        return by_reference([wire_object(entry) for entry in listing.entries])


class OnClient:
    def __init__(self, client: ControllerClient) -> None:
        self._client = client

    def register(self, ref: str, **fields: Any) -> None:
        self._client.register(Registration(key_of(ref), **fields))

    def heartbeat(self, ref: str) -> bool:
        return self._client.heartbeat(Registration(key_of(ref)))

    def deregister(self, ref: str, *, remove: bool = False) -> bool:
        return self._client.deregister(key_of(ref), remove=remove)

    def list(self, *, healthy_only: bool = False) -> dict[str, dict[str, Any]]:
        return by_reference(self._client.list(healthy_only=healthy_only).objects)


class OnCommandLine:
    """Answers are read from the exit code (4: not found, 6: refused) and from `-o json`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def register(self, ref: str, **fields: Any) -> None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in fields.items()]
        assert self._run("register", ref, *flags)[0] == 0

    def heartbeat(self, ref: str) -> bool:
        return {0: True, 6: False}[self._run("heartbeat", ref)[0]]

    def deregister(self, ref: str, *, remove: bool = False) -> bool:
        return {0: True, 4: False}[self._run("deregister", ref, *["--remove"] * remove)[0]]

    def list(self, *, healthy_only: bool = False) -> dict[str, dict[str, Any]]:
        code, out = self._run("list", "-o", "json", *["--healthy-only"] * healthy_only)
        assert code == 0
        return by_reference(json.loads(out))

    def _run(self, verb: str, *args: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "dbgpt_ctl", "models", verb, *args, "--address", self._url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout


@contextmanager
def on_registry(clock: ManualClock) -> Iterator[Surface]:
    yield OnRegistry(_registry(clock))


@contextmanager
def on_client(clock: ManualClock) -> Iterator[Surface]:
    with running_controller(_registry(clock)) as url, ControllerClient(url) as client:
        yield OnClient(client)


@contextmanager
def on_command_line(clock: ManualClock) -> Iterator[Surface]:
    with running_controller(_registry(clock)) as url:
        yield OnCommandLine(url)


def _registry(clock: ManualClock) -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=clock, heartbeat_timeout=timedelta(seconds=TIMEOUT_SECS))


SURFACES: dict[str, Callable[[ManualClock], Any]] = {
    "registry": on_registry,
    "client": on_client,
    "ctl": on_command_line,
}
