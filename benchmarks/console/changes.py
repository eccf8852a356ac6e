"""Real changes of instances over HTTP, and the rows in which the console shows them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.load import fields
from dbgpt_ctl.domain.instance import InstanceKey, Registration

if TYPE_CHECKING:
    from dbgpt_ctl.client.sync import ControllerClient

THREADS = 4
CHANGES = 4
"""So many changes has one instance in a burst."""


def key_of(index: int, models: int) -> InstanceKey:
    """The instance that the load of so many models registers as number `index`."""
    sent = fields(index, models)
    return InstanceKey(sent["model_name"], sent["host"], sent["port"])


def row_of(key: InstanceKey) -> str:
    """The selector of its row in the table of instances."""
    text = json.dumps([key.model_name, key.host, key.port], separators=(",", ":"))
    return f"main tbody tr[data-key={json.dumps(text)}]"


def burst(client: ControllerClient, models: int, instances: int, *, remove: bool) -> None:
    """CHANGES of each of the first `instances`, as fast as the controller answers."""

    def change(index: int) -> None:
        """The instance is drained and undrained, leaves, and is there again: as it was, or as a new one."""
        key = key_of(index, models)
        client.drain(key, reason="a burst")
        client.undrain(key)
        client.heartbeat(Registration(key))
        client.deregister(key, remove=remove)
        client.register(Registration(key))

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(change, range(instances)))
