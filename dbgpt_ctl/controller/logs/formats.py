"""The two formats of the log: lines of text for people, and JSON lines for programs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from time import gmtime
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.logs.current_request import CURRENT, request_id, trace_id
from dbgpt_ctl.settings.masking import mask_own_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.domain.instance import InstanceKey


REPLACEMENT = "\\ufffd"


def json_line(fields: Mapping[str, Any]) -> str:
    """One line of valid JSON without its end, whatever the texts hold. Tokens in any field are masked.

    Letters of all languages stay as they are, so that people can search for them. What a terminal would not show as one
    character, such as an escape sequence or a change of the direction of writing, becomes `\\uXXXX`. Half of a
    surrogate pair, which is no character, becomes U+FFFD.
    """
    text = mask_own_tokens(json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str))
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    if "\ud800" <= char <= "\udfff":
        return REPLACEMENT
    return json.dumps(char)[1:-1] if char > "\x7f" else f"\\u{ord(char):04x}"


def utc_time(time: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-01-02T03:04:05.678Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


FIELDS = (
    "model_name",
    "instance",
    "actor",
    "actor_name",
    "role",
    "address",
    "reason",
    "count",
    "method",
    "path",
    "status",
    "duration_ms",
    "bytes",
    "user_agent",
)
"""The fields of a JSON line beyond those that each has. A caller of `logging` gives them with `extra`; what else a
library gives there is left out.
"""
_PACKAGE = "dbgpt_ctl."


def create_formatter(log_format: str) -> logging.Formatter:
    """`text` or `json`, as the setting `log_format`."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


class TextFormatter(logging.Formatter):
    """A line is `2026-01-02T03:04:05.678Z INFO message`, in UTC. A traceback follows on lines of its own. Tokens that a
    caller put into any field are masked.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
        self.converter = gmtime

    def format(self, record: logging.LogRecord) -> str:
        return mask_own_tokens(super().format(record))


class JsonFormatter(logging.Formatter):
    """One line of valid JSON for each record, whatever its texts hold: a traceback is a field too.

    Each line has `time`, `level`, `event` and `message`; the fields of FIELDS, `request_id`, `trace_id` and
    `exception` only where they apply.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": utc_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "event": event_of(record),
            "message": record.getMessage(),
        }
        fields |= {name: found for name in FIELDS if (found := record.__dict__.get(name)) is not None}
        if (scope := CURRENT.get()) is not None:
            fields["request_id"] = request_id(scope)
            if (trace := trace_id(scope)) is not None:
                fields["trace_id"] = trace
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json_line(fields)


def event_of(record: logging.LogRecord) -> str:
    """The event that its caller gave, such as `instance.expired`. Without one it is the name of the logger, for ours
    without the package: `controller.http.tls`.
    """
    event: str | None = record.__dict__.get("event")
    return record.name.removeprefix(_PACKAGE) if event is None else event


def instance_fields(key: InstanceKey | None) -> dict[str, Any]:
    """The fields of an instance: the model, and the reference as `ctl` takes it."""
    return {} if key is None else {"model_name": key.model_name, "instance": str(key)}
