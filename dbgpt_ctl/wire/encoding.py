"""JSON of what is sent. Times have an offset and always microseconds, because Python 3.10 reads no shorter form."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

import msgspec
import orjson

from dbgpt_ctl.wire.fields import Sent

S = TypeVar("S", bound=Sent)


def encoded(sent: Any) -> bytes:
    """One struct, or objects and arrays of structs."""
    return orjson.dumps(sent, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, Sent):
        return {name: each for name, each in msgspec.structs.asdict(value).items() if each is not msgspec.UNSET}
    raise TypeError(f"{type(value).__name__} is not sent")


def plain_object(sent: Sent) -> Any:
    """The object that the JSON of a struct is."""
    return orjson.loads(encoded(sent))
