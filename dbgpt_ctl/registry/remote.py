"""The registry behind another controller: it forwards every call to that controller and returns its answers."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.background import BackgroundTasks
from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.client.results import read_time, shown_state
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.domain.events import OPERATOR, WORKER, ActorKind
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.domain.instance import ListedInstance, ModelInstance, Registration
from dbgpt_ctl.errors import (
    ControllerError,
    ControllerRefused,
    CtlError,
    ForwardsToItself,
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
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.registry.contract import NO_OBSERVER, Listing, Lookup, ModelRegistry, RegistryHealth, RegistryInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from dbgpt_ctl.client.results import Inventory, KnownInstance
    from dbgpt_ctl.domain.events import Actor, EventPage, EventQuery
    from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.errors import Attempt
    from dbgpt_ctl.registry.contract import RegistryObserver

log = logging.getLogger(__name__)

NEVER = datetime.fromtimestamp(0, UTC)
"""The last heartbeat of an instance that DB-GPT's controller lists without one: here it must not be null."""
HEALTH_CHECK_SECS = 5.0
HEALTH_RETRY_SECS = 2.0
NINE_KEYS_SECS = 60.0
"""To ask a controller without /api/v1, such as DB-GPT's own, for all facts costs calls for nothing. It is asked again
after this time.
"""
ADVICE = "give this controller a token that is good there: --remote-token-file (CONTROLLER_REMOTE_TOKEN_FILE)"
_REASONS = {
    "none": "this controller sends no token",
    "unknown": "the token of this controller is not known there",
    "expired": "the token of this controller has expired",
    "revoked": "the token of this controller is revoked",
    "role": "the role of this controller's token does not allow it (a drain needs the role operator)",
    "models": "the token of this controller is not for this model",
    "hosts": "the token of this controller is not for this host",
    "max-instances": "the token of this controller has its max_instances registered",
}
"""By the `reason` of a refusal."""
_UNKNOWN_MODEL = "health-check@ctl"
"""The model of the list that checks the health: its answer is short, and needs the same rights as any other list."""


