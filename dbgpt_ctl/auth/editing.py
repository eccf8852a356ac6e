"""Edits a tokens file: what `ctl token` and `ctl auth mode` do to it.

Each edit reads the file under a lock, changes what it must, and replaces the file in one step. Comments, the order and
the form of the rest are kept. An edit is written only if the result, read again, holds exactly what it should.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.atomic_write import edit_lock, replace_file
from dbgpt_ctl.auth.tokens import MAX_VALID, Mode, Token
from dbgpt_ctl.auth.tokens_file import (
    LARGEST_FILE,
    MAX_REVOKED,
    TokensFile,
    check_token,
    parse_tokens_file,
    read_checked,
    shown,
    table_of,
)
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.files import size_text
from dbgpt_ctl.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

_NEW_FILE = b"# The tokens of DB-GPT's controllers, as hashes. `ctl token` and `ctl auth mode` edit this file.\n"
_NONE = TokensFile(None, {}, "", None)


@dataclass(frozen=True, slots=True)
class Edit:
    """A file before and after an edit."""

    before: TokensFile
    after: TokensFile

    @property
    def changed(self) -> bool:
        """Whether there was something to do."""
        return (self.before.mode, self.before.tokens) != (self.after.mode, self.after.tokens)


def create_token(path: Path, token: Token) -> Edit:
    """Adds the token, also to a file that does not exist yet; a token of that name that is revoked is replaced, and its
    revoked hashes are kept. Raises UsageError.
    """

    def add(tokens: Mapping[str, Token]) -> Token:
        known = tokens.get(token.name)
        if known is None:
            return token
        if not known.is_revoked:
            raise UsageError(
                f"token {token.name} exists in {path}: ctl token rotate {token.name} makes a second one, or ctl token "
                f"revoke {token.name} ends it first"
            )
        return replace(token, revoked_sha256=known.revoked_sha256)

    check_token(token)
    return _edit_token(path, add, may_create=True)


def rotate_token(path: Path, name: str, sha256: str, expires: datetime | None, now: datetime) -> Edit:
    """Gives the token a second valid secret, with that hash, and its expiry a new time unless that is None.

    Raises UsageError: there is no such token, it is revoked, it has two valid secrets, or is expired by then.
    """

    def add_secret(tokens: Mapping[str, Token]) -> Token:
        known = _named(tokens, name, path)
        if known.is_revoked:
            raise UsageError(f"token {name} is revoked: ctl token create {name} makes a new one")
        if len(known.sha256) >= MAX_VALID:
            raise UsageError(
                f"token {name} has an old and a new one, both valid: ctl token revoke {name} --old ends the old one, "
                "when nobody uses it any more"
            )
        rotated = replace(known, sha256=(sha256, *known.sha256), expires=expires or known.expires)
        if rotated.is_expired(now):
            raise UsageError(f"token {name} is expired, and a new one would be too: --expires 90d renews it")
        return rotated

    return _edit_token(path, add_secret)


def revoke_token(path: Path, name: str, *, only_old: bool) -> Edit:
    """Ends all valid secrets of the token, or with `only_old` all but the newest. Their hashes are kept as revoked.

    Raises UsageError, with `only_old` also if there is no old one. A token that is revoked already stays as it is.
    """

    def revoke(tokens: Mapping[str, Token]) -> Token:
        known = _named(tokens, name, path)
        valid, ended = (known.sha256[:1], known.sha256[1:]) if only_old else ((), known.sha256)
        if only_old and not ended:
            raise UsageError(
                f"token {name} has no old one: ctl token rotate {name} makes a new one first, and ctl token revoke "
                f"{name} ends the token"
            )
        return replace(known, sha256=valid, revoked_sha256=(*ended, *known.revoked_sha256)[:MAX_REVOKED])

    return _edit_token(path, revoke)


def withdraw_token(path: Path, name: str, edit: Edit) -> None:
    """Takes back what `create_token` or `rotate_token` did, because nobody has got the new secret. Its hash is kept as
    revoked, and so is the name of a token that was new. Raises UsageError.
    """
    made, old = edit.after.tokens[name], edit.before.tokens.get(name)
    lost = made.sha256[0]

    def withdraw(tokens: Mapping[str, Token]) -> Token:
        known = _named(tokens, name, path)
        base = old if old is not None and known == made else known
        valid = tuple(digits for digits in base.sha256 if digits != lost)
        return replace(base, sha256=valid, revoked_sha256=(lost, *base.revoked_sha256)[:MAX_REVOKED])

    _edit_token(path, withdraw)


def set_mode(path: Path, mode: Mode) -> Edit:
    """Writes the mode. Raises UsageError."""
    with _locked(path):
        data, file_mode = read_checked(path)
        before = parse_tokens_file(data, path, file_mode)
        return _written(path, data, before, replace(before, mode=mode))


def _edit_token(path: Path, change: Callable[[Mapping[str, Token]], Token], *, may_create: bool = False) -> Edit:
    """Replaces one token, or adds it, by what `change` makes of all tokens."""
    with _locked(path):
        if may_create and not path.exists():
            data, before = _NEW_FILE, _NONE
        else:
            data, file_mode = read_checked(path)
            before = parse_tokens_file(data, path, file_mode)
        token = change(before.tokens)
        return _written(path, data, before, replace(before, tokens=dict(before.tokens) | {token.name: token}))


def _named(tokens: Mapping[str, Token], name: str, path: Path) -> Token:
    if name in tokens:
        return tokens[name]
    others = f"; there are {', '.join(sorted(tokens))}" if tokens else "; it has none"
    hint = did_you_mean(nearest(name, tokens)) or others
    raise UsageError(f"token {shown(name)} is not in {path}{hint}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Also turns the errors of the system into UsageError."""
    try:
        with edit_lock(path):
            yield
    except FileNotFoundError:
        folder = path.parent if not path.is_symlink() else Path(os.path.realpath(path)).parent
        raise UsageError(f"tokens file {path}: no such folder as {folder}: make it first") from None
    except OSError as error:
        raise UsageError(f"tokens file {path}: cannot be edited: {error.strerror}") from None


