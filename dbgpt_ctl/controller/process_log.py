"""The log of the process that `ctl serve` runs. A line is `2026-01-02T03:04:05.678Z INFO message`, in UTC."""

from __future__ import annotations

import logging
import logging.handlers
import time
from pathlib import Path

MAX_LOG_FILE_BYTES = 10 * 1024 * 1024
KEPT_LOG_FILES = 5


def configure(level: str, log_file: str | None) -> logging.Handler:
    """Sends every logger to `log_file` (rotated, folders made), or to standard error without one. Raises OSError."""
    handler: logging.Handler
    if log_file:
        path = Path(log_file).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=MAX_LOG_FILE_BYTES, backupCount=KEPT_LOG_FILES, encoding="utf-8"
        )
    else:
        handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log each start and each connection; only their warnings matter here.
    for chatty in ("uvicorn", "sqlalchemy", "httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
    return handler
