"""What every struct of the API is made of: a description and an example for each field, and aware times."""

from datetime import MAXYEAR, MINYEAR, datetime
from math import isnan
from typing import Annotated, Any, dataclass_transform

from msgspec import Meta, Struct, StructMeta, field

from dbgpt_ctl.domain.fields import MAX_DRAIN_DAYS

TIME = "2026-01-02T03:04:05.678901+00:00"
"""The time in examples, as in STREAM, ADDRESS and REASON."""
STREAM = "3f2a9c"
ADDRESS = "10.0.0.9"
REASON = "new drivers"
LARGEST_COUNT = 2**63 - 1
"""More would not fit a column of a database, and a sum of some digits more could not be printed."""

MAX_AGE_SECS = 100 * 365.25 * 86_400
"""More than the age of any instance; a longer time would reach back beyond the year 1."""
MAX_DRAIN_SECS = MAX_DRAIN_DAYS * 86_400
MAX_EVENT_ID = 2**63 - 1
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1000
MAX_TOKEN_CHARS = 256
"""Of what is sent to sign in."""

Time = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=LARGEST_COUNT)]
Seconds = Annotated[float, Meta(ge=0, le=MAX_AGE_SECS)]


def doc(description: str, *examples: Any, schema: dict[str, Any] | None = None, **bounds: Any) -> Meta:
    """What OpenAPI says of one field. `schema` goes into its JSON Schema as it is; `bounds` are those of `Meta`."""
    return Meta(description=description, examples=list(examples) or None, extra_json_schema=schema, **bounds)


class _Sent(StructMeta):
    def __new__(cls, name: str, bases: tuple[type, ...], fields: dict[str, Any], **options: Any) -> Any:
        return super().__new__(cls, name, bases, fields, kw_only=True, **{"frozen": True, **options})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Sent(Struct, metaclass=_Sent, frozen=True):
    """What is sent as JSON. A field with a default may be missing in a request; an answer of this release has each
    field but those that are UNSET, and a default says what the answer of an older release means.
    """

    def __post_init__(self) -> None:
        """Raises ValueError for a time at an end of the calendar, which has no value in another zone, and for NaN."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime) and not MINYEAR < value.year < MAXYEAR:
                raise ValueError(f"{name} is not a time")
            if isinstance(value, float) and isnan(value):
                raise ValueError(f"{name} is not a number")
