"""A network without any other machine, in which a test may use the addresses and ports that a deployment says.

Only the thread of the test and the processes that it starts are in it. It has a loopback interface and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def missing_rights() -> str | None:
    """What keeps this process from making a network of its own; None when nothing does."""
    if os.geteuid() != 0:
        return "only root may make a network of its own"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False, text=True)
    return None if done.returncode == 0 else f"no network of its own: {done.stderr.strip()}"


def in_private_network(test: Callable[[], T], addresses: Sequence[str]) -> T:
    """What `test` returns in a new network, whose loopback interface has the given addresses beside 127.0.0.1.

    `test` runs in a thread of its own, because the network of a process is that of the thread that started it. Raises
    what `test` raises.
    """

    def run() -> T:
        # The standard library has no unshare before Python 3.12.
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in addresses:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        return test()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(run).result()