class RemoteModelRegistry(ModelRegistry):
    """Forwards to one or more controllers, this package's or DB-GPT's own, as `ControllerClient` does.

    It keeps the promises that the controller behind it keeps. A list of all instances has all facts, a list of routable
    ones only the nine keys of the wire: there `registered_at` is the last heartbeat. Of the actor of a call only the
    kind is passed on, as a claim. The controller behind records this process as the caller: the address of this host
    and the name of its token there, whose role limits what a call may do and be.

    DB-GPT's own controller does not know get, drain, undrain, prune and events: they raise VerbNotSupported. Each list
    of it has only the nine keys, so a deregistered instance is unhealthy there, and a drain has no facts. Some rows are
    left out that it lists and this package's never would: a name without `@`, a second row of one identity, and a
    drained instance as routable.

    `timeout`, in seconds, limits every call. By default it is shorter than the 5 s of a DB-GPT client, which so gets
    the reason. `health_check_secs` is the time between two checks of the health, from `open` on. `forwarder_id`, of
    letters and digits, is random by default. A registry that was closed cannot be opened again.

    `ca_file` and `trust_env` are those of `AsyncControllerClient`. `read_token` returns the name and the token that go
    to all addresses. It is called at once and then with each check of the health, so that a token can be exchanged
    without a restart; while it raises, the last token is used.
    """

    def __init__(
        self,
        client: AsyncControllerClient | str,
        *,
        timeout: float = 4.5,
        trust_env: bool = False,
        ca_file: str | None = None,
        read_token: Callable[[], tuple[str, str]] | None = None,
        health_check_secs: float = HEALTH_CHECK_SECS,
        monotonic: Callable[[], float] = time.monotonic,
        forwarder_id: str | None = None,
        observer: RegistryObserver = NO_OBSERVER,
    ) -> None:
        if isinstance(client, str):
            advice = "check CONTROLLER_REMOTE_ADDR"
            client = AsyncControllerClient(
                client,
                timeout=timeout,
                trust_env=trust_env,
                advice=advice,
                ca_file=ca_file,
                on_refusal=self._warn_of_refusals,
            )
        self._forwarder_id = forwarder_id or secrets.token_hex(8)
        self._client = client = client.forwarding_for(self._forwarder_id)
        self._operator = client.acting_as(ActorKind.OPERATOR)
        self._address = client.address
        self._closed = False
        self._health = _health("the controller behind this one has not been called yet", ready=False)
        self._health_check_secs = health_check_secs
        self._background = BackgroundTasks()
        self._checking = False
        self._monotonic = monotonic
        self._observer = observer
        self._nine_keys_until = 0.0
        self._read_token = read_token
        self._token: tuple[str, str] | None = None
        self._refusing: set[str] = set()
        self._token_problem: str | None = None
        if read_token is not None:
            self._use(read_token())

    async def open(self) -> None:
        """Raises RegistryUnavailable if no controller is up, RegistryUnusable if all require other credentials, or if a
        call comes back to this process.
        """
        self._refuse_closed()
        answers, failure_of_list = await asyncio.gather(self._client.health(), self._first_list())
        loop = failure_of_list is not None and _is_loop(failure_of_list)
        if any(answer.cause is FailureCause.FORWARDS_TO_ITSELF for answer in answers) or loop:
            failure = f"--remote-addr {self._address} leads back to this controller, directly or over others"
            self._set_health(failure)
            raise RegistryUnusable(f"{failure}; {FailureCause.FORWARDS_TO_ITSELF.fix}")
        if isinstance(failure_of_list, NotAllowed):  # health is open to all
            refused = _as_registry_error(failure_of_list)
            self._set_health(str(refused))
            raise refused
        if any(answer.ok for answer in answers):
            self._set_health(None)
            self._start_checks()
            return
        reason = "no controller behind this one is up: " + "; ".join(
            f"{answer.controller}: {answer.detail}" for answer in answers
        )
        self._set_health(reason)
        if all(answer.status in {401, 403} for answer in answers):
            raise RegistryUnusable(f"{reason}; {ADVICE}")
        self._observer.failed("unavailable")
        raise RegistryUnavailable(reason)

    async def _first_list(self) -> ControllerError | None:
        """The error of a short list, if any: a call that comes back to this process over other controllers, or a token
        that is refused. Neither shows in a health check, which the next controller answers itself, and to everyone.
        """
        try:
            await self._client.list(_UNKNOWN_MODEL, healthy_only=True)
        except ControllerError as error:
            return error
        return None

    @property
    def forwarder_id(self) -> str:
        return self._forwarder_id

    async def close(self) -> None:
        self._closed = True
        self._health = _health("the registry is closed", ready=False)
        await self._background.stop()
        await self._client.aclose()

    def health(self) -> RegistryHealth:
        """The outcome of the last `open` or `list`. A background task lists regularly from `open` to `close`."""
        return self._health

    def describe(self) -> RegistryInfo:
        """`durable` is True: this process holds no facts that it could lose."""
        return RegistryInfo("remote", self._address, durable=True)

    async def register(
        self, sent: Registration, *, drain: DrainRequest | None = None, actor: Actor = WORKER
    ) -> Lookup | None:
        """With `drain` it raises VerbNotSupported, and nothing is stored, where the controller cannot do both."""
        with self._forwarding():
            drained = await self._as(actor).register(sent, drain=drain)
        return None if drained is None else _lookup(drained.instance)

    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        with self._forwarding():
            return await self._as(actor).deregister(key, remove=remove)

    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        with self._forwarding():
            return await self._as(actor).heartbeat(sent)

    async def get(self, key: InstanceKey) -> Lookup | None:
        with self._forwarding(), suppress(NotFound):
            return _lookup(await self._client.get(key))
        return None

    async def drain(
        self,
        key: InstanceKey,
        *,
        reason: str | None = None,
        duration: timedelta | None = None,
        actor: Actor = OPERATOR,
    ) -> Lookup | None:
        with self._forwarding(), suppress(NotFound):
            return _lookup((await self._as(actor).drain(key, reason=reason, duration=duration)).instance)
        return None

    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        with self._forwarding(), suppress(NotFound):
            return _lookup((await self._as(actor).undrain(key)).instance)
        return None

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, unchecked: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        with self._forwarding():
            return tuple(await self._as(actor).prune(older_than, dry_run=dry_run, unchecked=unchecked))

    async def read_events(self, query: EventQuery) -> EventPage:
        after, where, limit = query
        with self._forwarding():
            return await self._client.events(where=where, after=after, limit=limit)

    async def outages(self) -> tuple[Hold, ...]:
        """Those of the registry behind; empty where an older release keeps it. Each call is a request."""
        with self._forwarding(), suppress(NotSupported):
            return tuple((await self._client.status()).holds)
        return ()

    async def announce(self) -> None:
        """Does nothing: the controller behind this one announces expiries by itself."""

    def _as(self, actor: Actor) -> AsyncControllerClient:
        return self._operator if actor.kind is ActorKind.OPERATOR else self._client

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        try:
            with self._forwarding():
                answer = await self._inventory(model_name, healthy_only=healthy_only)
        except RegistryError as error:
            self._set_health(str(error))
            raise
        self._set_health(None, degraded=_degraded(answer), stale_since=answer.stale_since)
        if answer.complete:
            entries, time = tuple(map(_listed, answer.instances)), answer.time
        else:
            entries, time = _entries(answer.objects, model_name, healthy_only=healthy_only), answer.registry_time
        return Listing(entries, answer.stale_since, answer.held_until, time, answer.heartbeat_timeouts_secs)

    async def _inventory(self, model_name: str | None, *, healthy_only: bool) -> Inventory:
        """All facts of all instances. Only the nine keys of routable ones, which API servers wait for, and of all where
        the controller behind has no more, or does not allow more.
        """
        if not healthy_only and self._monotonic() >= self._nine_keys_until:
            with suppress(NotSupported, NotAllowed):
                return await self._client.instances(model_name)
            self._nine_keys_until = self._monotonic() + NINE_KEYS_SECS
        return await self._client.list(model_name, healthy_only=healthy_only)

    def _start_checks(self) -> None:
        if not self._checking:
            self._checking = True
            self._background.every(
                self._health_check_secs,
                self._check,
                name="health of the controller behind this one",
                first_after_secs=self._health_check_secs,
                retry_secs=HEALTH_RETRY_SECS,
            )

    async def _check(self) -> None:
        await self._renew_token()
        await self.list(_UNKNOWN_MODEL, healthy_only=True)

    async def _renew_token(self) -> None:
        if self._read_token is None:
            return
        try:
            token = await asyncio.to_thread(self._read_token)
        except CtlError as error:
            if str(error) != self._token_problem:
                log.warning("%s; the token that was read before is used on", error)
            self._token_problem = str(error)
            return
        self._token_problem = None
        if token != self._token:
            log.info("another token is sent to %s from now on: its file has changed", self._address)
            self._use(token)

    def _warn_of_refusals(self, attempts: Sequence[Attempt]) -> None:
        """Once for each controller and token: while another one serves the calls, nothing else shows it."""
        for attempt in attempts:
            if attempt.controller not in self._refusing:
                self._refusing.add(attempt.controller)
                log.warning("%s; another controller serves the calls; %s", attempt, ADVICE)

    def _use(self, token: tuple[str, str]) -> None:
        self._token = token
        self._refusing.clear()
        self._client.use_token(*token)

    def _set_health(
        self, failure: str | None, *, degraded: str | None = None, stale_since: datetime | None = None
    ) -> None:
        if not self._closed:
            self._health = _health(failure or degraded, ready=failure is None, stale_since=stale_since)

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
            meaning = _as_registry_error(error)
            if isinstance(meaning, RegistryUnavailable):
                self._observer.failed("unavailable")
            raise meaning from None


