"""A limit on lines of the log that a stranger causes."""

from __future__ import annotations

import logging

EVERY_SECS = 60.0


class LimitedWarnings(logging.Filter):
    """Lets each warning of uvicorn into the log once in EVERY_SECS, with the number of those that were left out.

    Uvicorn warns of each bad request, with one of a few constant texts. Without a limit, anyone who can connect could
    fill the disk, or push all other lines out of a log file that rotates.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[str, float] = {}
        """When each text was logged last, in seconds since 1970."""
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is logged."""
        if record.name != "uvicorn.error" or record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        if abs(record.created - self._logged.get(record.msg, -EVERY_SECS)) < EVERY_SECS:
            self._left_out[record.msg] = self._left_out.get(record.msg, 0) + 1
            return False
        self._logged[record.msg] = record.created
        if others := self._left_out.pop(record.msg, 0):
            record.msg, record.args = f"{text} ({others} more like it since the last such line)", None
        return True
