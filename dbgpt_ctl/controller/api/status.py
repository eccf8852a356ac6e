"""The object of /api/v1/status: what a controller knows of itself, and the counts of the list that it is made of."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

import dbgpt_ctl
from dbgpt_ctl.controller.auth.report import auth_object, refused_worker_object
from dbgpt_ctl.controller.http.serializers import (
    caveats_object,
    check_object,
    connections_object,
    controller_object,
    iso,
    outage_object,
    tls_object,
)
from dbgpt_ctl.controller.service.large_lists import encoded_in_turns
from dbgpt_ctl.errors import RegistryError
from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.registry.model_counts import COUNTS, ModelCounts

if TYPE_CHECKING:
    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.service.controller import Controller


class StatusReport(NamedTuple):
    """The status of a controller at one time."""

    fields: dict[str, Any]
    """The object, without its version. `models` is a piece of JSON."""
    listing: Listing | None
    """The list whose instances it counts; None while the registry cannot answer."""


async def status_report(controller: Controller) -> StatusReport:
    """The state of this controller and of its registry, and the number of instances by model and state. It raises no
    RegistryError: what the registry does not know is null.
    """
    listing: Listing | None = None
    last_event_id = None
    with suppress(RegistryError):  # status is most often requested while the registry cannot answer
        listing = await controller.registry.list()
        last_event_id = (await controller.registry.events(limit=1)).last_id
    outages = None
    with suppress(RegistryError):
        outages = list(map(outage_object, await controller.registry.outages()))
    health = controller.registry_health()
    fields = dict(
        **caveats_object(listing or Listing(()), controller.now()),
        controller={
            "version": dbgpt_ctl.__version__,
            "started_at": iso(controller.started_at),
            "leaving": controller.leaving,
        },
        registry=asdict(controller.registry.describe()) | {"ready": health.ready, "reason": health.reason},
        checks=list(map(check_object, controller.checks())),
        settings=controller.settings,
        auth=None if controller.access is None else _auth_object(controller.access),
        controllers=list(map(controller_object, controller.registry.controllers())),
        outages=outages,
        connections=None if controller.connections is None else connections_object(controller.connections),
        readers_dropped=controller.readers_dropped,
        tls=None if controller.tls is None else tls_object(controller.tls),
        models=None if listing is None else await counts_object(listing),
        watchers=controller.feed.watchers,
        last_event_id=last_event_id,
    )
    return StatusReport(fields, listing)


def _auth_object(access: Access) -> dict[str, Any]:
    """With the workers that are refused: an instance whose heartbeats are refused looks like a dead one."""
    return {**auth_object(access), "refused_workers": list(map(refused_worker_object, access.refusals.workers()))}


async def counts_object(listing: Listing) -> orjson.Fragment:
    """A JSON array with the counts of each model. Other requests have their turn meanwhile, also where each of very
    many instances is the only one of its model.
    """
    counts = ModelCounts()
    await counts.add_all(listing.entries)
    objects = ({"model_name": name, **dict(zip(COUNTS, row, strict=True))} for name, row in counts.rows())
    return orjson.Fragment(b"[%b]" % b"".join(await encoded_in_turns(objects)))
