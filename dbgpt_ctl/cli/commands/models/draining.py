"""Which instances a drain is about, and when it has arrived at every controller."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dbgpt_ctl.addresses import parse_address
from dbgpt_ctl.cli.output.escaping import quoted, unescaped
from dbgpt_ctl.cli.output.results import reference
from dbgpt_ctl.cli.parsing.references import parse_targets
from dbgpt_ctl.domain.fields import parse_host
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import ConditionNotMet, ControllerFailed, ControllerUnreachable, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.cli.output.results import Done
    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.client.models import Drained
    from dbgpt_ctl.domain.instance import InstanceKey

SERVICE = "service"
PAUSE_SECS = 0.25
_WHY = "DB-GPT finds a worker's control port through it: without it `dbgpt model stop` and `start` fail there"


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds to wait, and how time passes."""

    seconds: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


def named(
    client: ControllerClient,
    session: Session,
    references: Sequence[str],
    kind: str | None,
    host: str | None,
    *,
    force: bool,
    verb: str,
) -> list[InstanceKey]:
    """The instances that references name, or all of a host but those of type service (with `force` these too).

    Raises UsageError before anything is sent, NotFound when nothing is registered with that host.
    """
    if bool(references) == (host is not None):
        raise UsageError(f"give either references NAME[@TYPE]/HOST:PORT or --host HOST: what is there to {verb}?")
    if host is not None:
        if kind is not None:
            raise UsageError("--type is for a reference without one: leave it out with --host")
        return _at(client, session, parse_host(unescaped(host)), force=force)
    keys = parse_targets(references, kind, None, None, creates=False)
    services = [key for key in keys if key.type == SERVICE]
    if services and not force and verb == "drain":
        raise UsageError(f"{reference(services[0])} is of type {SERVICE}: {_WHY}; --force drains it all the same")
    return list(dict.fromkeys(keys))


def _at(client: ControllerClient, session: Session, host: str, *, force: bool) -> list[InstanceKey]:
    there = [each.key for each in client.instances(host=host).instances if each.host == host]
    keys = [key for key in there if force or key.type != SERVICE]
    if not there:
        raise NotFound(f"nothing is registered with host {quoted(host)}; ctl models list shows what is")
    if len(keys) < len(there):
        left = ", ".join(reference(key) for key in there if key not in keys)
        session.say(f"left alone: {left}: {_WHY}")
    if not keys:
        raise NotFound(f"nothing but type {SERVICE} is registered with host {quoted(host)}")
    return keys


class Durability:
    """Says once that a drain ends with the controller."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told = False

    def __call__(self, drained: Drained) -> None:
        if not drained.durable and not self._told:
            self._told = True
            self._session.say(
                "this registry is in the controller's memory: the drain lasts only as long as its process"
            )


def await_drain(session: Session, patience: Patience, key: InstanceKey, done: Done) -> Done:
    """Waits until no controller hands the instance out. Raises nothing: what is missing is an error in the result."""
    left = _await(session, patience, lambda client: not _hands_out(client, key))
    return done if left is None else replace(done, error=ConditionNotMet(f"drained, but {left}"))


def await_undrain(session: Session, patience: Patience, key: InstanceKey, done: Done) -> Done:
    """Waits until every controller hands the instance out. Does not wait for one that gets nothing for another
    reason.
    """
    state = done.facts["state"]
    if state != InstanceState.HEALTHY:
        return replace(done, error=ConditionNotMet(f"undrained, but it gets no requests: it is {state}"))
    left = _await(session, patience, lambda client: _hands_out(client, key))
    return done if left is None else replace(done, error=ConditionNotMet(f"undrained, but {left}"))


def _hands_out(client: ControllerClient, key: InstanceKey) -> bool:
    return any(each.key == key for each in client.list(key.model_name, healthy_only=True).instances)


def _await(session: Session, patience: Patience, arrived: Callable[[ControllerClient], bool]) -> str | None:
    """None when it has arrived at all controllers that answer; else what is missing when the time is over.

    One that does not answer hands out nothing, and reads the registry anew when it comes back.
    """
    deadline = patience.monotonic() + patience.seconds
    for address in filter(None, map(str.strip, session.settings.address.split(","))):
        with session.client(address) as client:
            while not _has_arrived(session, client, arrived):
                left = deadline - patience.monotonic()
                if left <= 0:
                    return f"{parse_address(address)} did not follow within {patience.seconds:g}s"
                patience.sleep(min(PAUSE_SECS, left))
    return None


def _has_arrived(session: Session, client: ControllerClient, arrived: Callable[[ControllerClient], bool]) -> bool:
    try:
        return arrived(client)
    except (ControllerUnreachable, ControllerFailed) as error:
        session.say(f"not asked: {error}")
        return True
