"""A client of any DB-GPT model controller, this package's or DB-GPT's own, blocking and asynchronous.

The calls are described once, in `calls`; `sync` and `aio` run them. What DB-GPT's own controller does not have raises
NotSupported. Importing this package is cheap: httpx is imported when a client is made, asyncio with
`AsyncControllerClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client.failover import drive
from dbgpt_ctl.client.models import (
    ControllerHealth,
    ControllerStatus,
    Drained,
    EventReport,
    InstanceList,
    InstanceReport,
    Inventory,
    KnownInstance,
    ModelCount,
    ReportedInstance,
    Watched,
)
from dbgpt_ctl.client.sync import ControllerClient

if TYPE_CHECKING:
    from dbgpt_ctl.client.aio import AsyncControllerClient, drive_async

__all__ = [
    "AsyncControllerClient",
    "ControllerClient",
    "ControllerHealth",
    "ControllerStatus",
    "Drained",
    "EventReport",
    "InstanceList",
    "InstanceReport",
    "Inventory",
    "KnownInstance",
    "ModelCount",
    "ReportedInstance",
    "Watched",
    "drive",
    "drive_async",
]


def __getattr__(name: str) -> Any:
    if name in {"AsyncControllerClient", "drive_async"}:
        from dbgpt_ctl.client import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
