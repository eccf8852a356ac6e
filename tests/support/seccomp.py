"""Filters of system calls as systemd makes them of a unit: by libseccomp, which does it for systemd too."""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.support.unit_file import UnitFile

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_EQUAL, _MASKED_EQUAL = 4, 7
_ALWAYS_ALLOWED = "@default"
"""systemd adds this set to each list of what is allowed."""
LOADER = """
import ctypes, os, sys
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
with open(sys.argv[1], "rb") as file:
    code = file.read()
buffer = ctypes.create_string_buffer(code, len(code))
program = Program(len(code) // 8, ctypes.addressof(buffer))
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    raise OSError(ctypes.get_errno(), "the filter of system calls was refused")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""A program for Python: LOADER FILTER COMMAND... runs the command under the filter. The caller needs no rights, once it
cannot get any (no_new_privs)."""


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def write_filter(unit: UnitFile, path: Path) -> None:
    """Writes the filter that follows from SystemCallFilter, RestrictAddressFamilies and MemoryDenyWriteExecute."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_REFUSE))

    def allow(name: str, *compared: _Compare) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        array = (_Compare * len(compared))(*compared)
        code = library.seccomp_rule_add_array(context, ctypes.c_uint32(_ALLOW), number, len(compared), array)
        if code not in (0, -errno.EEXIST):
            raise OSError(-code, f"no rule for {name}")

    # A program may map memory that it can write, or execute, and not both; it may not make memory executable later.
    writable, executable = mmap.PROT_WRITE, mmap.PROT_EXEC
    restricted = {
        "socket": [
            [_Compare(0, _EQUAL, getattr(socket, family), 0)] for family in unit.words("RestrictAddressFamilies")
        ]
    }
    if unit.last("MemoryDenyWriteExecute") == "yes":
        restricted["mmap"] = [
            [_Compare(2, _MASKED_EQUAL, writable | executable, bits)] for bits in (0, writable, executable)
        ]
        restricted["mprotect"] = restricted["pkey_mprotect"] = [[_Compare(2, _MASKED_EQUAL, executable, 0)]]
    for name in sorted(_allowed(unit.values("SystemCallFilter"))):
        if library.seccomp_syscall_resolve_name(name.encode()) < 0:
            continue  # of another processor
        for compared in restricted.get(name, [[]]):
            allow(name, *compared)
    with path.open("wb") as file:
        code = library.seccomp_export_bpf(context, file.fileno())
    if code != 0:
        raise OSError(-code, "the filter cannot be written")


def _allowed(filters: Iterable[str]) -> set[str]:
    allowed = _members(_ALWAYS_ALLOWED)
    for line in filters:
        names = {name for word in line.removeprefix("~").split() for name in _members(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed | _members(_ALWAYS_ALLOWED)


def _members(word: str) -> set[str]:
    """The system calls of a name or, with all that it contains, of a set such as @system-service."""
    if not word.startswith("@"):
        return {word}
    done = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {name for line in lines if line and not line.startswith("#") for name in _members(line)}
