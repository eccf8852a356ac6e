"""GET /api/v1/commands: the commands of `ctl` for one instance, ready for a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.controller.api.called_url import called_url
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.problems import UnknownInstance
from dbgpt_ctl.controller.http.routes import REGISTRY_ERRORS, Route
from dbgpt_ctl.controller.http.serializers import versioned
from dbgpt_ctl.domain.fields import parse_key
from dbgpt_ctl.errors import VerbNotSupported
from dbgpt_ctl.wire import diagnosis, instances

if TYPE_CHECKING:
    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.domain.instance import InstanceKey

DRAIN_OPTIONS = "--reason maintenance --for 1h"
"""A reason and a time for whoever copies the command to change."""


class CommandsEndpoint:
    """What a person can do about an instance with `ctl`, at the controller that was asked."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def routes(self) -> tuple[Route, ...]:
        """Its route."""
        return (
            Route(
                "GET",
                "/v1/commands",
                self.commands,
                RouteAccess.READER,
                diagnosis.Commands,
                instances.Identity,
                errors=REGISTRY_ERRORS | {VerbNotSupported, UnknownInstance},
            ),
        )

    async def commands(self, request: Request) -> Response:
        """Commands for one instance to paste into a shell, with the address by which this controller was called."""
        key = parse_key(request.query_params)
        if await self._controller.registry.get(key) is None:
            raise UnknownInstance(key)
        shown = commands_of(key, called_url(request))
        return versioned(commands=[{"command": command, "does": does} for command, does in shown])


def commands_of(key: InstanceKey, url: str) -> tuple[tuple[str, str], ...]:
    """Each command, and what it does. Names are quoted for any shell."""
    from dbgpt_ctl.domain.references import model_word, reference_of
    from dbgpt_ctl.text.escaping import shell_argument  # `ctl serve` starts without the rest of the CLI

    ctl = f"ctl -a {shell_argument(url)}"
    instance, model = shell_argument(reference_of(key)), shell_argument(model_word(key.model_name))
    return (
        (f"{ctl} models get {instance}", "Show all its facts."),
        (f"{ctl} models ping {instance}", "Ask its worker whether it answers."),
        (f"{ctl} models drain {instance} {DRAIN_OPTIONS}", "Take it out of service for an hour."),
        (f"{ctl} models undrain {instance}", "End its drain."),
        (f"{ctl} events {instance}", "Show what happened to it."),
        (f"{ctl} why {model}", "Explain whether its model gets requests."),
    )
