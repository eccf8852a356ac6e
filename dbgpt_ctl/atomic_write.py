"""Replaces a file as a whole, for one editor at a time: a reader, also after a crash, finds the old or the new content.

`filelock` is not used: it would leave a second file beside each that is edited.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_SECS = 10.0
"""How long an edit waits for another one. An edit takes milliseconds."""
_ONLY_OWNER = 0o600
_ACL = "system.posix_acl_access"
_NO_ACL = (errno.ENODATA, errno.ENOTSUP)
_BETWEEN_TRIES_SECS = 0.02


@contextmanager
def edit_lock(path: Path, wait_secs: float = LOCK_SECS) -> Iterator[None]:
    """Keeps other editors of the file out, from before it is read until after it is replaced.

    The lock is on the folder of the file, links followed: the file itself is exchanged by each edit, and need not exist
    yet. The kernel frees it when the process ends, however that happens. Raises OSError whose `strerror` is a phrase
    for a person, also when another process still has the lock after `wait_secs`.
    """
    folder = os.open(_target(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + wait_secs
        while not _locks(folder):
            if time.monotonic() >= deadline:
                raise OSError(errno.EAGAIN, "another process is editing a file in its folder; try again")
            time.sleep(_BETWEEN_TRIES_SECS)
        yield
    finally:
        os.close(folder)


def replace_file(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Puts the content in place in one step and on the disk. A link at `path` stays; the file behind it is replaced.

    The file keeps its owner, its group and, without `mode`, its mode and the list of further users who may read it (its
    ACL); a new one is for its owner only. Call it under `edit_lock`. Raises OSError, and then the file is as it was.
    """
    target = _target(path)
    draft = target.with_name(f".{target.name}.new")  # one name: a kill leaves at most one file, which the next removes
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, _ONLY_OWNER), "wb") as stream:
        try:
            _take_over_rights(stream.fileno(), target, mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            _put_in_place(draft, target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _locks(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_over_rights(descriptor: int, target: Path, mode: int | None) -> None:
    """Gives the new file the owner, the group and the mode of the one that it replaces."""
    try:
        old = target.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, _ONLY_OWNER if mode is None else mode)
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except PermissionError:
            owner = f"{old.st_uid}:{old.st_gid}"
            raise PermissionError(errno.EPERM, f"it belongs to {owner} (user:group): edit it as that user") from None
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode) if mode is None else mode)
    if mode is None:
        _take_over_acl(descriptor, target)


def _take_over_acl(descriptor: int, target: Path) -> None:
    """The bits of the group in the mode of a file with an ACL are not the rights of its group, but a mask: without the
    ACL the group would gain what it did not have, and a controller that the ACL lets in would lose it.
    """
    if not hasattr(os, "getxattr"):  # other systems than Linux
        return
    try:
        acl = os.getxattr(target, _ACL)
    except OSError as error:
        if error.errno in _NO_ACL:
            return
        raise
    os.setxattr(descriptor, _ACL, acl)


def _put_in_place(draft: Path, target: Path) -> None:
    try:
        draft.replace(target)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise OSError(errno.EBUSY, "it is mounted as a single file: mount its folder, or edit it outside") from None
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
