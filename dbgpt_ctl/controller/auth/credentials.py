"""The header Authorization: the token that it holds, and the label that the caller gives itself.

DB-GPT's two HTTP libraries send Basic, made of `http://NAME:TOKEN@host`, `http://:TOKEN@host` or
`http://TOKEN:@host`. Programs and browsers' scripts may send Bearer.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

MAX_HEADER_BYTES = 1024
"""A longer one holds no token of ours, and is not decoded."""


class Credentials(NamedTuple):
    """`label` is the user of Basic: a claim, no proof. None where the user is the token, and with Bearer."""

    token: str
    label: str | None = None


def credentials_of(header: bytes) -> Credentials | None:
    """The credentials in the value of the header; None if it holds none that this controller knows how to read."""
    if len(header) > MAX_HEADER_BYTES:
        return None
    scheme, _, value = header.strip().partition(b" ")
    match scheme.lower():
        case b"bearer":
            token = value.strip().decode("latin-1")
            return Credentials(token) if token else None
        case b"basic":
            return _basic(value.strip())
    return None


def _basic(value: bytes) -> Credentials | None:
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return None
    if not colon:
        return None
    if password:
        return Credentials(password, user or None)
    return Credentials(user) if user else None
