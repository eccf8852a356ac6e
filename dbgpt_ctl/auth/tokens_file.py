"""Reads a tokens file: TOML that says who may call a controller, and the mode of the check.

    mode = "enforce"

    [token.gpu-workers]
    role = "worker"
    sha256 = ["<64 hexadecimal digits>"]
    models = ["qwen*@llm"]
    hosts = ["10.1.0.0/16", "*.gpu.example.com"]
    max_instances = 40
    expires = 2027-01-31T00:00:00Z

Everything in it is checked before anything of it counts. A value that may be a secret is in no error: a person may have
pasted a token where its hash belongs.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from dbgpt_ctl.auth.scope import parse_host_pattern, parse_model_pattern
from dbgpt_ctl.auth.tokens import MAX_NAME_CHARS, MAX_VALID, Mode, Role, Token, is_name, sha256_of
from dbgpt_ctl.domain.fields import quoted
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.files import MIB, read_with_mode
from dbgpt_ctl.settings.masking import HIDDEN, OTHERS_READ, OTHERS_WRITE, mask_decode_error, mask_tokens
from dbgpt_ctl.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

MAX_INSTANCES = 1_000_000_000
MAX_REVOKED = 16
"""The most hashes of revoked secrets that a token keeps."""
DIGEST_CHARS = 12
LARGEST_FILE = MIB
_TOP_LEVEL_KEYS = ("mode", "token")
SCOPE_KEYS = ("models", "hosts", "max_instances")
KEYS = ("role", "sha256", "revoked_sha256", *SCOPE_KEYS, "expires")
_HASH_DIGITS = 64
_EMPTY = sha256_of("")
_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class TokensFile:
    """The content of a tokens file."""

    mode: Mode | None
    """None: the file does not say it, and a setting decides."""
    tokens: Mapping[str, Token]
    digest: str
    """12 hexadecimal digits that are equal for equal tokens: the mode, comments and the order of the file do not count.
    Controllers compare it.
    """
    readable_by_others: int | None
    """The mode of the file, where others than its owner can read it."""


class _Place(NamedTuple):
    """The file and the table of which an error speaks; without a file, of a token that is not in one yet."""

    path: Path | None = None
    table: str = ""

    def refuse(self, what: str) -> NoReturn:
        """Raises UsageError."""
        file = "" if self.path is None else f"tokens file {self.path}: "
        raise UsageError(f"{file}{self.table and f'token {self.table}: '}{what}")


def read_tokens_file(path: Path) -> TokensFile:
    """The checked content of the file; links are followed.

    Raises UsageError, one line without secrets: the file is missing, no regular file, too large, open to the writing of
    others, not TOML, or holds an unknown key or a wrong value.
    """
    data, mode = read_checked(path)
    return parse_tokens_file(data, path, mode)


def parse_tokens_file(data: bytes, path: Path, file_mode: int = 0) -> TokensFile:
    """The checked content. `path` and `file_mode` are those of the file. Raises UsageError."""
    place = _Place(path)
    document = _decoded(data, place)
    _refuse_unknown(document, _TOP_LEVEL_KEYS, place)
    tokens = _tokens(document, place)
    mode = None if "mode" not in document else _word(Mode, "mode", document["mode"], place)
    readable = stat.S_IMODE(file_mode) if file_mode & OTHERS_READ else None
    return TokensFile(mode, tokens, digest_of(tokens.values()), readable)


def check_token(token: Token) -> None:
    """Raises UsageError for a token that no file may hold."""
    _token(token.name, table_of(token), _Place())


def table_of(token: Token) -> dict[str, Any]:
    """The keys and values of its table; None for a key that the table lacks."""
    values = {key: getattr(token, key) for key in KEYS}
    lists = {key: list(value) or None for key, value in values.items() if isinstance(value, tuple)}
    return values | {"role": str(token.role)} | lists | {"sha256": list(token.sha256)}


def digest_of(tokens: Iterable[Token]) -> str:
    """See `TokensFile.digest`."""
    from hashlib import sha256

    facts = sorted(
        [
            *(token.name, token.role, token.sha256, token.revoked_sha256, sorted(token.models), sorted(token.hosts)),
            *(token.max_instances, token.expires and token.expires.isoformat()),
        ]
        for token in tokens
    )
    return sha256(json.dumps(facts).encode()).hexdigest()[:DIGEST_CHARS]


def read_checked(path: Path) -> tuple[bytes, int]:
    """The content of the file and its mode, if nobody else can change it. Raises UsageError."""
    place = _Place(path)
    try:
        data, mode, owner = read_with_mode(path, LARGEST_FILE, regular=True)
    except FileNotFoundError:
        place.refuse("no such file; ctl token create makes one")
    except OSError as error:
        place.refuse(f"cannot be read: {error.strerror}")
    if mode & OTHERS_WRITE:
        place.refuse(f"others can write it (mode {stat.S_IMODE(mode):04o}): chmod go-w {path}")
    for folder in dict.fromkeys((path.parent, path.resolve().parent)):
        rights = _rights(folder)
        if rights & stat.S_IWOTH and not rights & stat.S_ISVTX:
            place.refuse(f"everyone can write to its folder {folder} and replace the file: chmod o-w {folder}")
        # The sticky bit, as of /tmp, keeps others from replacing the file, but not from being the first to make it.
        if rights & stat.S_IWOTH and owner not in (0, os.geteuid()):
            place.refuse(
                f"another user made it in {folder}, where everyone can make files: keep it in a folder of yours"
            )
    return data, mode


def _rights(folder: Path) -> int:
    try:
        return folder.stat().st_mode
    except OSError:  # Kubernetes has just replaced the folder to which its link led
        return 0


def _decoded(data: bytes, place: _Place) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except ValueError as error:  # also a number with thousands of digits, which is no TOMLDecodeError
        place.refuse(f"not TOML: {mask_decode_error(error)}")
    except RecursionError:
        place.refuse("not TOML of a tokens file: it is nested too deeply")


def _tokens(document: Mapping[str, Any], place: _Place) -> dict[str, Token]:
    tables = document.get("token", {})
    if not isinstance(tables, dict):
        place.refuse("token is not a table: each token is one such as [token.gpu-workers]")
    tokens = {name: _token(name, table, place) for name, table in tables.items()}
    owners: dict[str, str] = {}
    for token in tokens.values():
        for digits in (*token.sha256, *token.revoked_sha256):
            if (other := owners.setdefault(digits, token.name)) != token.name:
                place._replace(table=token.name).refuse(
                    f"it has a hash that token {other} has too: ctl token rotate gives one of them a token of its own"
                )
    return tokens


def _token(name: str, table: Any, file: _Place) -> Token:
    if not is_name(name):
        file.refuse(
            f"{shown(name)} is not a name for a token: at most {MAX_NAME_CHARS} letters, digits and . _ -, no - first"
        )
    place = _Place(file.path, name)
    if not isinstance(table, dict):
        place.refuse(f"is not a table such as [token.{name}]")
    _refuse_unknown(table, KEYS, place)
    table = {key: value for key, value in table.items() if value is not None}
    for key in ("role", "sha256"):
        if key not in table:
            place.refuse(f"{key} is missing")
    valid, revoked = _all_hashes(table, place)
    return Token(
        name=name,
        role=_role(table, place),
        sha256=valid,
        revoked_sha256=revoked[:MAX_REVOKED],
        models=_patterns("models", table, parse_model_pattern, place),
        hosts=_patterns("hosts", table, parse_host_pattern, place),
        max_instances=_max_instances(table, place),
        expires=_expires(table, place),
    )


def _role(table: Mapping[str, Any], place: _Place) -> Role:
    role = _word(Role, "role", table["role"], place)
    for key in SCOPE_KEYS:
        if key in table and role is not Role.WORKER:
            place.refuse(f"{key} is for tokens of workers only, and its role is {role}: leave it out")
    return role


def _word(words: type[_Word], key: str, value: Any, place: _Place) -> _Word:
    try:
        return words(value)
    except ValueError:
        place.refuse(f"{key} {shown(value)} is not one of {', '.join(words)}")


def _all_hashes(table: Mapping[str, Any], place: _Place) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The valid and the revoked ones."""
    valid, revoked = _hashes("sha256", table, place), _hashes("revoked_sha256", table, place)
    if len(valid) > MAX_VALID:
        place.refuse(f"sha256 holds {len(valid)} hashes, and at most {MAX_VALID} are valid at one time")
    if not set(valid).isdisjoint(revoked):
        place.refuse("a hash is in sha256 and in revoked_sha256: remove it from one of them")
    return valid, revoked


