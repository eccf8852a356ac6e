"""The kinds of registry that one contract binds."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import URL

from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.remote import RemoteModelRegistry
from tests.support.clock import ManualClock
from tests.support.database_server import SERVERS
from tests.support.observer import RecordingObserver
from tests.support.server import running_controller

if TYPE_CHECKING:
    from pathlib import Path

    from dbgpt_ctl.domain.events import Actor, Change
    from dbgpt_ctl.domain.instance import ListedInstance
    from dbgpt_ctl.registry.contract import ModelRegistry

TIMEOUT = timedelta(seconds=60)
DATABASES = ("sqlite", *SERVERS)
KINDS = ("embedded", *DATABASES, "remote")


@dataclass
class Backend:
    """Opens registries of one kind, all with the same clock. Registries in a database share the database."""

    kind: str
    folder: Path
    server_url: URL | None = None
    clock: ManualClock = field(default_factory=ManualClock)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    deciding: list[ModelRegistry] = field(default_factory=list)
    """The registries that hold the facts; of a remote one, the registry behind its controller."""
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    """Of all the registries together, the remote ones too."""

    async def open(self, *, max_instances: int = 100, watch_absence: bool = False) -> ModelRegistry:
        """Ready to use; closed with the test."""
        registry = self.create(max_instances=max_instances, watch_absence=watch_absence)
        await registry.open()
        self.stack.push_async_callback(registry.close)
        return registry

    def create(self, *, max_instances: int = 100, watch_absence: bool = False) -> ModelRegistry:
        """Not opened yet."""
        if self.kind in DATABASES:
            database = DatabaseModelRegistry(
                self.url,
                heartbeat_timeout=TIMEOUT,
                max_instances=max_instances,
                clock=self.clock,
                watch_absence=watch_absence,
                observer=self.observer,
            )
            self.deciding.append(database)
            return database
        embedded = EmbeddedModelRegistry(
            clock=self.clock,
            heartbeat_timeout=TIMEOUT,
            max_instances=max_instances,
            watch_absence=watch_absence,
            observer=self.observer,
        )
        self.deciding.append(embedded)
        if self.kind == "embedded":
            return embedded
        url = self.stack.enter_context(running_controller(embedded))
        return RemoteModelRegistry(url, observer=self.observer)

    async def announce(self) -> None:
        """Does what a registry that watches its absence does every second by itself."""
        for registry in self.deciding:
            await registry.announce()

    def reported_actor(self, actor: Actor) -> Actor:
        """The actor in events of this kind of registry: behind a controller, calls come from the controller, which
        sends no token here.
        """
        return actor._replace(address="127.0.0.1", name=None) if self.kind == "remote" else actor

    @property
    def url(self) -> URL:
        """Where the database is."""
        return self.server_url or URL.create("sqlite", database=str(self.folder / "new" / "ctl.db"))


def sent(
    model_name: str = "qwen@llm",
    host: str = "10.0.0.4",
    port: int = 8001,
    *,
    weight: float = 1.0,
    check_healthy: bool = True,
    enabled: bool = True,
    prompt_template: str | None = None,
) -> Registration:
    """A registration with what matters to the test spelled out."""
    return Registration(InstanceKey(model_name, host, port), weight, check_healthy, enabled, prompt_template)


async def only(registry: ModelRegistry) -> ListedInstance:
    """The one instance that is listed."""
    (entry,) = (await registry.list()).entries
    return entry


async def states(
    registry: ModelRegistry, model_name: str | None = None, *, healthy_only: bool = False
) -> list[tuple[str, str]]:
    """Each listed instance as its reference and state, with ",drained" if it is drained."""
    listing = await registry.list(model_name, healthy_only=healthy_only)
    return [
        (str(entry.instance.key), with_drain(entry.state, drained=entry.drain is not None)) for entry in listing.entries
    ]


def with_drain(state: str, *, drained: bool) -> str:
    """As tables show it."""
    return f"{state},drained" if drained else str(state)


async def changes(registry: ModelRegistry, *, after: int | None = None) -> list[Change]:
    """The changes in all events, in order."""
    return [event.change for event in (await registry.events(after=after)).events]


async def transitions(registry: ModelRegistry) -> list[tuple[str, str, str]]:
    """Each event as its old state, its new state with ",drained" if it is drained then, and its verb."""
    return [
        (change.old, with_drain(change.new, drained=change.drained), change.cause.verb)
        for change in await changes(registry)
    ]
