"""The one description of the calls to a controller: requests, and who is asked in turn. No I/O, no clock of its own.

Each call is a generator, a `Flow`: it yields the `Request` to send, is sent what came of it (`Reply` or `Unanswered`)
and returns the call's result or raises one of `errors.ControllerError`. `client` drives the same flows with a blocking
and with an asynchronous transport; `answers` says what a reply means.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlencode

from dbgpt_ctl.client import v1
from dbgpt_ctl.client.details import Inventory
from dbgpt_ctl.client.responses import AttemptFailed, Reply, Unanswered, accepted, read_health, read_list, read_verdict
from dbgpt_ctl.domain.instance import Registration
from dbgpt_ctl.errors import (
    ControllerError,
    ControllerFailed,
    ControllerRefused,
    ControllerUnreachable,
    ErrorKind,
    NotFound,
    NotSupported,
)
from dbgpt_ctl.traceparent import CURRENT

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from dbgpt_ctl.addresses import Address
    from dbgpt_ctl.client.details import ControllerStatus, Drained, EventReport, KnownInstance
    from dbgpt_ctl.client.models import ControllerHealth, InstanceList
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.traceparent import TraceContext

MODELS = "/api/controller/models"
HEARTBEAT = "/api/controller/heartbeat"
HEALTH = "/api/health"
V1 = "/api/v1"
ADVICE = "is `ctl serve` running there? set --address or CONTROLLER_ADDRESS"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one controller. `timeout`, in seconds, bounds it from the connect to the last byte of reply."""

    method: str
    address: Address
    target: str
    """Path and query."""
    body: bytes | None
    timeout: float
    trace: TraceContext | None = None
    """What the header `traceparent` says."""
    actor: str | None = None
    """What the header `X-Ctl-Actor` says."""
    accept: str | None = None
    """What the header `Accept` says, if not JSON."""

    @property
    def url(self) -> str:
        """Without credentials: `address` has them."""
        return self.address.url + self.target


Flow: TypeAlias = Generator[Request, Reply | Unanswered, T]


