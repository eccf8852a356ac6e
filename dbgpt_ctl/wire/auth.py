"""The check of who may do what: its state, its tokens, and what it refuses. No struct holds a secret or a hash."""

from datetime import timedelta
from typing import Annotated

from msgspec import field

from dbgpt_ctl.domain.fields import canonical_host
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.wire.answers import Version, Versioned
from dbgpt_ctl.wire.fields import ADDRESS, MAX_TOKEN_CHARS, TIME, Count, Seconds, Sent, Time, doc


class ExpiringToken(Sent):
    """A token that expires within 30 days, or has expired."""

    name: Annotated[str, doc("The name of the token.", "worker-a")]
    expires: Annotated[Time, doc("When it expires.", TIME)]


class AuthTokensFile(Sent):
    """The tokens file, as this controller read it last."""

    digest: Annotated[
        str,
        doc(
            "12 hexadecimal digits that differ when the tokens do; the mode and comments do not count.", "9f2c1d04ab37"
        ),
    ]
    tokens: Annotated[Count, doc("How many tokens it has.", 3)]
    problem: Annotated[
        str | None, doc("Why the file cannot be used now; the tokens that were read last stay in force.")
    ]
    readable_by_others: Annotated[str | None, doc("The mode of the file, if others than its owner can read it.")]
    expiring: list[ExpiringToken]


class Auth(Sent):
    """The check of who may do what."""

    mode: Annotated[str, doc("off, log or enforce.", "enforce")]
    mode_origin: Annotated[str, doc("`tokens file` or `setting`.", "tokens file")]
    open: Annotated[bool, doc("Whether nothing is checked although other machines can reach the controller.", False)]
    tokens_file: Annotated[AuthTokensFile | None, doc("Null without one.")]


class TokenUse(Sent):
    """A token of the tokens file, and its use at this controller since the controller's start."""

    name: Annotated[str, doc("The name of the token.", "worker-a")]
    role: Annotated[str, doc("reader, worker, operator or metrics.", "worker")]
    models: Annotated[list[str], doc("The models that it may register; empty: any.", ["qwen*@llm"])]
    hosts: Annotated[list[str], doc("The hosts that it may register; empty: any.", ["10.0.0.0/24"])]
    max_instances: Annotated[Count | None, doc("How many instances it may register; null: any number.", None)]
    expires: Annotated[Time | None, doc("Null: never.", None)]
    valid: Annotated[Count, doc("How many secrets are valid for it: 0 when it is revoked, 2 while it is rotated.", 1)]
    last_used: Annotated[
        Time | None, doc("The last request with its newest secret, or before it was revoked; null: none.", TIME)
    ]
    old_last_used: Annotated[Time | None, doc("The last request with the secret that was replaced; null: none.", None)]


class Tally(Sent):
    """How often something was refused, or served in log mode, and when."""

    reason: Annotated[
        str,
        doc(
            "none, unknown, expired, revoked, role, models, hosts or max-instances: why enforce mode refuses it. "
            "old-token is no refusal: the token was rotated, and is valid until it is revoked.",
            "none",
        ),
    ]
    count: Annotated[Count, doc("How many requests.", 12)]
    first: Annotated[Time, doc("The first of them.", TIME)]
    last: Annotated[Time, doc("The last of them.", TIME)]
    served: Annotated[
        bool, doc("Whether they were served, as in log mode; a change of the mode begins the count anew.", True)
    ]


class RefusedRequests(Tally):
    """Requests that have all these facts in common. Texts of callers are in escaped ASCII, cut, and without tokens."""

    source: Annotated[str | None, doc("The address from which they came.", ADDRESS)]
    user_agent: Annotated[str, doc("The header User-Agent.", "python-httpx/0.27.0")]
    label: Annotated[str | None, doc("The user name that the caller gives itself.", "worker-a")]
    token: Annotated[str | None, doc("The name of the token, where it is known.", None)]
    request: Annotated[str, doc("Method and path.", "POST /api/controller/heartbeat")]
    model_name: Annotated[str | None, doc("The instance, where the request was read so far.", "qwen3@llm")]
    host: Annotated[str | None, doc("The instance, where the request was read so far.", "10.0.0.4")]
    port: Annotated[int | None, doc("The instance, where the request was read so far.", 8001)]

    @property
    def key(self) -> InstanceKey | None:
        """The instance; None where it is not known."""
        return _key(self.model_name, self.host, self.port)


class Refusals(Sent):
    """The requests that enforce mode refuses."""

    since: Annotated[Time, doc("Since when this controller has counted them.", TIME)]
    rows: Annotated[list[RefusedRequests], doc("At most 1,000, in no order.")]
    other: Annotated[list[Tally], doc("What has no row, by reason.")]


class AuthReportObject(Auth):
    """The tokens, and the requests that enforce mode refuses, at this controller."""

    version: Version = 1
    time: Annotated[Time, doc("The time of the controller.", TIME)]
    tokens: Annotated[list[TokenUse], doc("As the tokens file has them, without secrets and hashes.")]
    refusals: Refusals


class SignIn(Sent):
    """With which token."""

    token: Annotated[
        str,
        doc(
            "As `ctl token create` prints it; `NAME:` before it is left out.",
            "dctl_sLhHZTSRrysz8N3YjhDeQTUCArMHyHsb3h9isKne6fY",
            min_length=1,
            max_length=MAX_TOKEN_CHARS,
        ),
    ]


class PageSession(Versioned):
    """Who the page in a browser is, and what it may do at this controller."""

    mode: Annotated[str, doc("off, log or enforce.", "enforce")]
    name: Annotated[str | None, doc("The name of the valid token that proves the request; null: none does.", "anna")]
    role: Annotated[str | None, doc("The role of that token.", "operator")]
    expires: Annotated[Time | None, doc("When the session or its token ends, whichever is first; null: never.", TIME)]
    may_read: Annotated[bool, doc("Whether lists, events and the status are for this page.", True)]
    may_change: Annotated[bool, doc("Whether a drain that this page sends would be served.", True)]
    read_only_reason: Annotated[str | None, doc("A sentence for people, if it would not be; else null.", None)]


class RefusedWorkerObject(Sent):
    """Heartbeats and registers that this controller refuses for one reason, to one caller."""

    reason: Annotated[str, doc("One of the reasons of `/api/v1/auth`.", "none")]
    source: Annotated[str | None, doc("The address from which they came.", ADDRESS)]
    token: Annotated[str | None, doc("The name of the token, where it is known.", None)]
    model_name: Annotated[
        str | None, doc("The instance; null where the body was not read, as without a valid token.", None)
    ]
    host: Annotated[str | None, doc("The same.", None)]
    port: Annotated[int | None, doc("The same.", None)]
    count: Annotated[Count, doc("How many were refused.", 12)]
    last_secs_ago: Annotated[Seconds, doc("How long ago the last one was refused, in seconds.", 3.2)]

    @property
    def key(self) -> InstanceKey | None:
        """The instance; None where it is not known."""
        return _key(self.model_name, self.host, self.port)

    @property
    def age(self) -> timedelta:
        """Of the last one."""
        return timedelta(seconds=self.last_secs_ago)


class AuthOfStatus(Auth):
    """The check of who may do what, and the workers that it refuses."""

    refused_workers: Annotated[
        list[RefusedWorkerObject], doc("Those of the last 10 minutes, at most 1,000, in no order.")
    ] = field(default_factory=list)


def _key(model_name: str | None, host: str | None, port: int | None) -> InstanceKey | None:
    if model_name is None or host is None or port is None:
        return None
    return InstanceKey(model_name, canonical_host(host), port)
