"""The model controller of a DB-GPT cluster, and the command line tool `ctl` that operates it.

The packages and modules, lower layers first (tests/test_layers.py lists which layer may import which):

    errors          the tree of errors, with the HTTP status and the exit code of each
    clock           the clock that everything else is given
    addresses       URLs of controllers
    database_hosts  the hosts of one database, and the order in which they are tried
    traceparent     the header with the trace of a call
    domain          the rules of instances: fields, commands, states, events, outages of the registry; pure
    settings        the declaration of every setting, its value and its origin; masking of secrets
    tracing         spans of the served requests: to a file, to a class of the user's own, to OpenTelemetry
    client          ControllerClient, AsyncControllerClient, ModelRegistryClient
    registry        ModelRegistry, the contract, and its kinds: embedded, database, remote
    controller      DB-GPT's HTTP API and /api/v1 over any ModelRegistry
    cli             the `ctl` command

Public names are imported on first use, because `ctl` must start without the libraries of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
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
__all__ = ["__version__", *_MODULES]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
