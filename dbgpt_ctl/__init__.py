"""The model controller of a DB-GPT cluster, and the command line tool `ctl` that operates it.

docs/architecture.md has the map of the packages and modules. The names in `__all__` are the interface for programs.

Public names are imported on first use, because `ctl` must start without the libraries of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "AsyncControllerClient": "client.aio",
    "ControllerClient": "client.sync",
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
