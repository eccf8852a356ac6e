"""Secrets: how they are hidden in everything that is shown, and how they are read from files.

No other module does either. An error about an address hides its user and token with the same rule as a table of
settings.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.files import KIB, read_with_mode

HIDDEN = "********"
OTHERS = 0o077
"""The bits of a file's mode that grant something to anybody but its owner."""
OTHERS_WRITE = 0o022
OTHERS_READ = 0o044
_GROUP_READ = 0o040
_USER_OF_URL = re.compile(r"([A-Za-z]+://)?.*@", re.DOTALL)
_OWN_TOKEN = re.compile(r"dctl_[A-Za-z0-9_-]*", re.IGNORECASE)
_LIKE_OWN_TOKEN = re.compile(r"dctl_[A-Za-z0-9_-]{8,}|(?<=\bbasic )[A-Za-z0-9+/=_-]{32,}", re.IGNORECASE)
_LONG_RUN = re.compile(r"[A-Za-z0-9_+/=-]{32,}")
_PLAIN = re.compile(r"[\w.:/*@+,\[\]-]+", re.ASCII)
_LONGEST_QUOTE = 60
_LARGEST_FILE = 8 * KIB


def mask_url(text: str) -> str:
    """The URL with everything hidden that may be its user, password or token."""
    return _USER_OF_URL.sub(rf"\1{HIDDEN}@", text)


def mask_urls(text: str) -> str:
    """Several URLs, separated by commas, each masked as `mask_url` does."""
    return ",".join(mask_url(url) for url in re.split(r",(?=\s*https?://)", text))


def mask_tokens(text: str) -> str:
    """A stranger's text with everything hidden that may be a token: ours by its prefix, and any other long run of the
    characters of Base64 that has small and capital letters and digits.
    """
    return _LONG_RUN.sub(lambda run: HIDDEN if _is_random(run[0]) else run[0], _OWN_TOKEN.sub(HIDDEN, text))


def mask_own_tokens(text: str) -> str:
    """A line with every token of a controller hidden, wherever the person who typed it or the server that quotes it put
    it, and in Basic too. Other text stays, such as a path or a file whose name begins like a token.
    """
    return _LIKE_OWN_TOKEN.sub(HIDDEN, text)


def _is_random(run: str) -> bool:
    return any(map(str.islower, run)) and any(map(str.isupper, run)) and any(map(str.isdigit, run))


def quote(text: str) -> str:
    """A text that may be wrong, for an error line: short, masked, and without control characters."""
    masked = mask_url(text)
    quoted = masked if _PLAIN.fullmatch(masked) else ascii(masked)
    return quoted if len(quoted) <= _LONGEST_QUOTE else f"{quoted[: _LONGEST_QUOTE - 3]}..."


def mask_decode_error(error: Exception) -> str:
    """The place where decoding a file failed, without the text around it, which may hold a token."""
    place = str(error).rpartition("(")[2].rstrip(")")
    return place if place.startswith("at ") else type(error).__name__


def read_secret_file(path: str, label: str, *, private: bool = False, pipes: bool = True) -> str:
    """The text of a file or, with `pipes`, of a pipe, without the line ends after it.

    Raises UsageError, which begins with `label`: the file is missing, not readable, not UTF-8, larger than 8 KiB or,
    with `private`, open to others than its owner; a file of root may be readable by its group.
    """
    try:
        content, mode, owner = read_with_mode(Path(path).expanduser(), _LARGEST_FILE, regular=not pipes)
    except FileNotFoundError:
        raise UsageError(f"{label}: no such file") from None
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if private and stat.S_ISREG(mode) and stat.S_IMODE(mode) & _bits_of_others(OTHERS, owner):
        raise UsageError(f"{label}: others can read or write it (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
    try:
        return content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"{label}: is not UTF-8 text") from None


def read_token(path: str, label: str, *, pipes: bool = True) -> tuple[str, str]:
    """Name and token in a file, as `split_token` returns them. Raises UsageError, also when others can read it.

    `pipes` and `label` are those of `read_secret_file`.
    """
    return split_token(read_secret_file(path, label, private=True, pipes=pipes), label)


def mode_if_readable_by_others(path: str) -> int | None:
    """The mode of a file that others than its owner can read; None for another file, and where it is not known.

    A file of root may be readable by its group.
    """
    try:
        status = Path(path).expanduser().stat()
    except (OSError, RuntimeError, ValueError):
        return None
    mode = status.st_mode
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) and mode & _bits_of_others(OTHERS_READ, status.st_uid) else None


def _bits_of_others(bits: int, owner: int) -> int:
    """Those of the bits of a file's mode that give a right to anybody but its reader.

    Kubernetes mounts a Secret as a file of root, which the group of the pod may read: as for PostgreSQL's key file.
    """
    return bits & ~_GROUP_READ if owner == 0 != os.geteuid() else bits


def split_token(text: str, label: str) -> tuple[str, str]:
    """Name and token of `NAME:TOKEN`, or of a token alone: user and password of Basic. The name is only a label.

    Raises UsageError, which shows neither.
    """
    user, colon, token = text.strip().partition(":")
    if not colon:
        user, token = "ctl", user
    if not token or not (user + token).isprintable() or " " in user + token:
        raise UsageError(f"{label}: holds no token: one line, TOKEN or NAME:TOKEN")
    return user, token
