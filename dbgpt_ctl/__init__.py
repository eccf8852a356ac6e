"""The model controller of a DB-GPT cluster, and the command line tool to operate it.

The map, in the order of imports (each may import those above it only):

    errors      one tree of errors: HTTP status and exit code of each
    addresses   URLs of controllers, and how their secrets are hidden
    hosts       the hosts of one database, and in which order they are tried
    fields      what a stranger sends of an instance, checked
    instance    what an instance is, and the rules of its life; pure
    events      what happened to instances: changes of state, and who caused them; pure
    clock       where the time comes from
    settings    every knob, once
    traceparent the header that says in which trace a call is
    tracing     spans of the requests served: to a file, a class of your own, OpenTelemetry
    client      ControllerClient, AsyncControllerClient, ModelRegistryClient
    registry    ModelRegistry, the contract; embedded, database, and remote behind a client
    controller  DB-GPT's HTTP API over any ModelRegistry
    cli         the `ctl` command

Public names are imported when they are first used: `ctl` starts faster than its server's libraries load.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AsyncControllerClient": "client",
    "ControllerClient": "client",
    "ControllerSettings": "settings",
    "EmbeddedModelRegistry": "registry.embedded",
    "DatabaseModelRegistry": "registry.database",
    "InstanceKey": "instance",
    "ModelRegistry": "registry",
    "ModelRegistryClient": "client.registry_client",
    "Registration": "instance",
    "RemoteModelRegistry": "registry.remote",
    "create_app": "controller.app",
    "initialize_controller": "controller.main",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
