"""Asks one controller, ours or DB-GPT's own, for all that the rules want to know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Seen
from dbgpt_ctl.errors import ControllerError, ErrorKind, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from dbgpt_ctl.cli.parsing.references import ModelFilter
    from dbgpt_ctl.client import ControllerClient, ReportedInstance
    from dbgpt_ctl.client.details import KnownInstance


class Told(NamedTuple):
    """What one controller tells, and the names of all its models."""

    facts: ControllerFacts
    models: frozenset[str] = frozenset()


def ask(connect: Callable[[], ControllerClient], url: str, wanted: ModelFilter) -> Told:
    """Instances are all, or of ours only those wanted. An error of the controller is a fact too."""
    host = urlsplit(url).hostname or ""
    try:
        with connect() as client:
            try:
                return _ask_ours(client, url, host, wanted)
            except NotSupported:
                return _ask_stock(client, url, host)
    except ControllerError as error:
        is_there = error.kind is not ErrorKind.NO_ANSWER
        return Told(ControllerFacts(url, host, error.detail, error.code, is_there=is_there))


def _ask_ours(client: ControllerClient, url: str, host: str, wanted: ModelFilter) -> Told:
    before = datetime.now(UTC)
    status = client.status()
    skew = _skew(before, status.time)
    models = frozenset(each.model_name for each in status.models)
    names = sorted(filter(wanted.matches, models)) if str(wanted) else [None]
    reports = [client.instances(name) for name in names]
    time = next((each.time for each in reports if each.time), status.time) or before
    seen = [_known(each, url, each.time or time) for report in reports for each in report.instances if not each.removed]
    facts = ControllerFacts(
        url=url,
        host=host,
        time=time,
        skew=skew,
        status=status,
        stale_since=status.stale_since,
        held_until=status.held_until,
        seen=tuple(seen),
    )
    return Told(facts, models)


def _ask_stock(client: ControllerClient, url: str, host: str) -> Told:
    before = datetime.now(UTC)
    answer = client.list()
    time = answer.date or before
    seen = tuple(_nine_keys(each, url, time) for each in answer.instances)
    facts = ControllerFacts(
        url=url,
        host=host,
        time=time,
        skew=_skew(before, answer.date),
        stale_since=answer.stale_since,
        held_until=answer.held_until,
        seen=seen,
    )
    return Told(facts, frozenset(each.key.model_name for each in seen))


def _known(each: KnownInstance, url: str, time: datetime) -> Seen:
    return Seen(
        key=each.key,
        state=each.state,
        controller=url,
        time=time,
        last_heartbeat=each.last_heartbeat,
        is_known=True,
        registered_at=each.registered_at,
        deregistered_at=each.deregistered_at,
        refused_at=each.refused_at,
        drained_at=each.drained_at,
        drained_by=each.drained_by,
        drain_reason=each.drain_reason,
        flaps=each.flaps,
    )


def _nine_keys(each: ReportedInstance, url: str, time: datetime) -> Seen:
    return Seen(
        key=each.key,
        state=each.state,
        controller=url,
        time=time,
        last_heartbeat=each.last_heartbeat,
        beat_is_local=each.beat_is_local,
    )


def _skew(before: datetime, theirs: datetime | None) -> timedelta | None:
    """Measured against the middle of the call."""
    return None if theirs is None else theirs - (before + (datetime.now(UTC) - before) / 2)
