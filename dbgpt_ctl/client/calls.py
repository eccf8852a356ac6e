"""What each call to a controller sends, and what it reads from the answer. No I/O.

Each call is a flow (see `failover`) that `sync.ControllerClient` and `aio.AsyncControllerClient` run: their methods are
made from these, so a call is described once. `responses` has the meaning of a response, and `results` what it holds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from dbgpt_ctl import forwarding
from dbgpt_ctl.client import responses, results
from dbgpt_ctl.client.failover import HEALTH, JSON, MAX_ANSWER_BYTES, MAX_SHORT_ANSWER_BYTES, MODELS, Request
from dbgpt_ctl.client.results import Drained, EventReport, Inventory, KnownInstance
from dbgpt_ctl.domain.events import EVERYTHING
from dbgpt_ctl.domain.fields import sent_fields
from dbgpt_ctl.domain.instance import InstanceState, Registration
from dbgpt_ctl.errors import ControllerRefused, InvalidInstance, NotSupported
from dbgpt_ctl.traceparent import CURRENT

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from dbgpt_ctl.client.failover import Failover, Flow, Read
    from dbgpt_ctl.client.results import Answer, ControllerHealth, ControllerSetting
    from dbgpt_ctl.client.status import AuthReport, ControllerStatus
    from dbgpt_ctl.domain.events import Event, EventFilter
    from dbgpt_ctl.domain.filters import InstanceFilter
    from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey
    from dbgpt_ctl.settings.addresses import Address
    from dbgpt_ctl.traceparent import TraceContext

HEARTBEAT = "/api/controller/heartbeat"
V1 = "/api/v1"
CONSOLE = "/console/"
_LISTS = frozenset({"instances", "prune", "events", "status"})
"""The verbs of /api/v1 whose answers grow with the number of instances, models or events."""
MAX_PAGE = 10_000
NOTHING: Mapping[str, Any] = MappingProxyType({})
MAX_AUTH_ANSWER_BYTES = 16_000_000
"""Of the tokens, whose file has 1 MiB, and the refusals, whose table is bounded. Decoded it takes some 120 MB."""

T = TypeVar("T")


@dataclass(slots=True)
class Calls:
    """The calls to the controllers of one address. All raise ControllerUnreachable, ControllerFailed, ControllerRefused
    and NotAllowed.
    """

    failover: Failover
    trace: Callable[[], TraceContext | None] = CURRENT.get
    """The span that a call is in; called once for each call. A health check is in none."""
    actor: str | None = None
    """The caller: `operator`, or None for a worker."""
    forwarder_id: str | None = None
    """The id of the controller that forwards the calls; None for any other client (see `forwarding`)."""

    def register(self, sent: Registration, *, drain: DrainRequest | None = None) -> Flow[Drained | None]:
        """Registers the instance, or updates and revives a known one; its answer is None.

        With `drain` the same call also drains it: it gets no request in between. `sent.enabled` is not sent then. The
        answer is the instance. Raises NotSupported, and nothing is stored, where the controller is DB-GPT's own or an
        older ctl: the `true` with which these answer a register does not say whether they drain.
        """
        if drain is not None:
            key, weight, check_healthy, _, prompt_template = sent
            facts = {"weight": weight, "check_healthy": check_healthy, "prompt_template": prompt_template}
            wanted = _given(reason=drain.reason, for_secs=_seconds(drain.duration))
            return (yield from self._post("register", Drained.read, **key._asdict(), **facts, drain=wanted))
        if not (yield from self._send("POST", MODELS, responses.read_verdict, sent_fields(sent))):
            raise ControllerRefused(f"the controller answered false to the register of {sent.key}")
        return None

    def heartbeat(self, sent: Registration) -> Flow[bool]:
        """Reports that the instance is alive. False if it was deregistered: it has to register again."""
        return self._send("POST", HEARTBEAT, responses.read_verdict, sent_fields(sent))

    def deregister(self, key: InstanceKey, *, remove: bool = False) -> Flow[bool]:
        """Takes the instance out of service, with `remove` out of the lists too.

        False if it was never registered; DB-GPT's own controller answers True to that as well.
        """
        # DB-GPT's clients send all ten keys in the query; only the identity and `remove` count.
        target = _with_query(MODELS, sent_fields(Registration(key), remove=remove))
        return self._send("DELETE", target, responses.read_verdict)

    def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Flow[Inventory]:
        """All instances, or those of exactly this `NAME@TYPE`."""
        query = _given(model_name=model_name, healthy_only=healthy_only or None)
        return self._send("GET", _with_query(MODELS, query), responses.read_list, max_bytes=MAX_ANSWER_BYTES)

    def health(self, address: Address) -> Flow[ControllerHealth]:
        """The health of one controller, which has the whole timeout. Never raises."""
        began = self.failover.monotonic()
        request = Request("GET", address, HEALTH, None, self.failover.timeout, forwarded_by=self._forwarded_by)
        outcome = yield from self.failover.attempt(request)
        return responses.read_health(outcome, address, latency=self.failover.monotonic() - began)

    def instances(
        self, model_name: str | None = None, *, host: str | None = None, state: str | None = None
    ) -> Flow[Inventory]:
        """All facts of the instances: of all, or of those of this `NAME@TYPE`, host and state. Raises NotSupported."""
        return self._get("instances", Inventory.read, {"model_name": model_name, "host": host, "state": state})

    def inventory(self, wanted: InstanceFilter | None = None, *, require_complete: bool = False) -> Flow[Inventory]:
        """The instances of any controller, filtered as far as each controller can: by `NAME@TYPE` and host.

        A controller without /api/v1, such as DB-GPT's own, costs a second call and reports only the nine keys
        (`Inventory.complete`). With `require_complete`, or if `wanted` selects deregistered ones, it raises
        NotSupported instead.
        """
        model_name, host = (wanted.models.model_name, wanted.host) if wanted else (None, None)
        try:
            return (yield from self.instances(model_name, host=host))
        except NotSupported:
            if require_complete or (wanted and InstanceState.DEREGISTERED in wanted.states):
                raise
        answer = yield from self.list(model_name)
        read = zip(answer.objects, answer.instances, strict=True)
        return replace(answer, objects=[fields for fields, instance in read if host in (None, instance.host)])

    def get(self, key: InstanceKey) -> Flow[KnownInstance]:
        """One instance, also if it was removed a short time ago. Raises NotFound, NotSupported."""
        return self._get("instance", KnownInstance.in_answer, key._asdict())

    def drain(self, key: InstanceKey, *, reason: str | None = None, duration: timedelta | None = None) -> Flow[Drained]:
        """Keeps requests from the instance for `duration`, or until `undrain`. Repeatable: it replaces the end.

        Raises NotFound, NotSupported.
        """
        return self._post("drain", Drained.read, **key._asdict(), reason=reason, for_secs=_seconds(duration))

    def undrain(self, key: InstanceKey) -> Flow[Drained]:
        """Ends a drain. Repeatable. Raises NotFound, NotSupported."""
        return self._post("undrain", Drained.read, **key._asdict())

    def prune(
        self, older_than: timedelta, *, dry_run: bool = False, unchecked: bool = False
    ) -> Flow[builtins.list[InstanceKey]]:
        """Removes the instances that have been unhealthy or deregistered for longer, never drained ones, and returns
        them; with `dry_run` only returns them. With `unchecked` also those without `check_healthy` that have sent no
        heartbeat for longer. Raises NotSupported, also for `unchecked` where the controller is an older ctl.

        Repeating it is safe, but returns only what was left: the answer to a lost call is lost.
        """
        fields = {"older_than_secs": older_than.total_seconds(), "dry_run": dry_run, "unchecked": unchecked or None}
        try:
            return (yield from self._post("prune", results.read_keys, **fields))
        except ControllerRefused as refused:
            if not unchecked or refused.problem_code != InvalidInstance.code or "'unchecked'" not in refused.detail:
                raise
            raise NotSupported(
                "it is an older ctl, which cannot prune unchecked instances",
                controller=refused.controller,
                problem_code=refused.problem_code,
            ) from None

    def events(
        self, *, where: EventFilter = EVERYTHING, after: int | None = None, limit: int = 1000
    ) -> Flow[EventReport]:
        """The first `limit` of the events that `where` selects, after the id `after`; without it the last ones. Raises
        NotSupported.
        """
        newer = where._asdict()
        newer |= {name: newer[name].isoformat() for name in ("since", "until") if newer[name] is not None}
        older = {name: newer.pop(name) for name in ("model_name", "host", "port", "since")}
        query = {**older, "after": after, "limit": limit}
        try:
            page = yield from self._get("events", EventReport.read, query, newer)
        except NotSupported:
            if where == EVERYTHING:
                raise
        else:
            if page.is_filtered or where == EVERYTHING:
                return page
        return (yield from self._filtered_events(where, after, limit))

    def _filtered_events(self, where: EventFilter, after: int | None, limit: int) -> Flow[EventReport]:
        """As `events`, of release 0.1.0: it filters by fewer fields, and only the first 10,000 events."""
        found: builtins.list[tuple[Event, Mapping[str, Any]]] = []
        position = after or 0
        while True:
            page = yield from self._get("events", EventReport.read, {"after": position, "limit": MAX_PAGE})
            found += (item for item in page.items if where.matches(item[0].change))
            if page.next_after >= page.last_id or (after is not None and len(found) >= limit):
                break
            position = page.next_after
        kept = found[:limit] if after is not None else found[max(len(found) - limit, 0) :]
        return replace(
            page,
            events=tuple(event for event, _ in kept),
            objects=[fields for _, fields in kept],
            next_after=kept[-1][0].id if len(kept) < len(found) and after is not None else page.next_after,
        )

    def status(self) -> Flow[ControllerStatus]:
        """The state of the controller that answers. Raises NotSupported."""
        from dbgpt_ctl.client.status import ControllerStatus  # imports msgspec, which most commands do without

        return self._get("status", ControllerStatus.read)

    def auth(self) -> Flow[AuthReport]:
        """The tokens of the controller that answers, and the requests that enforce mode refuses. Raises NotSupported.

        Each controller counts for itself.
        """
        from dbgpt_ctl.client.status import AuthReport

        return self._get("auth", AuthReport.read)

    def settings(self) -> Flow[dict[str, ControllerSetting]]:
        """The settings of the controller that answers, by name, without secrets. Raises NotSupported."""
        return self._get("settings", results.read_settings)

    def console(self) -> Flow[str]:
        """The URL of the console of the controller that answers. Raises NotSupported where it serves none."""
        return self._send("GET", CONSOLE, responses.read_console, accept=responses.HTML)

    def watch(
        self, *, model_name: str | None = None, host: str | None = None, cursor: str | None = None
    ) -> Flow[Address]:
        """The controller that streams the changes. The response to send in has no body: the sender keeps the stream."""
        query = _given(model_name=model_name, host=host, cursor=cursor)
        return self._send(
            "GET", _with_query(f"{V1}/watch", query), responses.read_stream, accept=responses.EVENT_STREAM
        )

    def _get(
        self,
        verb: str,
        read: Callable[[Answer], T],
        query: Mapping[str, Any] = NOTHING,
        newer: Mapping[str, Any] = NOTHING,
    ) -> Flow[T]:
        """`newer` are the parameters that release 0.1.0 does not know; None leaves one out. Where the controller does
        not announce one, it raises NotSupported: then ask without them, and filter all pages here.
        """
        new = _given(**newer)
        target, reader = _with_query(f"{V1}/{verb}", _given(**query) | new), responses.v1_reader(verb, read)
        return self._send("GET", target, reader, max_bytes=_max_bytes(verb), newer=frozenset(new))

    def _post(self, verb: str, read: Callable[[Answer], T], /, **fields: Any) -> Flow[T]:
        reader, max_bytes = responses.v1_reader(verb, read), _max_bytes(verb)
        return self._send("POST", f"{V1}/{verb}", reader, _given(**fields), max_bytes=max_bytes)

    def _send(
        self,
        method: str,
        target: str,
        read: Read[T],
        fields: Mapping[str, Any] | None = None,
        *,
        accept: str = JSON,
        max_bytes: int = MAX_SHORT_ANSWER_BYTES,
        newer: frozenset[str] = frozenset(),
    ) -> Flow[T]:
        # Half of a surrogate pair, which a hostile controller may list, becomes its escape, which JSON has too.
        text = None if fields is None else json.dumps(fields, ensure_ascii=False, allow_nan=False)
        body = None if text is None else text.encode(errors="backslashreplace")
        first, timeout = self.failover.addresses[0], self.failover.timeout
        request = Request(
            *(method, first, target, body, timeout, self.trace(), self.actor, accept),
            forwarded_by=self._forwarded_by,
            max_bytes=max_bytes,
            newer=newer,
        )
        return self.failover.call(request, read)

    @property
    def _forwarded_by(self) -> str | None:
        return None if self.forwarder_id is None else forwarding.outgoing(self.forwarder_id)


def _max_bytes(verb: str) -> int:
    if verb == "auth":
        return MAX_AUTH_ANSWER_BYTES
    return MAX_ANSWER_BYTES if verb in _LISTS else MAX_SHORT_ANSWER_BYTES


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _with_query(path: str, fields: Mapping[str, Any]) -> str:
    """None is sent as empty, booleans as true and false, as DB-GPT's clients do."""
    texts = {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else value
        for name, value in fields.items()
    }
    return f"{path}?{urlencode(texts, errors='surrogatepass')}" if texts else path
