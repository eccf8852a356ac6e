"""The registry behind another controller: every call is forwarded to it, and its answers are served."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client import AsyncControllerClient
from dbgpt_ctl.client.models import read_time, reported_state
from dbgpt_ctl.domain.events import OPERATOR, WORKER, ActorKind
from dbgpt_ctl.domain.instance import InstanceState, ListedInstance, ModelInstance, Registration
from dbgpt_ctl.errors import (
    ControllerError,
    ControllerRefused,
    InvalidInstance,
    NotAllowed,
    NotFound,
    NotSupported,
    RegistryError,
    RegistryFull,
    RegistryUnavailable,
    RegistryUnusable,
    VerbNotSupported,
)
from dbgpt_ctl.registry.contract import Listing, Lookup, ModelRegistry, RegistryHealth, RegistryInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import timedelta

    from dbgpt_ctl.client import KnownInstance
    from dbgpt_ctl.domain.events import Actor, EventPage
    from dbgpt_ctl.domain.instance import InstanceKey

NEVER = datetime.fromtimestamp(0, UTC)
"""The beat of an instance that DB-GPT's controller reports without one: ours has no null there."""


class RemoteModelRegistry(ModelRegistry):
    """Forwards to one or more controllers, this package's or DB-GPT's own, as `client.ControllerClient` does.

    It keeps those promises that the controller behind it keeps. In a list the nine keys of the wire tell less than
    facts: what is deregistered shows as unhealthy, and `registered_at` is the last beat; `get` tells all. Of the actor
    of a call only the kind is passed on, its address becomes this host's. DB-GPT's own controller does not know get,
    drain, undrain, prune and events: they raise VerbNotSupported. What DB-GPT's own lists and this package's
    never would (a name without `@`, a second row of one identity, a drained instance as routable) is left out.

    `timeout`, in seconds, bounds every call. The default lets a DB-GPT client, which gives up at 5 s, still hear why.
    Once closed, it cannot be opened again.
    """

    def __init__(self, client: AsyncControllerClient | str, *, timeout: float = 4.5, trust_env: bool = False) -> None:
        if isinstance(client, str):
            advice = "check CONTROLLER_REMOTE_ADDR"
            client = AsyncControllerClient(client, timeout=timeout, trust_env=trust_env, advice=advice)
        self._client = client
        self._operator = client.acting_as(ActorKind.OPERATOR)
        self._address = client.address
        self._closed = False
        self._health = RegistryHealth(ready=False, reason="the controller behind this one was not asked yet")

    async def open(self) -> None:
        """Raises RegistryUnavailable when no controller is up, RegistryUnusable when all want other credentials."""
        self._refuse_closed()
        answers = await self._client.health()
        if any(answer.ok for answer in answers):
            self._note(None)
            return
        reason = "no controller behind this one is up: " + "; ".join(
            f"{each.controller}: {each.detail}" for each in answers
        )
        self._note(reason)
        if all(answer.status in {401, 403} for answer in answers):
            raise RegistryUnusable(f"{reason}; put user:token@ into CONTROLLER_REMOTE_ADDR")
        raise RegistryUnavailable(reason)

    async def close(self) -> None:
        self._closed = True
        self._health = RegistryHealth(ready=False, reason="the registry is closed")
        await self._client.aclose()

    def health(self) -> RegistryHealth:
        """The outcome of the last `open` or `list`: whoever watches it has to list from time to time."""
        return self._health

    def describe(self) -> RegistryInfo:
        """`durable`: not for this process to lose; the controller behind it knows whether it may."""
        return RegistryInfo("remote", self._address, durable=True)

    async def register(self, sent: Registration, *, actor: Actor = WORKER) -> None:
        with self._forwarding():
            await self._as(actor).register(sent)

    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        with self._forwarding():
            return await self._as(actor).deregister(key, remove=remove)

    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        with self._forwarding():
            return await self._as(actor).heartbeat(sent)

    async def get(self, key: InstanceKey) -> Lookup | None:
        """`held_until` is None: /api/v1 does not report it of one instance."""
        with self._forwarding(), suppress(NotFound):
            return _lookup(await self._client.get(key))
        return None

    async def drain(self, key: InstanceKey, *, reason: str | None = None, actor: Actor = OPERATOR) -> Lookup | None:
        with self._forwarding(), suppress(NotFound):
            return _lookup((await self._as(actor).drain(key, reason=reason)).instance)
        return None

    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        with self._forwarding(), suppress(NotFound):
            return _lookup((await self._as(actor).undrain(key)).instance)
        return None

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        with self._forwarding():
            return tuple(await self._as(actor).prune(older_than, dry_run=dry_run))

    async def events(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        key: InstanceKey | None = None,
        limit: int = 1000,
    ) -> EventPage:
        name, host, port = key or (None, None, None)
        with self._forwarding():
            return await self._client.events(
                after=after, since=since, model_name=name, host=host, port=port, limit=limit
            )

    async def announce(self) -> None:
        """The controller behind it does."""

    def _as(self, actor: Actor) -> AsyncControllerClient:
        return self._operator if actor.kind is ActorKind.OPERATOR else self._client

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        try:
            with self._forwarding():
                answer = await self._client.list(model_name, healthy_only=healthy_only)
        except RegistryError as error:
            self._note(str(error))
            raise
        self._note(None)
        entries = _entries(answer.objects, model_name, healthy_only=healthy_only)
        return Listing(entries, stale_since=answer.stale_since, held_until=answer.held_until, time=answer.registry_time)

    def _note(self, failure: str | None) -> None:
        if not self._closed:
            self._health = RegistryHealth(ready=failure is None, reason=failure)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RegistryUnavailable("the registry is closed")

    @contextmanager
    def _forwarding(self) -> Iterator[None]:
        self._refuse_closed()
        try:
            yield
        except ControllerError as error:
            if self._closed:
                raise RegistryUnavailable("the registry is closed") from None
            raise _as_registry_error(error) from None


