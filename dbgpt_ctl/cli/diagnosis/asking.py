"""Asks one controller, ours or DB-GPT's own, for all that the rules want to know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Seen
from dbgpt_ctl.errors import ControllerError, ErrorKind, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

    from dbgpt_ctl.cli.parsing.references import ModelFilter
    from dbgpt_ctl.client import ControllerClient, Inventory


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
    inventories = [client.inventory(name) for name in names]
    time = next((inventory.time for inventory in inventories if inventory.time), status.time) or before
    facts = ControllerFacts(
        url=url,
        host=host,
        time=time,
        skew=skew,
        status=status,
        stale_since=status.stale_since,
        held_until=status.held_until,
        seen=tuple(_seen(inventories, url, time)),
    )
    return Told(facts, models)


def _ask_stock(client: ControllerClient, url: str, host: str) -> Told:
    before = datetime.now(UTC)
    inventory = client.inventory()
    time = inventory.time or before
    facts = ControllerFacts(
        url=url,
        host=host,
        time=time,
        skew=_skew(before, inventory.time),
        stale_since=inventory.stale_since,
        held_until=inventory.held_until,
        seen=tuple(_seen([inventory], url, time)),
    )
    return Told(facts, frozenset(instance.model_name for instance in inventory.instances))


def _seen(inventories: Iterable[Inventory], url: str, time: datetime) -> Iterator[Seen]:
    for inventory in inventories:
        for instance in inventory.instances:
            if not instance.removed:
                yield Seen(
                    key=instance.key,
                    state=instance.state,
                    controller=url,
                    time=instance.time or time,
                    last_heartbeat=instance.last_heartbeat,
                    beat_is_local=instance.beat_is_local,
                    is_known=inventory.complete,
                    registered_at=instance.registered_at,
                    deregistered_at=instance.deregistered_at,
                    refused_at=instance.refused_at,
                    drained_at=instance.drained_at,
                    drained_by=instance.drained_by,
                    drain_reason=instance.drain_reason,
                    flaps=instance.flaps,
                )


def _skew(before: datetime, theirs: datetime | None) -> timedelta | None:
    """Measured against the middle of the call."""
    return None if theirs is None else theirs - (before + (datetime.now(UTC) - before) / 2)
