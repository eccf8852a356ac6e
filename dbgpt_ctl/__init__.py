"""The model controller of a DB-GPT cluster, and the command line tool to operate it.

The map, in the order of imports (each may import those above it only):

    errors          one tree of errors: HTTP status and exit code of each
    clock           where the time comes from
    addresses       URLs of controllers, and how their secrets are hidden
    database_hosts  the hosts of one database, and the order in which they are tried
    traceparent     the header that says to which trace a call belongs
    domain          the rules of instances: fields, states, commands, events, and the registry's own outages; pure
    settings        every setting, once, and where its value comes from
    tracing         spans of the requests served: to a file, a class of your own, OpenTelemetry
    client          ControllerClient, AsyncControllerClient, ModelRegistryClient
    registry        ModelRegistry, the contract; embedded, database, and remote behind a client
    controller      DB-GPT's HTTP API over any ModelRegistry
    cli             the `ctl` command

Public names are imported when they are first used: `ctl` starts faster than its server's libraries load.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AsyncControllerClient": "client",
    "ControllerClient": "client",
    "ControllerSettings": "settings.schema",
    "EmbeddedModelRegistry": "registry.embedded.registry",
    "DatabaseModelRegistry": "registry.database.registry",
    "InstanceKey": "domain.instance",
    "ModelRegistry": "registry.contract",
    "ModelRegistryClient": "client.dbgpt_compat",
    "Registration": "domain.instance",
    "RemoteModelRegistry": "registry.remote",
    "create_app": "controller.app",
    "initialize_controller": "controller.bootstrap",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