def _as_registry_error(error: ControllerError) -> RegistryError:
    """What a client meets, told as a registry's trouble. A controller that fails is one that may recover."""
    message = f"the controller behind this one: {error}"
    match error:
        case NotAllowed():
            return RegistryUnusable(message)
        case ControllerRefused(problem_code=RegistryFull.code):
            return RegistryFull(message)
        case NotSupported():
            return VerbNotSupported(message)
        case ControllerRefused():
            return RegistryError(message)
        case _:
            return RegistryUnavailable(message)


def _entries(
    objects: Iterable[Mapping[str, Any]], model_name: str | None, *, healthy_only: bool
) -> tuple[ListedInstance, ...]:
    """In order of identity, one of each: of two rows of DB-GPT's table, a routable one, or the one that beat last."""
    listed = [entry for each in objects if (entry := _entry(each)) is not None]
    listed.sort(
        key=lambda entry: (entry.instance.key, entry.state is InstanceState.HEALTHY, entry.instance.last_heartbeat)
    )
    by_key = {entry.instance.key: entry for entry in listed}
    return tuple(
        entry
        for entry in by_key.values()
        if (model_name is None or entry.instance.key.model_name == model_name)
        and (not healthy_only or entry.state is InstanceState.HEALTHY)
    )


def _entry(reported: Mapping[str, Any]) -> ListedInstance | None:
    try:
        facts = Registration.parse(reported)
    except InvalidInstance:
        return None
    beat = read_time(reported.get("last_heartbeat"))
    last_heartbeat = NEVER if beat is None else beat.astimezone(UTC)
    instance = ModelInstance(
        key=facts.key,
        weight=facts.weight,
        check_healthy=facts.check_healthy,
        enabled=facts.enabled,
        prompt_template=facts.prompt_template,
        registered_at=last_heartbeat,
        last_heartbeat=last_heartbeat,
    )
    return ListedInstance(instance, reported_state(healthy=reported.get("healthy") is True, enabled=facts.enabled))


def _lookup(told: KnownInstance) -> Lookup:
    beat = told.last_heartbeat or NEVER
    instance = ModelInstance(
        key=told.key,
        weight=told.weight,
        check_healthy=told.check_healthy,
        enabled=told.enabled,
        prompt_template=told.prompt_template,
        registered_at=told.registered_at or beat,
        last_heartbeat=beat,
        deregistered_at=told.deregistered_at,
        refused_at=told.refused_at,
        drained_at=told.drained_at,
        drained_by=told.drained_by,
        drain_reason=told.drain_reason,
        announced_state=told.state,
        flaps=told.flaps,
        removed=told.removed,
    )
    return Lookup(ListedInstance(instance, told.state), told.time)
