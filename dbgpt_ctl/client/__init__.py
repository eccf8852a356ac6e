"""A client of any DB-GPT model controller, this package's or DB-GPT's own, blocking and asynchronous.

The calls are described once, in `calls`; `sync` and `aio` run them, and `responses` holds their results. What DB-GPT's
own controller does not have raises NotSupported. Importing this package is cheap: httpx is imported when a client is
made, asyncio with `AsyncControllerClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client.sync import ControllerClient

if TYPE_CHECKING:
    from dbgpt_ctl.client.aio import AsyncControllerClient

__all__ = ["AsyncControllerClient", "ControllerClient"]


def __getattr__(name: str) -> Any:
    if name == "AsyncControllerClient":
        from dbgpt_ctl.client.aio import AsyncControllerClient

        return AsyncControllerClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
