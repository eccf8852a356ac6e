"""Tokens, their roles, the modes of the check and the reasons to refuse a request: values without I/O.

A token is a secret of 256 random bits. A controller stores only its SHA-256 and finds it by that hash. A slow hash, as
for passwords, would protect guessable secrets and cost each request much time. Nobody can guess 256 random bits.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


PREFIX = "dctl_"
"""The begin of each token that `new_token` makes. Scanners for leaked secrets can search for it."""
MAX_VALID = 2
"""The most valid secrets of one token: while it is rotated, the old and the new one."""
MAX_NAME_CHARS = 64
_RANDOM_BYTES = 32
_NAME = re.compile(rf"(?!-)[A-Za-z0-9._-]{{1,{MAX_NAME_CHARS}}}")
_LIKE_A_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{8}}")


class Role(StrEnum):
    """What the holder of a token may do."""

    READER = "reader"
    """Lists, watches, reads events."""
    WORKER = "worker"
    """Also registers, sends heartbeats and deregisters, within the scope of the token."""
    OPERATOR = "operator"
    """Also drains, prunes, applies, exports, and registers anything."""
    METRICS = "metrics"
    """Reads /metrics, and nothing else."""


class Mode(StrEnum):
    """What a controller does with a request that its token does not allow."""

    OFF = "off"
    """Nothing is checked."""
    LOG = "log"
    """The request is served, and counted with the reason for which enforce would refuse it."""
    ENFORCE = "enforce"
    """The request is refused with 401 or 403."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a tokens file, known by its name. The secret itself is nowhere."""

    name: str
    role: Role
    sha256: tuple[str, ...] = field(default=(), repr=False)
    """The valid hashes as 64 lower-case hexadecimal digits, newest first: at most two, none when it is revoked."""
    revoked_sha256: tuple[str, ...] = field(default=(), repr=False)
    """Hashes that were valid once, so that a controller can say "revoked"; newest first."""
    models: tuple[str, ...] = ()
    """Patterns of NAME@TYPE (see `scope`); empty: any."""
    hosts: tuple[str, ...] = ()
    """Ranges of addresses and patterns of names (see `scope`); empty: any."""
    max_instances: int | None = None
    expires: datetime | None = None
    """In UTC; None: never."""

    @property
    def is_revoked(self) -> bool:
        """Whether no secret of it is valid."""
        return not self.sha256

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over, whether it was revoked before that or not."""
        return self.expires is not None and self.expires <= now


def new_token(random_bytes: Callable[[int], bytes]) -> str:
    """A new secret: `dctl_` and 43 characters of `[A-Za-z0-9_-]`, which every client sends unchanged in a URL.

    `random_bytes` is `secrets.token_bytes`, or the source of a test.
    """
    return PREFIX + urlsafe_b64encode(random_bytes(_RANDOM_BYTES)).rstrip(b"=").decode()


def sha256_of(token: str) -> str:
    """The hash by which the token is stored and found: 64 lower-case hexadecimal digits."""
    from hashlib import sha256  # slow to import, and a command of the client seldom needs it

    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_name(text: str) -> bool:
    """Whether a token may have this name: at most 64 letters, digits and . _ -, without a - at its start, which would
    make it an option in a command line, and no token pasted as a name.
    """
    return _NAME.fullmatch(text) is not None and not _LIKE_A_TOKEN.search(text)


class Reason(StrEnum):
    """The value is `reason` of the problem details and of GET /api/v1/auth. `phrase` says the same in words."""

    phrase: str

    def __new__(cls, code: str, phrase: str) -> Self:
        """A member; its value is the code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.phrase = phrase
        return member

    NONE = "none", "no token"
    UNKNOWN = "unknown", "an unknown token"
    EXPIRED = "expired", "an expired token"
    REVOKED = "revoked", "a revoked token"
    ROLE = "role", "a token whose role may not do this"
    MODELS = "models", "a token that is not for this model"
    HOSTS = "hosts", "a token that is not for this host"
    MAX_INSTANCES = "max-instances", "a token that has its max_instances registered"
    OLD_TOKEN = "old-token", "a token that was rotated: it is valid until it is revoked"
    """The one reason that is no refusal: `ctl token rotate` has replaced the token, and it is still used."""

    @property
    def is_refusal(self) -> bool:
        """Whether enforce mode refuses such a request."""
        return self is not Reason.OLD_TOKEN
