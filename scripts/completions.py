"""Writes the completion scripts into completions/. Run by `make completions`."""

from __future__ import annotations

from pathlib import Path

from dbgpt_ctl.cli.completion.scripts import FILE_NAMES, SCRIPTS

FOLDER = Path(__file__).parent.parent / "completions"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for shell, script in SCRIPTS.items():
        (FOLDER / FILE_NAMES[shell]).write_text(script)
