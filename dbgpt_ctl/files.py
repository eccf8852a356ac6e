"""Reads files that a stranger may have put there: bounded in size, and without waiting for what is no regular file.

What is read unasked, such as ./.env, is a regular file or refused: reading a named pipe would wait for a writer, and a
device may have no end. A file that a person names may be a pipe, as in `--env-file <(...)`.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

KIB = 1024
MIB = 1024**2
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class FileContent(NamedTuple):
    """What was read, and `st_mode` and `st_uid` of the file that was open."""

    data: bytes
    mode: int
    owner: int


def read_file(path: str | os.PathLike[str], at_most: int, *, regular: bool) -> bytes:
    """The content of the file, of at most `at_most` bytes.

    With `regular`, anything but a regular file or a link to one is refused without waiting. Otherwise a pipe is read
    until its writers close it. Raises OSError, whose `strerror` is a phrase for a person: the system's words, or "it is
    larger than 1 MiB", "it is a named pipe, not a regular file", "it is not a valid file name".
    """
    return read_with_mode(path, at_most, regular=regular).data


def read_with_mode(path: str | os.PathLike[str], at_most: int, *, regular: bool) -> FileContent:
    """As `read_file`, with mode and owner of the very file that was read, which another process cannot exchange."""

    def opener(name: str, flags: int) -> int:
        # O_NONBLOCK: opening a pipe without a writer would wait. O_NOCTTY: a terminal that is opened does not become
        # the one that controls this process.
        return os.open(name, flags | os.O_NOCTTY | (os.O_NONBLOCK if regular else 0))

    try:
        stream = open(path, "rb", opener=opener)  # noqa: SIM115 - closed below
    except ValueError:  # a NUL in the name
        raise OSError(errno.EINVAL, "it is not a valid file name") from None
    with stream:
        status = os.fstat(stream.fileno())
        if regular and not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"it is {_kind(status.st_mode)}, not a regular file")
        data = stream.read(at_most + 1)
    if len(data) > at_most:
        raise OSError(errno.EFBIG, f"it is larger than {size_text(at_most)}")
    return FileContent(data, status.st_mode, status.st_uid)


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "something else")


def size_text(count: int) -> str:
    """A number of bytes for a person, as in 8 KiB."""
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} bytes"
