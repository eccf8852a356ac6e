"""Ends a command that follows changes as soon as the reader of its output is gone, also while nothing changes."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.stdout import PipeClosed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

POLL_MS = 200
"""Interval of the checks whether the block has ended."""


@contextmanager
def ends_with_reader() -> Iterator[None]:
    """Raises PipeClosed in the block, whatever it waits for, as soon as the reader of stdout is gone.

    `ctl events -f | grep -m 1 unhealthy` ends with its first hit, not with the event after it. This works in the main
    thread only; in other threads, and where stdout is no pipe, the next write raises PipeClosed.
    """
    pipe = _pipe()
    if pipe is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = threading.Event()
    before = signal.signal(signal.SIGPIPE, _on_signal)
    watcher = threading.Thread(target=_signal_when_closed, args=(pipe, ended, threading.get_ident()), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()  # not joined, as that would delay the end: a signal that the thread still sends is ignored
        signal.signal(signal.SIGPIPE, before)


def _pipe() -> int | None:
    """The descriptor of stdout if it is a pipe or a socket, whose other end can close."""
    try:
        descriptor = sys.stdout.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _signal_when_closed(descriptor: int, ended: threading.Event, main_thread: int) -> None:
    from select import POLLERR, POLLHUP, poll

    waiting = poll()
    waiting.register(descriptor, 0)
    while not ended.is_set():
        if any(events & (POLLERR | POLLHUP) for _, events in waiting.poll(POLL_MS)):
            break
    while not ended.is_set():
        signal.pthread_kill(main_thread, signal.SIGPIPE)
        ended.wait(POLL_MS / 1000)


def _on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's shape
    """Raises PipeClosed, but not inside an import, which would leave its file open: the next signal comes soon."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return
        frame = frame.f_back
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # once is enough
    raise PipeClosed("the reader of the output is gone")
