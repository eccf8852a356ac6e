"""Pings many instances: several at the same time, and one after the other where they share a worker process."""

from __future__ import annotations

from collections import defaultdict
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.client.transport import Observe
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.domain.ping_results import Ping
    from dbgpt_ctl.ping.worker import PingOptions


def ping_all(
    keys: Sequence[InstanceKey],
    options: PingOptions,
    *,
    on_result: Callable[[Ping], None] = lambda _ping: None,
    observe: Observe | None = None,
) -> list[Ping]:
    """The results in the order of `keys`. `on_result` is called with each, in this thread, as it comes.

    The instances of one worker process (host and port) are pinged one after the other. `observe` is called with each
    request, in any thread. An exception in this thread, such as KeyboardInterrupt, ends the call at once: the threads
    are daemons.
    """
    finished = _start(_by_process(keys), options, observe)
    results: dict[InstanceKey, Ping] = {}
    while len(results) < len(set(keys)):
        ping = finished.get()
        if isinstance(ping, BaseException):
            raise ping
        results[ping.key] = ping
        on_result(ping)
    return [results[key] for key in keys]


def _by_process(keys: Sequence[InstanceKey]) -> list[list[InstanceKey]]:
    """The instances without duplicates, one list for each worker process."""
    processes: defaultdict[tuple[str, int], list[InstanceKey]] = defaultdict(list)
    for key in dict.fromkeys(keys):
        processes[key.host, key.port].append(key)
    return list(processes.values())


def _start(
    processes: Sequence[Sequence[InstanceKey]], options: PingOptions, observe: Observe | None
) -> SimpleQueue[Ping | BaseException]:
    """Starts the threads. In the queue are their results as they come, and an exception that is a bug."""
    from dbgpt_ctl.ping.calls import worker_transport  # it imports httpx
    from dbgpt_ctl.ping.worker import WorkerProcess

    transport = worker_transport(observe)
    waiting: SimpleQueue[Sequence[InstanceKey]] = SimpleQueue()
    finished: SimpleQueue[Ping | BaseException] = SimpleQueue()
    for process in processes:
        waiting.put(process)

    def run() -> None:
        try:
            while True:
                keys = waiting.get_nowait()
                process = WorkerProcess(transport, options)
                for key in keys:
                    finished.put(process.ping(key))
        except Empty:
            return
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are read
            finished.put(error)

    for _ in range(min(options.at_once, len(processes))):
        Thread(target=run, daemon=True).start()
    return finished
