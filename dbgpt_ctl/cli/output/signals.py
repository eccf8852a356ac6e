"""How a signal ends `ctl`: what it drew in place is completed first, and a shell learns that a signal ended it.

A command that follows changes also ends as soon as the reader of its output is gone, while nothing changes too.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from dbgpt_ctl.cli.output.stdout import PipeClosed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_by(number: int) -> NoReturn:
    """Ends the process by the signal, without clean-up.

    A shell that runs a script ends it when a command died by SIGINT, and not when a command exits with 130: that could
    be a program, such as an editor, for which Ctrl-C has another meaning.
    """
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)  # process 1 of a container does not die by its own signals


@contextmanager
def raises_on_interrupt() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt in the block, as it does in Python, where `ctl` would end at once."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def completes_terminal(descriptor: int, sequence: bytes) -> Iterator[None]:
    """Writes `sequence` to the terminal at the end of the block, and before a signal ends the process in the block."""

    def complete() -> None:
        with suppress(OSError):  # the terminal may be closed
            os.write(descriptor, sequence)  # not to the stream: the signal may come in the middle of a write to it

    def end(number: int, _frame: FrameType | None) -> None:
        complete()
        end_by(number)

    ending = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        complete()


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
