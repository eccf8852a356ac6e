"""What a controller reports: instances as its API lists them, and its own health. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dbgpt_ctl.domain.instance import InstanceKey, InstanceState


@dataclass(slots=True)
class ReportedInstance:
    """One instance with DB-GPT's attribute names, the nine keys of the API. Unchecked: a stranger's values."""

    model_name: str
    host: str
    port: int
    weight: float = 1.0
    check_healthy: bool = True
    healthy: bool = False
    enabled: bool = True
    prompt_template: str | None = None
    last_heartbeat: datetime | None = None
    """Aware. None when it never beat."""
    beat_is_local: bool = False
    """`last_heartbeat` came without an offset: DB-GPT's controller sends its own local time, and which that is it does
    not say. It is taken as this host's.
    """

    @classmethod
    def read(cls, reported: dict[str, Any]) -> ReportedInstance:
        """From one object of a list; keys it does not know are left out. `last_heartbeat` as in `read_time`."""
        return cls(
            model_name=reported["model_name"],
            host=reported["host"],
            port=reported["port"],
            weight=reported.get("weight", 1.0),
            check_healthy=reported.get("check_healthy") is not False,
            healthy=reported.get("healthy") is True,
            enabled=reported.get("enabled") is not False,
            prompt_template=reported.get("prompt_template"),
            last_heartbeat=read_time(reported.get("last_heartbeat")),
            beat_is_local=is_local(reported.get("last_heartbeat")),
        )

    @property
    def key(self) -> InstanceKey:
        """Verbatim, not stripped."""
        return InstanceKey(self.model_name, self.host, self.port)

    @property
    def state(self) -> InstanceState:
        """As far as the nine keys tell: what is deregistered shows as unhealthy."""
        return reported_state(healthy=self.healthy, enabled=self.enabled)


@dataclass(frozen=True, slots=True)
class InstanceList:
    """An answer to `list`. `objects` are the API's JSON objects as they came, in their order."""

    objects: list[dict[str, Any]] = field(repr=False)
    controller: str
    """The URL that answered, without secrets."""
    date: datetime | None
    """The registry's time when it answered (header X-Ctl-Time, else Date), aware, UTC: ages count against it."""
    stale_since: datetime | None
    """From when on the answer may miss changes: its database was away (header X-Ctl-Stale-Since). Aware."""

    held_until: datetime | None = None
    """Some are listed as healthy only because the registry itself was away: until then they may beat again (header
    X-Ctl-Held-Until). Aware.
    """
    registry_time: datetime | None = None
    """`date` where the registry's clock is not the controller's own (header X-Ctl-Time); else None."""

    @property
    def time(self) -> datetime | None:
        """`date`, under the name that an `Inventory` has for it."""
        return self.date

    @property
    def instances(self) -> tuple[ReportedInstance, ...]:
        """The objects, read."""
        return tuple(map(ReportedInstance.read, self.objects))


@dataclass(frozen=True, slots=True)
class ControllerHealth:
    """One controller's answer to a health check, or its absence."""

    controller: str
    """Its URL, without secrets."""
    ok: bool
    status: int | None
    """HTTP status; None when it did not answer."""
    detail: str
    """One line: `ok`, or the reason."""
    latency: float | None
    """Seconds; None when it did not answer."""


def reported_state(*, healthy: bool, enabled: bool) -> InstanceState:
    """The state that two of the nine keys tell."""
    if not healthy:
        return InstanceState.UNHEALTHY
    return InstanceState.HEALTHY if enabled else InstanceState.DRAINED


def is_local(value: Any) -> bool:
    """Whether this is a time without an offset."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is None
    except ValueError:
        return False


def read_time(value: Any) -> datetime | None:
    """A time in ISO 8601, aware. None for null and for what is no time.

    DB-GPT sends its host's local time without an offset: it is taken as this host's, the best guess there is.
    """
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time if time.tzinfo is not None else time.astimezone()
    except (ValueError, OverflowError):
        return None
