"""How a signal ends `ctl`: what it drew in place is completed first, and a shell learns that a signal ended it."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

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
