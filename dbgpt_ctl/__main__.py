"""The process `ctl`: the console script, and `python -m dbgpt_ctl`."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Runs the command line. Exits.

    Ctrl-C ends the process by SIGINT, at once and without a message: a shell ends its script then, while it would go on
    after an exit with 130. What has something to restore handles the signal itself (`cli.output.signals`, `ctl serve`).
    """
    # The kernel discards signals to process 1, as in a container, unless they are handled: Python's handler remains.
    if os.getpid() != 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from dbgpt_ctl.cli import app  # takes a tenth of a second, in which Ctrl-C would print a traceback

    app()


if __name__ == "__main__":
    main()
