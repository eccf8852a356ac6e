"""JSON lines, for the log and the audit log.

The standard library makes them. orjson is faster, and raises for half of a surrogate pair, which a path or the text of
an error may hold; python-json-logger and structlog bring the same choice of encoders and a dependency more.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.settings.masking import mask_own_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

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
