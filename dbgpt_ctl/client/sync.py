"""`ControllerClient`: drives the flows of `calls` with a blocking transport."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from dbgpt_ctl.addresses import parse_addresses
from dbgpt_ctl.client.calls import ADVICE, Calls
from dbgpt_ctl.traceparent import CURRENT

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Generator
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Self

    import httpx

    from dbgpt_ctl.client.calls import Flow
    from dbgpt_ctl.client.details import (
        ControllerStatus,
        Drained,
        EventReport,
        Inventory,
        KnownInstance,
        Watched,
    )
    from dbgpt_ctl.client.models import ControllerHealth, InstanceList
    from dbgpt_ctl.client.transport import Sends, Watch
    from dbgpt_ctl.domain.instance import InstanceKey, Registration
    from dbgpt_ctl.traceparent import TraceContext

T = TypeVar("T")


class ControllerClient:
    """Blocking; may be used by several threads. `address` holds one or more URLs, comma separated (see `addresses`).

    `timeout`, in seconds, bounds each call over all controllers; `calls.Calls` says how they share it and when one is
    passed over.
    `trust_env` lets the proxies of the environment (http_proxy ...) have the calls. `watch` is told of each request;
    `trace` names the span that a call is in. `actor` says who calls, `operator`; None: a worker.

    Raises UsageError for a wrong address. Each call raises ControllerUnreachable, ControllerFailed, ControllerRefused
    or NotAllowed.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 5.0,
        trust_env: bool = False,
        transport: httpx.BaseTransport | None = None,
        advice: str = ADVICE,
        watch: Watch | None = None,
        trace: Callable[[], TraceContext | None] = CURRENT.get,
        actor: str | None = None,
    ) -> None:
        self._calls = Calls(parse_addresses(address), timeout, monotonic, advice, trace=trace, actor=actor)
        from dbgpt_ctl.client.transport import Transport, client_options

        self._transport = Transport(client_options(self._calls.addresses, trust_env=trust_env), transport, watch)

    def register(self, sent: Registration) -> None:
        """Registers the instance, or updates and revives a known one."""
        return self._run(self._calls.register(sent))

    def deregister(self, key: InstanceKey, *, remove: bool = False) -> bool:
        """Takes the instance out of service, with `remove` out of the lists too.

        False for one that never was; DB-GPT's own controller says True to that as well.
        """
        return self._run(self._calls.deregister(key, remove=remove))

    def heartbeat(self, sent: Registration) -> bool:
        """Says that the instance lives. False for one that was deregistered: it has to register again."""
        return self._run(self._calls.heartbeat(sent))

    def health(self) -> list[ControllerHealth]:
        """Of each controller, in the order of the address. All are asked at once, each for `timeout`. Never raises."""
        flows = [self._calls.health(address) for address in self._calls.addresses]
        if len(flows) == 1:
            return [self._run(flows[0])]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(flows)) as threads:
            return list(threads.map(self._run, flows))

    def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> InstanceList:
        """All instances, or those of exactly this `NAME@TYPE`."""
        return self._run(self._calls.list(model_name, healthy_only=healthy_only))

    def instances(
        self, model_name: str | None = None, *, host: str | None = None, state: str | None = None
    ) -> Inventory:
        """With all their facts: all, or those of this `NAME@TYPE`, host and state. Raises NotSupported."""
        return self._run(self._calls.instances(model_name, host=host, state=state))

    def inventory(
        self, model_name: str | None = None, *, host: str | None = None, require_complete: bool = False
    ) -> Inventory:
        """The instances of any controller, of all models or of exactly this `NAME@TYPE`, on all hosts or on this one.

        A controller without /api/v1, such as DB-GPT's own, costs a second call and reports only the nine keys
        (`Inventory.complete`). With `require_complete` it raises NotSupported instead.
        """
        return self._run(self._calls.inventory(model_name, host=host, require_complete=require_complete))

    def get(self, key: InstanceKey) -> KnownInstance:
        """One, also when it was removed a short time ago. Raises NotFound, NotSupported."""
        return self._run(self._calls.get(key))

    def drain(self, key: InstanceKey, *, reason: str | None = None) -> Drained:
        """Keeps requests from the instance until `undrain`. Repeatable. Raises NotFound, NotSupported."""
        return self._run(self._calls.drain(key, reason=reason))

    def undrain(self, key: InstanceKey) -> Drained:
        """Ends a drain. Repeatable. Raises NotFound, NotSupported."""
        return self._run(self._calls.undrain(key))

    def prune(self, older_than: timedelta, *, dry_run: bool = False) -> builtins.list[InstanceKey]:
        """Forgets what has been unhealthy or deregistered for longer, never what is drained; with `dry_run` only tells
        which. Raises NotSupported.
        """
        return self._run(self._calls.prune(older_than, dry_run=dry_run))

    def events(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        model_name: str | None = None,
        host: str | None = None,
        port: int | None = None,
        limit: int = 1000,
    ) -> EventReport:
        """The first `limit` changes of state after the id `after`; without it the last. Raises NotSupported."""
        return self._run(
            self._calls.events(after=after, since=since, model_name=model_name, host=host, port=port, limit=limit)
        )

    def status(self) -> ControllerStatus:
        """How the controller that answers is. Raises NotSupported."""
        return self._run(self._calls.status())

    def watch(
        self, *, model_name: str | None = None, host: str | None = None, cursor: str | None = None
    ) -> Generator[Watched]:
        """Changes as they happen, on one connection to the first controller that answers; from `cursor` on, or
        from now.

        Nothing is sent before the first message is asked for. It ends when the controller ends it; raises
        ControllerUnreachable when it breaks, or when nothing comes for SILENCE_SECS. NotSupported as the other verbs.
        To go on, watch again with the last cursor.
        """
        from dbgpt_ctl.client.watch import watch

        return watch(self._calls, self._transport, model_name=model_name, host=host, cursor=cursor)

    def close(self) -> None:
        """Lets go of the connections. Repeatable."""
        self._transport.close()

    def _run(self, flow: Flow[T]) -> T:
        return drive(flow, self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def drive(flow: Flow[T], transport: Sends) -> T:
    """Sends what the flow asks for until it has its result; raises what it raises."""
    try:
        request = next(flow)
        while True:
            request = flow.send(transport.send(request))
    except StopIteration as done:
        result: T = done.value
        return result
