"""What goes on until somebody ends it has to notice that nobody reads any more, also while it has nothing to say."""

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

LOOK_MS = 200
"""Between two looks at whether the block has ended meanwhile."""


@contextmanager
def ends_with_its_reader() -> Iterator[None]:
    """Raises PipeClosed in the block, whatever it waits for, as soon as the reader of stdout is gone.

    `ctl events -f | grep -m 1 unhealthy` ends with its first hit, not with the event after it. For the main thread; in
    others, and where stdout is no pipe, the next line that is written has to notice.
    """
    pipe = _pipe()
    if pipe is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = threading.Event()
    before = signal.signal(signal.SIGPIPE, _raise)
    watcher = threading.Thread(target=_wait_for_the_end, args=(pipe, ended, threading.get_ident()), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()  # what it may still send is ignored then: to wait for it would hold up the end
        signal.signal(signal.SIGPIPE, before)


def _pipe() -> int | None:
    """The descriptor of stdout if it is a pipe or a socket whose other end can be gone."""
    try:
        descriptor = sys.stdout.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _wait_for_the_end(descriptor: int, ended: threading.Event, reader: int) -> None:
    from select import POLLERR, POLLHUP, poll

    waiting = poll()
    waiting.register(descriptor, 0)
    while not ended.is_set():
        if any(told & (POLLERR | POLLHUP) for _, told in waiting.poll(LOOK_MS)):
            break
    while not ended.is_set():
        signal.pthread_kill(reader, signal.SIGPIPE)
        ended.wait(LOOK_MS / 1000)


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's shape
    """Not in the middle of an import, which would leave its file open: the next signal comes soon."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return
        frame = frame.f_back
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # once is enough
    raise PipeClosed("the reader of the output is gone")
