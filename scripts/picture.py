"""Draws docs/images/terminal.svg, the terminal in the README: `python -m scripts.picture`.

The output is real: a controller is started with a few instances, the commands below run in a terminal, and rich draws
what they print. Only the controller's port is replaced by the default one. tests/test_docs.py runs the commands again
and compares the text.
"""

from __future__ import annotations

import errno
import html
import io
import os
import pty
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
COLUMNS = 96
DEFAULT_PORT = 8000
PORTS = range(8100, 9999)
"""As many digits as the default one, so that tables keep their widths."""
START_SECS = 30.0
CTL = (sys.executable, "-m", "dbgpt_ctl")
INSTANCES: tuple[tuple[str, ...], ...] = (
    ("register", "qwen3/10.0.0.4:8001", "qwen3/10.0.0.5:8001"),
    ("register", "bge-m3@text2vec/10.0.0.6:8002"),
)
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("models", "drain", "qwen3/10.0.0.5:8001", "--reason", "new driver"),
    ("models", "list"),
    ("status",),
    ("why", "qwen", "--no-probe"),
)
_FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""rich names fonts on another server; a picture in a README loads nothing."""
_TEXT = re.compile(r"<text [^>]*>(?P<text>[^<]*)</text>")


def transcript() -> str:
    """The commands with their output, as a terminal shows it: escape sequences included."""
    with tempfile.TemporaryDirectory() as folder, _controller(Path(folder)) as (port, env):
        for words in INSTANCES:
            subprocess.run([*CTL, "models", *words], env=env, cwd=folder, check=True, capture_output=True)
        shown = []
        for words in COMMANDS:
            line = " ".join(f'"{word}"' if " " in word else word for word in ("ctl", *words))
            shown.append(f"\x1b[1;32m$\x1b[0m \x1b[1m{line}\x1b[0m\n{_in_terminal(words, env, folder)}")
    return "\n".join(shown).replace(f"127.0.0.1:{port}", f"127.0.0.1:{DEFAULT_PORT}")


@contextmanager
def _controller(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """A controller of this checkout; its port, and the environment of a client in an empty home."""
    port = _free_port()
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("CONTROLLER_", "CTL_"))}
    env = kept | {
        "CONTROLLER_ADDRESS": f"http://127.0.0.1:{port}",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "COLUMNS": str(COLUMNS),
        "LC_ALL": "C.UTF-8",
    }
    env.pop("NO_COLOR", None)
    argv = [*CTL, "serve", "--port", str(port), "--log-level", "critical"]
    with subprocess.Popen(argv, env=env, cwd=folder, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + START_SECS
            while subprocess.run([*CTL, "health"], env=env, cwd=folder, capture_output=True, check=False).returncode:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("ctl serve does not answer")
            yield port, env
        finally:
            server.terminate()


def _free_port() -> int:
    """One of PORTS by chance: two pictures that are drawn at the same time would otherwise find the same one free."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port of {PORTS} is free")


def _in_terminal(words: tuple[str, ...], env: Mapping[str, str], folder: str) -> str:
    """What a command writes to a terminal, standard error too, whatever its exit code."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*CTL, *words], env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            return b"".join(_chunks(terminal)).decode().replace("\r\n", "\n")


def _chunks(terminal: io.FileIO) -> Iterator[bytes]:
    try:
        while chunk := terminal.read(65536):
            yield chunk
    except OSError as error:
        if error.errno != errno.EIO:  # the end of a terminal's output
            raise


def drawn(text: str) -> str:
    """The SVG of a transcript."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(text), soft_wrap=False)
    return _FONT_FACES.sub("", console.export_svg(title="ctl", unique_id="terminal"))


def text_of(svg: str) -> str:
    """The text in a picture, without its spaces, which the drawing does not keep."""
    return "".join(html.unescape(match["text"]) for match in _TEXT.finditer(svg))


if __name__ == "__main__":
    PICTURE.write_text(drawn(transcript()))
