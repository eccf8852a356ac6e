"""A client of any DB-GPT model controller, this package's or DB-GPT's own, blocking and asynchronous.

The calls are described once, in `calls`; `blocking` and `asynchronous` are the two ways to drive them. What is beyond
DB-GPT's own verbs raises NotSupported there. Importing this module is cheap: httpx is imported when a client is made.
"""

from __future__ import annotations

from dbgpt_ctl.client.aio import AsyncControllerClient, drive_async
from dbgpt_ctl.client.details import (
    ControllerStatus,
    Drained,
    EventReport,
    InstanceReport,
    Inventory,
    KnownInstance,
    ModelCount,
    Watched,
)
from dbgpt_ctl.client.models import ControllerHealth, InstanceList, ReportedInstance
from dbgpt_ctl.client.sync import ControllerClient, drive

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