def _hashes(key: str, table: Mapping[str, Any], place: _Place) -> tuple[str, ...]:
    hashes = tuple(text.strip().lower() for text in _texts(key, table, place))
    for text in _texts(key, table, place):
        if mask_tokens(text) != text:
            place.refuse(
                f"{key} holds what is a token, not its SHA-256: who reads the file can use it; remove it and let ctl "
                "token create or rotate make a new one"
            )
    if any(len(text) != _HASH_DIGITS or set(text) - set("0123456789abcdef") for text in hashes):
        place.refuse(f"{key} holds a text that is not the {_HASH_DIGITS} hexadecimal digits of a SHA-256")
    if _EMPTY in hashes:
        place.refuse(f"{key} holds the SHA-256 of an empty text, which everyone knows")
    if len(set(hashes)) < len(hashes):
        place.refuse(f"{key} holds a hash twice")
    return hashes


def _patterns(key: str, table: Mapping[str, Any], parse: Callable[[str], Any], place: _Place) -> tuple[str, ...]:
    patterns = _texts(key, table, place)
    if key in table and not patterns:
        place.refuse(f"{key} is empty: remove the key to allow any, or name what is allowed")
    for pattern in patterns:
        try:
            parse(pattern)
        except ValueError as error:
            place.refuse(f"{key}: {shown(pattern)} {error}")
    return patterns


