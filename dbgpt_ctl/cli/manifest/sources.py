"""What `-f` names: files, folders and standard input, bounded in number and in bytes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.cli.manifest.documents import MAX_BYTES
from dbgpt_ctl.errors import CtlError, UsageError
from dbgpt_ctl.files import MIB, read_file
from dbgpt_ctl.text.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

STDIN = "-"
SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILES = 1000


class Source(NamedTuple):
    """A file that was read. `name` stands in messages."""

    data: bytes
    name: str


def read_sources(names: Sequence[str]) -> list[Source]:
    """The files, in the order in which they are named; those of a folder in the order of their names.

    A folder stands for its *.yaml, *.yml and *.json files: not for hidden ones, and not for those of its subfolders.
    A link counts as what it leads to. Raises UsageError for what cannot be read, for a folder without such files, and
    for more than MAX_FILES files or MAX_BYTES together. The same file twice is a mistake too.
    """
    if not names:
        raise UsageError("give -f FILE or -f FOLDER; -f - reads standard input")
    paths = [*chain.from_iterable(map(_paths_of, names))]
    if len(paths) > MAX_FILES:
        raise UsageError(f"-f names {len(paths)} files: give at most {MAX_FILES}")
    twice = [path for path, count in Counter(path for path, _ in paths).items() if count > 1]
    if twice:
        what = "standard input can be read only once" if twice[0] == STDIN else "leave one of them out"
        raise UsageError(f"-f names {quoted(twice[0])} twice: {what}")
    sources: list[Source] = []
    size = 0
    for path, regular in paths:
        source = _stdin() if path == STDIN else Source(_read(path, regular=regular), path)
        size += len(source.data)
        if size > MAX_BYTES:
            others = " together with the files before it" if sources else ""
            raise UsageError(f"{source.name} is larger than {MAX_BYTES // MIB} MiB{others}, the most that is read")
        sources.append(source)
    return sources


def _paths_of(name: str) -> list[tuple[str, bool]]:
    """The paths of the files; with True where each must be a regular file, because a person named only its folder."""
    # Path.is_dir raises for a name that is too long, and below a folder that may not be entered; to read it says why.
    if not os.path.isdir(name):  # noqa: PTH112
        return [(name, False)]
    try:
        files = [path for path in Path(name).iterdir() if _is_manifest(path)]
    except OSError as error:
        raise UsageError(f"cannot read folder {quoted(name)}: {error.strerror or error}") from None
    if not files:
        raise UsageError(f"folder {quoted(name)} has no *.yaml, *.yml or *.json file; its subfolders are not read")
    return [(str(path), True) for path in sorted(files, key=lambda path: path.name)]


def _is_manifest(path: Path) -> bool:
    return path.suffix in SUFFIXES and not path.name.startswith(".") and not os.path.isdir(path)  # noqa: PTH112 - see above


def _stdin() -> Source:
    if sys.stdin is None:
        raise CtlError("cannot read standard input: it is closed")
    return Source(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")


def _read(path: str, *, regular: bool) -> bytes:
    try:
        return read_file(path, MAX_BYTES, regular=regular)
    except OSError as error:
        raise UsageError(f"cannot read {quoted(path)}: {error.strerror or error}") from None
