"""`ControllerClient`: runs the flows of `calls` over a blocking transport."""

from __future__ import annotations

from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.failover import ADVICE, Failover, drive
from dbgpt_ctl.settings.addresses import parse_addresses
from dbgpt_ctl.traceparent import CURRENT

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Generator, Sequence
    from typing import Self

    import httpx

    from dbgpt_ctl.client.failover import Flow
    from dbgpt_ctl.client.results import ControllerHealth, Watched
    from dbgpt_ctl.client.transport import Observe
    from dbgpt_ctl.errors import Attempt
    from dbgpt_ctl.traceparent import TraceContext

P = ParamSpec("P")
T = TypeVar("T")


def _call(flow_of: Callable[Concatenate[Calls, P], Flow[T]]) -> Callable[Concatenate[ControllerClient, P], T]:
    """The method of the client that runs this flow: the same arguments, and its result."""

    @wraps(flow_of)
    def method(self: ControllerClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return drive(flow_of(self._calls, *args, **kwargs), self._transport.send)

    return method


class ControllerClient:
    """Blocking; may be used by several threads. `address` holds one or more URLs, separated by commas (see
    `settings.addresses`).

    `timeout`, in seconds, covers each call that reads over all controllers; `failover.Failover` says how they share it
    and when the next one is tried. A change may take as long at each controller that takes the connection. `trust_env`
    sends the calls through the proxies of the environment (http_proxy ...). `watch` is called with each request;
    `trace` names the span that a call is in. `actor` is the caller: `operator`, or None for a worker.
    `ca_file` is a PEM file with the certificates to trust, in place of the system's.
    `on_refusal` is called with the controllers that answered 401, when another one has served the call.

    Raises UsageError for a wrong address or `ca_file`. Each call raises ControllerUnreachable, ControllerFailed,
    ControllerRefused or NotAllowed; those of /api/v1 raise NotSupported where the controller does not have it.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 5.0,
        trust_env: bool = False,
        transport: httpx.BaseTransport | None = None,
        advice: str = ADVICE,
        watch: Observe | None = None,
        trace: Callable[[], TraceContext | None] = CURRENT.get,
        actor: str | None = None,
        ca_file: str | None = None,
        on_refusal: Callable[[Sequence[Attempt]], None] = lambda _attempts: None,
    ) -> None:
        addresses = parse_addresses(address)
        failover = Failover(addresses, timeout, monotonic, advice, on_refusal=on_refusal, change_timeout=timeout)
        self._calls = Calls(failover, trace, actor)
        from dbgpt_ctl.client.transport import Transport, client_options

        self._transport = Transport(client_options(addresses, trust_env=trust_env, ca_file=ca_file), transport, watch)

    register = _call(Calls.register)
    heartbeat = _call(Calls.heartbeat)
    deregister = _call(Calls.deregister)
    list = _call(Calls.list)
    instances = _call(Calls.instances)
    inventory = _call(Calls.inventory)
    get = _call(Calls.get)
    drain = _call(Calls.drain)
    undrain = _call(Calls.undrain)
    prune = _call(Calls.prune)
    events = _call(Calls.events)
    status = _call(Calls.status)
    auth = _call(Calls.auth)
    settings = _call(Calls.settings)
    console = _call(Calls.console)

    def health(self) -> builtins.list[ControllerHealth]:
        """The health of each controller, in the order of the address: all at once, each with the whole timeout. Never
        raises.
        """
        flows = [self._calls.health(address) for address in self._calls.failover.addresses]
        if len(flows) == 1:
            return [drive(flows[0], self._transport.send)]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(flows)) as threads:
            return [*threads.map(lambda flow: drive(flow, self._transport.send), flows)]

    def watch(
        self, *, model_name: str | None = None, host: str | None = None, cursor: str | None = None
    ) -> Generator[Watched]:
        """Changes as they happen, after `cursor` or from now on, over one connection to the first controller that
        answers.

        Nothing is sent before the first message is asked for. The watch ends when the controller ends it. It raises
        ControllerUnreachable when the connection breaks, or when nothing comes for SILENCE_SECS. To go on, watch again
        with the last cursor.
        """
        from dbgpt_ctl.client.watch import watch

        return watch(self._calls.watch(model_name=model_name, host=host, cursor=cursor), self._transport)

    def close(self) -> None:
        """Closes the connections. Repeatable."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
