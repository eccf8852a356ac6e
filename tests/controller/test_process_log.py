"""The log of the process."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.controller import process_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("uvicorn", "sqlalchemy", "httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_line_has_the_time_in_utc_and_the_level(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "ctl.log"
    with contextlib.closing(process_log.configure("info", str(path))):
        logging.getLogger("dbgpt_ctl.instances").info("%s registered", "qwen")
        logging.getLogger("dbgpt_ctl").debug("below the level")
        logging.getLogger("uvicorn.error").info("a start")
        logging.getLogger("uvicorn.error").warning("a fault")
    first, second = path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO qwen registered", first)
    assert second.endswith("Z WARNING a fault")


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        process_log.configure("info", str(tmp_path / "file" / "ctl.log"))