@dataclass(slots=True)
class Calls:
    """The verbs as flows, over one or more controllers that share their registry.

    Failover: a controller that does not answer, answers 5xx, or answers what no controller would is passed over within
    the call; repeating a verb is safe. A 4xx is an answer and ends the call. The controller that answered last is asked
    first next time, so a dead one is not paid for at each call of a loop. `timeout`, in seconds, bounds the whole call:
    each controller in turn gets an equal share of what is left, so one that swallows all costs its share, no more.
    """

    addresses: Sequence[Address]
    timeout: float
    monotonic: Callable[[], float]
    advice: str = ADVICE
    """What to do when no controller answers; ends the message of ControllerUnreachable."""
    order: Callable[[], Sequence[Address]] | None = None
    """Whom to ask, in turn; None: all, the one that answered last first."""
    note: Callable[[Address, bool], None] = lambda _address, _answered: None
    """Told of each controller that answered or was passed over."""
    trace: Callable[[], TraceContext | None] = CURRENT.get
    """The span that a call is in; asked once for each call. Health is in none."""
    actor: str | None = None
    """Who calls: `operator`, or None for a worker."""
    _last: int = field(default=0, init=False)

    def register(self, sent: Registration) -> Flow[None]:
        """Sends all facts; the answer must be true."""
        if not (yield from self._call("POST", MODELS, read_verdict, wire_fields(sent))):
            raise ControllerRefused(f"the controller answered false to the register of {sent.key}")

    def heartbeat(self, sent: Registration) -> Flow[bool]:
        """Sends what a register sends."""
        return self._call("POST", HEARTBEAT, read_verdict, wire_fields(sent))

    def deregister(self, key: InstanceKey, *, remove: bool = False) -> Flow[bool]:
        """Sends all ten keys as query, as DB-GPT's clients do; only the identity and `remove` count."""
        return self._call("DELETE", _with_query(MODELS, wire_fields(Registration(key), remove=remove)), read_verdict)

    def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Flow[InstanceList]:
        """Sends only what is given."""
        query: dict[str, Any] = {} if model_name is None else {"model_name": model_name}
        if healthy_only:
            query["healthy_only"] = True
        return self._call("GET", _with_query(MODELS, query), read_list)

    def health(self, address: Address) -> Flow[ControllerHealth]:
        """One controller's health; never raises. The whole `timeout` is its own."""
        began = self.monotonic()
        outcome = yield Request("GET", address, HEALTH, None, self.timeout)
        return read_health(outcome, address, latency=self.monotonic() - began)

    def instances(
        self, model_name: str | None = None, *, host: str | None = None, state: str | None = None
    ) -> Flow[Inventory]:
        """All, or those that match all that is given."""
        return self._ask("instances", _given(model_name=model_name, host=host, state=state), v1.read_instances)

    def inventory(
        self, model_name: str | None = None, *, host: str | None = None, require_complete: bool = False
    ) -> Flow[Inventory]:
        """`instances`, or where the controller has no /api/v1 and `require_complete` is false, `list`."""
        try:
            return (yield from self.instances(model_name, host=host))
        except NotSupported:
            if require_complete:
                raise
        return Inventory.of_list((yield from self.list(model_name)), host)

    def get(self, key: InstanceKey) -> Flow[KnownInstance]:
        """One; raises NotFound."""
        return self._ask("instance", key._asdict(), v1.read_instance)

    def drain(self, key: InstanceKey, *, reason: str | None = None) -> Flow[Drained]:
        """Raises NotFound."""
        return self._tell("drain", key._asdict() | _given(reason=reason), v1.read_drained)

    def undrain(self, key: InstanceKey) -> Flow[Drained]:
        """Raises NotFound."""
        return self._tell("undrain", key._asdict(), v1.read_drained)

    def prune(self, older_than: timedelta, *, dry_run: bool = False) -> Flow[builtins.list[InstanceKey]]:
        """Repeating it is safe, but tells only what is left: of a call that was lost the first answer is lost too."""
        fields = {"older_than_secs": older_than.total_seconds(), "dry_run": dry_run}
        return self._tell("prune", fields, v1.read_pruned)

    def events(self, **asked: Any) -> Flow[EventReport]:
        """after, since, model_name, host, port, limit; None is not sent."""
        given = {name: each.isoformat() if isinstance(each, datetime) else each for name, each in asked.items()}
        return self._ask("events", _given(**given), v1.read_events)

    def status(self) -> Flow[ControllerStatus]:
        """How the controller that answers is."""
        return self._ask("status", {}, v1.read_status)

    def watch(self, **asked: str | None) -> Flow[Address]:
        """model_name, host, cursor. The reply to send in holds no body: the transport keeps the stream."""
        return self._ask("watch", _given(**asked), v1.read_stream)

    def _ask(self, verb: str, query: Mapping[str, Any], read: Callable[[Reply, Address], T]) -> Flow[T]:
        return self._call("GET", _with_query(f"{V1}/{verb}", query), read, accept=v1.accepted_for(verb))

    def _tell(self, verb: str, fields: Mapping[str, Any], read: Callable[[Reply, Address], T]) -> Flow[T]:
        return self._call("POST", f"{V1}/{verb}", read, fields, accept=v1.accepted_for(verb))

    def _call(
        self,
        method: str,
        target: str,
        read: Callable[[Reply, Address], T],
        fields: Mapping[str, Any] | None = None,
        accept: Callable[[Reply | Unanswered, Address], Reply] = accepted,
    ) -> Flow[T]:
        body = None if fields is None else json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
        left = list(self.order() if self.order else [*self.addresses[self._last :], *self.addresses[: self._last]])
        failures: list[AttemptFailed] = []
        trace = self.trace()
        deadline = self.monotonic() + self.timeout
        while left:
            # A host name that was slow to resolve may have cost more than a share: the others are asked all the same.
            share = max(deadline - self.monotonic(), self.timeout / 4) / len(left)
            address = left.pop(0)
            outcome = yield from self._attempt(Request(method, address, target, body, share, trace, self.actor))
            try:
                result = read(accept(outcome, address), address)
            except AttemptFailed as failure:
                failures.append(failure)
                self.note(address, False)
                continue
            except (ControllerRefused, NotFound):
                self._answered(address)
                raise
            self._answered(address)
            return result
        raise _error_of(failures, self.advice)

    def _attempt(self, request: Request) -> Flow[Reply | Unanswered]:
        """Once more when a standing connection was lost: it may have closed between calls, and repeating is safe."""
        deadline = self.monotonic() + request.timeout
        outcome = yield request
        left = deadline - self.monotonic()
        if isinstance(outcome, Unanswered) and outcome.dropped and left > 0:
            outcome = yield replace(request, timeout=left)
        return outcome

    def _answered(self, address: Address) -> None:
        self._last = self.addresses.index(address)
        self.note(address, True)


def wire_fields(sent: Registration, *, remove: bool = False) -> dict[str, Any]:
    """The ten keys that DB-GPT's clients send; `healthy` is always false, the controller decides (docs/protocol.md)."""
    return {
        "model_name": sent.key.model_name,
        "host": sent.key.host,
        "port": sent.key.port,
        "weight": sent.weight,
        "check_healthy": sent.check_healthy,
        "healthy": False,
        "enabled": sent.enabled,
        "prompt_template": sent.prompt_template,
        "last_heartbeat": None,
        "remove_from_registry": remove,
    }


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _with_query(path: str, fields: Mapping[str, Any]) -> str:
    """None is sent as empty, booleans as true and false, as DB-GPT's clients do."""
    shown = {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else value
        for name, value in fields.items()
    }
    return f"{path}?{urlencode(shown)}" if shown else path


def _error_of(failures: Sequence[AttemptFailed], advice: str) -> ControllerError:
    """One error for all attempts: a controller that does not answer counts before one that cannot serve or failed."""
    attempts, kinds = [failure.attempt for failure in failures], {failure.kind for failure in failures}
    if ErrorKind.NO_ANSWER in kinds:
        return ControllerUnreachable.of_attempts(attempts, ErrorKind.NO_ANSWER, advice)
    if ErrorKind.UNAVAILABLE in kinds:
        return ControllerUnreachable.of_attempts(attempts, ErrorKind.UNAVAILABLE, "try again in a few seconds")
    return ControllerFailed.of_attempts(attempts, ErrorKind.FAILED)
