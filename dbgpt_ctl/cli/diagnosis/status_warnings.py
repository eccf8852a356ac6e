"""What in an overview needs a look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.changes import reference_of
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.instances import span
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.cli.commands.status import Overview
    from dbgpt_ctl.client.details import ControllerStatus, KnownInstance

LONG_DRAIN = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Concern:
    """`kind` is stable, for scripts. `subject` and `detail` may be printed: `SUBJECT DETAIL` is a sentence."""

    kind: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.subject} {self.detail}"


def warnings_of(overview: Overview) -> list[Concern]:
    """The worst first."""
    now = overview.first.time or datetime.now(UTC)
    return [
        *_of_controllers(overview),
        *_of_registry(overview.first, now),
        *_of_models(overview.first),
        *(found for each in overview.odd if (found := _of_instance(each, now, overview.first)) is not None),
    ]


def _of_controllers(overview: Overview) -> Iterator[Concern]:
    for each in overview.controllers:
        if each.word in ("down", "unknown", "leaving"):
            why = f": {each.error.detail}" if each.error else ""
            text = {"down": "does not answer", "unknown": "says nothing of itself"}.get(each.word, "is leaving")
            yield Concern(f"controller_{each.word}", escaped(each.controller), f"{text}{why}")
    homes = {(each.status.kind, each.status.place): each for each in overview.controllers if each.status}
    if len(homes) > 1 or _is_split(overview):
        shown = ", ".join(f"{escaped(each.controller)}: {_home(kind, place)}" for (kind, place), each in homes.items())
        yield Concern("controllers_disagree", "the controllers", f"do not share one registry ({shown})")


def _is_split(overview: Overview) -> bool:
    """Several controllers that each keep their own facts in memory."""
    return sum(each.status is not None and each.status.kind == "embedded" for each in overview.controllers) > 1


def _home(kind: str, place: str | None) -> str:
    return escaped(kind if place is None else f"{kind} at {place}")


def _of_registry(first: ControllerStatus, now: datetime) -> Iterator[Concern]:
    if not first.ready:
        yield Concern("registry_not_ready", "the registry", f"cannot be asked: {escaped(str(first.reason))}")
    elif first.reason:
        yield Concern("registry_degraded", "the registry", f"is degraded: {escaped(first.reason)}")
    if first.stale_since:
        yield Concern(
            "stale",
            "the registry",
            f"is away; this is what it held {span((now - first.stale_since).total_seconds())} ago",
        )
    if first.held_until:
        left = span((first.held_until - now).total_seconds())
        yield Concern("held", "the registry", f"was away; for {left} more some are shown as they were then")


def _of_models(first: ControllerStatus) -> Iterator[Concern]:
    for each in first.models:
        if not each.healthy and (each.unhealthy or each.drained):
            others = [f"{number} {state}" for state in InstanceState if (number := getattr(each, state))]
            yield Concern(
                "no_healthy_instance", escaped(each.model_name), f"has no healthy instance ({', '.join(others)})"
            )


def _of_instance(instance: KnownInstance, now: datetime, first: ControllerStatus) -> Concern | None:
    subject = reference_of(instance.key)
    timeout = timedelta(seconds=first.heartbeat_timeout_secs or 60)
    if instance.state is InstanceState.DRAINED and instance.drained_at and now - instance.drained_at > LONG_DRAIN:
        why = f": {escaped(instance.drain_reason)}" if instance.drain_reason else ""
        return Concern(
            "drained_long", subject, f"is drained since {span((now - instance.drained_at).total_seconds())}{why}"
        )
    if instance.refused_at is not None and now - instance.refused_at <= timeout:
        last = span((now - instance.refused_at).total_seconds())
        return Concern("still_beating", subject, f"is deregistered and still beating, {last} ago")
    return None