def _written(path: Path, data: bytes, before: TokensFile, wanted: TokensFile) -> Edit:
    edit = Edit(before, wanted)
    if not edit.changed:
        return edit
    content = _changed(data, before, wanted)
    try:
        after = None if content is None else parse_tokens_file(content, path)
    except UsageError:
        after = None
    if content is None or after is None or (after.mode, after.tokens) != (wanted.mode, wanted.tokens):
        raise UsageError(
            f"tokens file {path}: its form is unusual, and an edit would damage it; write each token as a table of its "
            "own, such as [token.gpu-workers]"
        )
    if len(content) > LARGEST_FILE:  # no controller would read it
        raise UsageError(
            f"tokens file {path}: it would be larger than {size_text(LARGEST_FILE)}, and is left as it was"
        )
    replace_file(path, content)
    return Edit(before, after)


def _changed(data: bytes, before: TokensFile, wanted: TokensFile) -> bytes | None:
    """The document with the mode and the tokens of `wanted`; None where TOML allows no such change in its form."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(data.decode("utf-8-sig"))
        if wanted.mode != before.mode:
            document["mode"] = str(wanted.mode)
        for name, token in wanted.tokens.items():
            if token != before.tokens.get(name):
                tables = document.setdefault("token", tomlkit.table(is_super_table=True))
                _put(tables.setdefault(name, tomlkit.table()), token)
        return tomlkit.dumps(document).encode()
    except (TOMLKitError, ValueError, TypeError):
        return None


def _put(table: Any, token: Token) -> None:
    """Writes the facts of the token into its table. What is equal stays as it is written."""
    for key, value in table_of(token).items():
        if value is None:
            table.pop(key, None)
        elif isinstance(value, list):
            _put_list(table, key, value)
        elif table.get(key) != value:
            table[key] = value


def _put_list(table: Any, key: str, wanted: list[str]) -> None:
    known = table.get(key)
    if known is None or "\n" not in known.as_string():
        if known is None or _spelled(key, known) != wanted:
            table[key] = wanted
    else:  # a text that stays keeps its line, with the comment that says whose it is
        for at in reversed([at for at, text in enumerate(_spelled(key, known)) if text not in wanted]):
            known.pop(at)
        for at, text in enumerate(wanted):
            if text not in _spelled(key, known):
                known.insert(at, text)


def _spelled(key: str, texts: Iterable[str]) -> list[str]:
    """The texts of a list as `tokens_file` reads them."""
    return [text.strip().lower() for text in texts] if key.endswith("sha256") else list(texts)
