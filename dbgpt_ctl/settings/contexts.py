"""Contexts: named addresses of clusters, in a file of the user's own.

    ~/.config/dbgpt-ctl/config.toml       (XDG_CONFIG_HOME counts)

    current = "prod"

    [context.prod]
    address = "http://ctl-1:8000,http://ctl-2:8000"
    request_timeout = 5.0
    token_file = "~/.config/dbgpt-ctl/prod.token"

The file is written by hand here: three kinds of values do not earn a dependency, and tomllib reads what is written.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEYS = ("address", "request_timeout", "token_file")
_TOP = ("current", "context")
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST_NAME = 64
_LARGEST_TOKEN = 8192
OTHERS = 0o077
"""What a file's mode grants to anybody but its owner."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What one context says; None for what it leaves open. Texts are as written, not checked yet."""

    name: str
    address: str | None = None
    request_timeout: str | None = None
    token_file: str | None = None

    def __repr__(self) -> str:
        return f"Context({self.name!r})"  # the address may hold a token

    @property
    def holds_secret(self) -> bool:
        """Whether there may be a token in its address."""
        return "@" in (self.address or "")


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """All that is in the file. `open_to`: what its mode grants to others than its owner, 0 if it does not exist."""

    path: Path
    current: str | None = None
    by_name: Mapping[str, Context] = field(default_factory=dict)
    open_to: int = 0
    commented: bool = False

    def named(self, name: str, origin: str) -> Context:
        """Raises UsageError, with what may have been meant; `origin` is where the name came from."""
        if name in self.by_name:
            return self.by_name[name]
        raise UsageError(f"{origin} {name!a}: no such context in {self.path}{_hint(name, self.by_name)}")

    def with_context(self, context: Context) -> Contexts:
        """One more, or another in place of the one of that name."""
        return replace(self, by_name=dict(self.by_name) | {context.name: context})

    def without(self, name: str) -> Contexts:
        """One less; when it was the current one there is none."""
        rest = {each: context for each, context in self.by_name.items() if each != name}
        return replace(self, by_name=rest, current=None if self.current == name else self.current)


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the file is, whether it exists or not. Raises UsageError when there is no home."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if base.startswith("/"):
        return Path(base) / "dbgpt-ctl" / "config.toml"  # a relative one is to be ignored, says its specification
    try:
        home = environ.get("HOME") or str(Path.home())
    except RuntimeError:
        raise UsageError("there is no home directory to keep contexts in: set HOME or XDG_CONFIG_HOME") from None
    return Path(home) / ".config" / "dbgpt-ctl" / "config.toml"


def read_contexts(path: Path) -> Contexts:
    """What is in the file; nothing when it does not exist. Raises UsageError that names the file and the place."""
    try:
        with path.open("rb") as stream:
            mode, text = os.fstat(stream.fileno()).st_mode, stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return Contexts(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    import tomllib  # only who has contexts pays for it

    try:
        told = tomllib.loads(text.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {_without_text(error)}") from None
    _refuse_unknown(str(path), told, _TOP)
    tables, current = told.get("context", {}), told.get("current")
    if not isinstance(tables, dict) or not isinstance(current, str | None):
        raise UsageError(f"{path}: current is a name, and each context a table such as [context.prod]")
    contexts = {name: _context(path, name, table) for name, table in tables.items()}
    commented = any(line.lstrip().startswith(b"#") for line in text.splitlines())
    return Contexts(path, current, contexts, stat.S_IMODE(mode) & OTHERS, commented)


def write_contexts(contexts: Contexts) -> None:
    """Replaces the file as a whole, or leaves it as it was; only its owner may read it. Raises UsageError."""
    import tempfile

    place = contexts.path.resolve() if contexts.path.is_symlink() else contexts.path
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as draft:
            try:
                draft.write(_toml(contexts))
                draft.flush()
                os.fsync(draft.fileno())
                Path(draft.name).replace(place)
            except BaseException:
                Path(draft.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"{contexts.path}: cannot be written: {error.strerror}") from None


def check_name(name: str) -> str:
    """The name, if a context may have it. Raises UsageError."""
    if 0 < len(name) <= _LONGEST_NAME and _NAME_CHARS.issuperset(name) and not name.startswith("-"):
        return name
    raise UsageError(f"{name[:_LONGEST_NAME]!a} is not a name for a context: letters, digits and . _ - make one")


def read_token(path: str) -> tuple[str, str]:
    """User and token in a file: `USER:TOKEN`, or the token alone. Raises UsageError, also when others can read it."""
    place = Path(path)
    try:
        with place.expanduser().open("rb") as stream:
            mode, text = os.fstat(stream.fileno()).st_mode, stream.read(_LARGEST_TOKEN)
    except FileNotFoundError:
        raise UsageError(f"token file {path}: no such file") from None
    except (OSError, RuntimeError) as error:
        raise UsageError(f"token file {path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if stat.S_ISREG(mode) and stat.S_IMODE(mode) & OTHERS:
        raise UsageError(
            f"token file {path}: others can read or write it (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
        )
    return split_token(text.decode("utf-8", "replace"), f"token file {path}")


def split_token(text: str, origin: str) -> tuple[str, str]:
    """User and token. Raises UsageError, which does not show them."""
    user, colon, token = text.strip().partition(":")
    if not colon:
        user, token = "ctl", user
    if not token or not (user + token).isprintable() or " " in user + token:
        raise UsageError(f"{origin}: holds no token: one line, TOKEN or USER:TOKEN")
    return user, token


def _context(path: Path, name: str, table: Any) -> Context:
    where = f"{path}: context {name!a}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is not a table such as [context.prod]")
    check_name(name)
    _refuse_unknown(where, table, KEYS)
    timeout = table.get("request_timeout")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | None):
        raise UsageError(f"{where}: request_timeout is not a number of seconds")
    for key in ("address", "token_file"):
        if not isinstance(table.get(key), str | None):
            raise UsageError(f"{where}: {key} is not a text")
    seconds = None if timeout is None else f"{timeout:g}"
    return Context(name, table.get("address"), seconds, table.get("token_file"))


def _refuse_unknown(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: {key!a} is not known{_hint(key, known)}")


def _hint(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # only a typo pays for it

    names = sorted(known)
    close = get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(names)}" if names else "; ctl context set makes one"


def _toml(contexts: Contexts) -> str:
    lines = [] if contexts.current is None else [f"current = {_text(contexts.current)}", ""]
    for name, context in sorted(contexts.by_name.items()):
        lines.append(f"[context.{name if '.' not in name else _text(name)}]")
        for key in KEYS:
            value = getattr(context, key)
            if value is not None:
                lines.append(f"{key} = {float(value) if key == 'request_timeout' else _text(value)}")
        lines.append("")
    return "\n".join(lines)


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are all among TOML's, but for DEL, which JSON leaves as it is."""
    import json

    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without_text(error: Exception) -> str:
    """A decoder's complaint; of one that may quote the file, which may hold a token, only the place."""
    place = str(error).rpartition("(")[2].rstrip(")")
    return place if place.startswith("at ") else type(error).__name__
