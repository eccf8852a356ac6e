"""On PYTHONPATH of a process: makes its event loop block on command. Imports nothing of this project.

At SIGUSR1 the main thread, where the loop of uvicorn runs, writes the file that TESTS_BLOCK_FILE names and waits until
it is gone.
The process lives on and accepts connections, and nothing in it runs.
"""

import os
import signal
import time
from pathlib import Path


def _block(*_: object) -> None:
    file = Path(os.environ["TESTS_BLOCK_FILE"])
    file.write_text("blocked")
    while file.exists():
        time.sleep(0.01)


signal.signal(signal.SIGUSR1, _block)
