"""The end of a command whose reader is gone. Real pipes are in test_events and watch/test_lines."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.output import closed_pipe
from dbgpt_ctl.cli.output.stdout import PipeClosed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _signal_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


def stack(*files: str) -> Any:
    """Frames, the innermost first."""
    frame = None
    for file in reversed(files):
        frame = SimpleNamespace(f_code=SimpleNamespace(co_filename=file), f_back=frame)
    return frame


def test_an_import_is_not_cut_short() -> None:
    """It would leave its file open; the signal comes again."""
    closed_pipe._on_signal(signal.SIGPIPE, stack("abc.py", "<frozen importlib._bootstrap_external>", "following.py"))
    with pytest.raises(PipeClosed):
        closed_pipe._on_signal(signal.SIGPIPE, stack("socket.py", "following.py"))


def test_it_is_raised_once() -> None:
    with pytest.raises(PipeClosed):
        closed_pipe._on_signal(signal.SIGPIPE, None)
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
