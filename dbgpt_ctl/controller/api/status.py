"""The object of /api/v1/status: what a controller knows of itself, and the counts of the list that it is made of.

And /api/v1/settings: with which settings it runs, as `ctl serve --show-config` prints them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import replace

import dbgpt_ctl
from dbgpt_ctl.controller.auth.report import auth_of_status
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.routes import Route
from dbgpt_ctl.controller.http.serializers import caveats, versioned
from dbgpt_ctl.controller.service.large_lists import encoded_in_turns
from dbgpt_ctl.errors import RegistryError
from dbgpt_ctl.registry import model_counts
from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.wire import diagnosis
from dbgpt_ctl.wire.encoding import encoded
from dbgpt_ctl.wire.status import (
    AboutController,
    AboutRegistry,
    CheckObject,
    Connections,
    ModelCounts,
    OutageObject,
    RegistrySettings,
    SharingController,
    Status,
    Tls,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.controller.http.connections import ConnectionFigures
    from dbgpt_ctl.controller.http.tls import TlsListener
    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.settings.schema import ControllerSettings


MODELS_PER_TURN = 1000
"""The counts of this many models are made before other requests have their turn."""


async def status_of(
    controller: Controller, parameters: Mapping[str, list[str]] | None = None
) -> tuple[Status, Listing | None]:
    """The state of this controller and of its registry, and the list whose instances it counts. It raises no
    RegistryError: what the registry does not know is null. `parameters` are those of `parameters.newer_parameters`.
    """
    listing: Listing | None = None
    last_event_id = outages = None
    with suppress(RegistryError):  # status is most often requested while the registry cannot answer
        listing = await controller.registry.list()
        last_event_id = (await controller.registry.events(limit=1)).last_id
    with suppress(RegistryError):
        outages = list(map(OutageObject.of, await controller.registry.outages()))
    health = controller.registry_health()
    status = Status(
        **caveats(listing or Listing(()), controller.now()),
        parameters=dict(parameters or {}),
        controller=AboutController(
            version=dbgpt_ctl.__version__, started_at=controller.started_at, leaving=controller.leaving
        ),
        registry=AboutRegistry(**asdict(controller.registry.describe()), ready=health.ready, reason=health.reason),
        checks=list(map(CheckObject.of, controller.checks())),
        settings=RegistrySettings(**controller.settings),
        auth=None if controller.access is None else auth_of_status(controller.access),
        controllers=list(map(SharingController.of, controller.registry.controllers())),
        outages=outages,
        connections=None if controller.connections is None else _connections(controller.connections),
        readers_dropped=controller.readers_dropped,
        tls=None if controller.tls is None else _tls(controller.tls),
        models=None if listing is None else await counts_of(listing),
        watchers=controller.feed.watchers,
        last_event_id=last_event_id,
    )
    return status, listing


async def encoded_status(status: Status) -> bytes:
    """Its JSON. Other requests have their turn meanwhile: very many instances may each be of a model of its own."""
    if status.models is None:
        return encoded(status)
    models: Any = orjson.Fragment(await encoded_counts(status.models))
    return encoded(replace(status, models=models))


async def encoded_counts(models: Iterable[ModelCounts]) -> bytes:
    """A JSON array of them. Other requests have their turn meanwhile."""
    return b"[%b]" % b"".join(await encoded_in_turns(models))


async def counts_of(listing: Listing) -> list[ModelCounts]:
    """How many instances each model has in each state. Other requests have their turn meanwhile."""
    counted = model_counts.CountsByModel()
    await counted.add_all(listing.entries)
    models = []
    for number, (name, row) in enumerate(counted.rows(), 1):
        models.append(ModelCounts(model_name=name, **dict(zip(model_counts.COUNTS, row, strict=True))))
        if number % MODELS_PER_TURN == 0:
            await asyncio.sleep(0)
    return models


def _connections(figures: ConnectionFigures) -> Connections:
    return Connections(
        open=len(figures.connections), limit=figures.limit, closed=figures.closed, refused=figures.refused
    )


def _tls(listener: TlsListener) -> Tls:
    certificate = listener.certificate
    return Tls(port=listener.port, not_after=certificate.current.not_after, problem=certificate.problem)


class SettingsEndpoint:
    """The settings with which this process began. Secrets in them are hidden."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings

    def routes(self) -> tuple[Route, ...]:
        """Its route."""
        return (Route("GET", "/v1/settings", self.settings, RouteAccess.READER, diagnosis.EffectiveSettings),)

    async def settings(self, request: Request) -> Response:  # noqa: ARG002 - the signature of an endpoint
        """Every setting with its value in force and where that comes from, without secrets."""
        return versioned(
            settings=[
                {"name": setting.name, "variable": setting.variable, "value": shown, "origin": origin}
                for setting, shown, origin in self._settings.effective()
            ]
        )