def _health(reason: str | None, *, ready: bool, stale_since: datetime | None = None) -> RegistryHealth:
    return RegistryHealth(ready, (Check("registry", reason),), stale_since)


def _degraded(answer: Inventory) -> str | None:
    """What is wrong although the list was answered; also a list of no instance shows that it is stale."""
    if answer.stale_since is None:
        return None
    since = answer.stale_since.isoformat(timespec="seconds")
    return f"the registry of {answer.controller} is away; lists are as of {since}"


def _as_registry_error(error: ControllerError) -> RegistryError:
    """The error of the client as an error of a registry. A controller that fails may recover."""
    message = f"the controller behind this one: {error}"
    if _is_loop(error):  # the controllers before this one have to know it too
        return ForwardsToItself(message)
    match error:
        case NotAllowed():  # the token of this controller: a caller with a good token of its own gets no 401
            return RegistryUnusable(_refusal(error))
        case ControllerRefused(problem_code=RegistryFull.code):
            return RegistryFull(message)
        case NotSupported():
            return VerbNotSupported(message)
        case ControllerRefused():
            return RegistryError(message)
        case _:
            return RegistryUnavailable(message)


def _refusal(error: NotAllowed) -> str:
    """The refusal of this controller's token, for its own callers. What the controller behind says is not for them: it
    tells the owner of the token what to write.
    """
    why = _REASONS.get(error.reason or "")
    if why is None:
        return f"the controller behind this one: {error.advised(ADVICE)}"
    where = error.controller or ", ".join(attempt.controller for attempt in error.attempts)
    return f"the controller behind this one, {where}, refuses it: {why}; {ADVICE}"


