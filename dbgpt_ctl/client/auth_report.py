"""What a controller reports of its tokens and of the requests that enforce mode refuses: GET /api/v1/auth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client.responses import read_count, read_key, read_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from dbgpt_ctl.client.responses import Answer
    from dbgpt_ctl.domain.instance import InstanceKey


@dataclass(frozen=True, slots=True)
class TokenUse:
    """A token and when it was used last at this controller, since the controller's start."""

    name: str
    role: str
    models: tuple[str, ...]
    hosts: tuple[str, ...]
    max_instances: int | None
    expires: datetime | None
    valid: int
    """How many secrets are valid for it now: 0 if it is revoked, 2 after a rotate."""
    last_used: datetime | None
    old_last_used: datetime | None
    """Of the secret that `ctl token rotate` has replaced."""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> TokenUse:
        """One of the `tokens`."""
        limit = fields.get("max_instances")
        return cls(
            str(fields["name"]),
            str(fields["role"]),
            tuple(map(str, fields.get("models") or ())),
            tuple(map(str, fields.get("hosts") or ())),
            None if limit is None else read_count(limit),
            *(read_time(fields.get("expires")), read_count(fields["valid"])),
            *(read_time(fields.get(name)) for name in ("last_used", "old_last_used")),
        )


@dataclass(frozen=True, slots=True)
class RefusedRequests:
    """Requests that were refused, or served in log mode, and are counted together.

    `reason` is one of `auth.reasons.Reason`, or one of a newer release. Of `other` only the first five are known.
    """

    reason: str
    count: int
    first: datetime
    last: datetime
    served: bool
    source: str | None = None
    user_agent: str | None = None
    label: str | None = None
    token: str | None = None
    request: str | None = None
    """Method and path."""
    instance: InstanceKey | None = None
    object: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The API's own object."""

    @classmethod
    def read(cls, fields: dict[str, Any]) -> RefusedRequests:
        """One of the `rows` or of `other`."""
        first, last = read_time(fields["first"]), read_time(fields["last"])
        if first is None or last is None:
            raise ValueError("not a row of refused requests")
        names = ("source", "user_agent", "label", "token", "request")
        texts: dict[str, Any] = {name: None if fields.get(name) is None else str(fields[name]) for name in names}
        key = None if fields.get("model_name") is None else read_key(fields)
        counts = str(fields["reason"]), read_count(fields["count"]), first, last, fields["served"] is True
        return cls(*counts, **texts, instance=key, object=fields)


@dataclass(frozen=True, slots=True)
class AuthReport:
    """An answer to `auth`. Times are the registry's, as far as the controller knows them, and aware."""

    controller: str
    """The URL that answered, without secrets."""
    object: dict[str, Any] = field(repr=False)
    """The API's own object."""
    time: datetime
    mode: str
    mode_origin: str
    digest: str | None
    """Of the tokens; equal at controllers with the same tokens. None without a tokens file."""
    problem: str | None
    """Why the tokens file of now is not in force."""
    tokens: tuple[TokenUse, ...]
    since: datetime
    """When this controller began to count."""
    rows: tuple[RefusedRequests, ...]
    other: tuple[RefusedRequests, ...]
    """What has no row, because there were too many."""

    @property
    def counted(self) -> Sequence[RefusedRequests]:
        """All rows, with `other`."""
        return (*self.rows, *self.other)

    @classmethod
    def read(cls, answer: Answer) -> AuthReport:
        """From /api/v1/auth."""
        fields = answer.fields
        refusals, file = fields["refusals"], fields["tokens_file"]
        time, since = read_time(fields["time"]), read_time(refusals["since"])
        if time is None or since is None:
            raise ValueError("not a report of tokens and refusals")
        return cls(
            controller=answer.controller,
            object=fields,
            time=time,
            mode=str(fields["mode"]),
            mode_origin=str(fields["mode_origin"]),
            digest=None if file is None else str(file["digest"]),
            problem=None if file is None or file["problem"] is None else str(file["problem"]),
            tokens=tuple(map(TokenUse.read, fields["tokens"])),
            since=since,
            rows=tuple(map(RefusedRequests.read, refusals["rows"])),
            other=tuple(map(RefusedRequests.read, refusals["other"])),
        )