def _texts(key: str, table: Mapping[str, Any], place: _Place) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        place.refuse(f'{key} is not a list of texts: write {key} = ["..."]')
    return tuple(value)


def _max_instances(table: Mapping[str, Any], place: _Place) -> int | None:
    value = table.get("max_instances")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_INSTANCES:
        place.refuse(f"max_instances {shown(value)} is not a whole number from 1 to {MAX_INSTANCES}")
    return value


def _expires(table: Mapping[str, Any], place: _Place) -> datetime | None:
    value = table.get("expires")
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        what = f"{value} has no offset from UTC" if isinstance(value, datetime) else f"{shown(value)} is not a time"
        if isinstance(value, date) and not isinstance(value, datetime):
            what = f"{value} is a date without a time"
        place.refuse(f"expires {what}: write one without quotes, as in 2027-01-31T00:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        place.refuse(f"expires {value} is outside of the years 1 to 9999 in UTC")


def _refuse_unknown(table: Mapping[str, Any], known: Iterable[str], place: _Place) -> None:
    for key in table:
        if key not in known:
            hint = did_you_mean(nearest(key, known)) or f"; there are {', '.join(known)}"
            place.refuse(f"{shown(key)} is not known{hint}")


def shown(value: Any) -> str:
    """A wrong value for an error: quoted, short and on one line, or hidden where it may be a secret or its hash."""
    try:
        text = str(value)
    except ValueError:  # a number with thousands of digits
        return HIDDEN
    return HIDDEN if mask_tokens(text) != text or len(text) >= _HASH_DIGITS else quoted(value)
