"""GET /api/v1/commands: the commands of `ctl` for one instance, with the URL by which the caller asked."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.cross_site import host_of
from dbgpt_ctl.controller.http.problems import UnknownInstance
from dbgpt_ctl.controller.http.request import header_map
from dbgpt_ctl.controller.http.routes import REGISTRY_ERRORS, Route
from dbgpt_ctl.controller.http.serializers import versioned
from dbgpt_ctl.domain.fields import parse_key
from dbgpt_ctl.errors import UsageError, VerbNotSupported
from dbgpt_ctl.settings.addresses import parse_address
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


def called_url(request: Request) -> str:
    """The scheme and the `Host` of the request, with the prefix where an application has it, without a trailing slash.

    What is before a proxy is not known: its scheme and its prefix. Without a `Host` that is one, it is the address at
    which the connection arrived.
    """
    scope = request.scope
    scheme, prefix = scope.get("scheme", "http"), scope.get("root_path", "")
    host = header_map(scope).get(b"host", b"").decode("latin-1")
    if host.isascii() and host_of(host) is not None:  # a foreign application may allow any text
        with suppress(UsageError):
            return parse_address(f"{scheme}://{host}{prefix}").url
    address, port = scope.get("server") or ("localhost", None)
    place = f"[{address}]" if ":" in address else address
    return f"{scheme}://{place}:{port}" if port else f"{scheme}://localhost"
