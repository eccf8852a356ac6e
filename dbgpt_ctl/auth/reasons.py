"""Why a request is refused in enforce mode, and served and counted in log mode."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


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