def _is_loop(error: ControllerError) -> bool:
    causes = {attempt.cause for attempt in error.attempts}
    return causes == {FailureCause.FORWARDS_TO_ITSELF}


def _entries(
    objects: Iterable[Mapping[str, Any]], model_name: str | None, *, healthy_only: bool
) -> tuple[ListedInstance, ...]:
    """Lists of the nine keys as entries in order of identity. Of several rows of one identity in DB-GPT's table the
    routable one counts, or the one with the latest heartbeat.
    """
    listed = [entry for reported in objects if (entry := _entry(reported)) is not None]
    listed.sort(key=lambda entry: (entry.instance.key, entry.routable, entry.instance.last_heartbeat))
    by_key = {entry.instance.key: entry for entry in listed}
    return tuple(
        entry
        for entry in by_key.values()
        if (model_name is None or entry.instance.key.model_name == model_name) and (not healthy_only or entry.routable)
    )


def _entry(reported: Mapping[str, Any]) -> ListedInstance | None:
    try:
        sent = parse_registration(reported)
    except InvalidInstance:
        return None
    heartbeat = read_time(reported.get("last_heartbeat"))
    instance = ModelInstance.first(sent, NEVER if heartbeat is None else heartbeat.astimezone(UTC))
    state = shown_state(healthy=reported.get("healthy") is True)
    return ListedInstance(instance, state, instance.drain)


def _lookup(known: KnownInstance) -> Lookup:
    return Lookup(_listed(known), known.time, known.held_until, known.heartbeat_timeouts_secs)


def _listed(known: KnownInstance) -> ListedInstance:
    """An INSTANCE of /api/v1 as an entry."""
    heartbeat = known.last_heartbeat or NEVER
    instance = ModelInstance(
        known.key,
        known.weight,
        known.check_healthy,
        known.prompt_template,
        known.registered_at or heartbeat,
        heartbeat,
        known.deregistered_at,
        known.refused_at,
        known.drain,
        known.state,
        known.flaps,
        known.removed,
    )
    return ListedInstance(instance, known.state, known.drain, known.held)
