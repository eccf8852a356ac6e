"""GET /api/v1/settings: with which settings this controller runs, as `ctl serve --show-config` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.routes import Route
from dbgpt_ctl.controller.http.serializers import versioned
from dbgpt_ctl.wire import diagnosis

if TYPE_CHECKING:
    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.settings.schema import ControllerSettings


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
