"""Contexts, the named addresses of clusters, and how a command gets the address and the token of its controller.

    flag  >  context named by --context or CTL_CONTEXT  >  environment  >  --env-file  >  current context  >  default

A context that is named in a call is meant for it, so it goes before a CONTROLLER_ADDRESS that a profile set long ago.
The current context, chosen once with `ctl context use`, is a default of the user. ./.env is no source: it may come with
the folder of a stranger, and would decide where a token goes (rule 15).

A token goes only to the address that it was given for. CTL_TOKEN was given for CONTROLLER_ADDRESS if the environment
holds both, else for the address that the call uses. The content of a context's token file was given for the addresses
of that context; CTL_TOKEN goes before it. A context's ca_file counts for the addresses of that context too, and for no
others.

Contexts are kept in ~/.config/dbgpt-ctl/config.toml (XDG_CONFIG_HOME counts):

    current = "prod"

    [context.prod]
    address = "http://ctl-1:8000,http://ctl-2:8000"
    request_timeout = 5.0
    token_file = "~/.config/dbgpt-ctl/prod.token"
    ca_file = "~/.config/dbgpt-ctl/prod-ca.pem"

A change keeps comments, the order and the form of the rest.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.atomic_write import edit_lock, replace_file
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.files import MIB, read_with_mode
from dbgpt_ctl.settings.load import DEFAULT_ENV_FILE, NOTHING, Found, find_variables, folder_holds
from dbgpt_ctl.settings.masking import OTHERS, OTHERS_WRITE, mask_decode_error, read_token, split_token
from dbgpt_ctl.settings.schema import ClientSettings
from dbgpt_ctl.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbgpt_ctl.settings.addresses import Address

CONTEXT = "CTL_CONTEXT"
TOKEN = "CTL_TOKEN"  # noqa: S105 - the name of a variable
KEYS = ("address", "request_timeout", "token_file", "ca_file")
_ADDRESS = "CONTROLLER_ADDRESS"
_TOP_LEVEL_KEYS = ("current", "context")
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST_NAME = 64
_LARGEST_FILE = MIB


@dataclass(frozen=True, slots=True)
class Context:
    """The values of one context; None where it leaves one open. Texts are as written, not checked yet."""

    name: str
    address: str | None = None
    request_timeout: str | None = None
    token_file: str | None = None
    ca_file: str | None = None

    def __repr__(self) -> str:
        return f"Context({self.name!r})"  # the address may hold a token

    @property
    def holds_secret(self) -> bool:
        """Whether there may be a token in its address."""
        return "@" in (self.address or "")


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """The content of the file. `open_to`: what its mode grants to others than its owner; 0 if it does not exist."""

    path: Path
    current: str | None = None
    by_name: Mapping[str, Context] = field(default_factory=dict)
    open_to: int = 0
    text: str = field(default="", repr=False)
    """The file as it was read: it may hold a token."""

    def named(self, name: str, origin: str) -> Context:
        """The context of that name. Raises UsageError with a suggestion; `origin` is where the name came from."""
        if name in self.by_name:
            return self.by_name[name]
        raise UsageError(f"{origin} {name!a}: no such context in {self.path}{_hint(name, self.by_name)}")

    def with_context(self, context: Context) -> Contexts:
        """These contexts and the given one, which replaces the one of its name."""
        return replace(self, by_name=dict(self.by_name) | {context.name: context})

    def without(self, name: str) -> Contexts:
        """These contexts without that one; when it was the current one, there is no current one any more."""
        rest = {other: context for other, context in self.by_name.items() if other != name}
        return replace(self, by_name=rest, current=None if self.current == name else self.current)


def config_path(environ: Mapping[str, str]) -> Path:
    """The path of the file, whether it exists or not. Raises UsageError when there is no home directory."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():  # the XDG specification says that a relative path is ignored
        try:
            base = Path(environ.get("HOME") or Path.home()) / ".config"
        except RuntimeError:
            raise UsageError("there is no home directory to keep contexts in: set HOME or XDG_CONFIG_HOME") from None
    return base / "dbgpt-ctl" / "config.toml"


def read_contexts(path: Path) -> Contexts:
    """The content of the file; no contexts when it does not exist. Raises UsageError that names file and place."""
    try:
        text, mode, _ = read_with_mode(path, _LARGEST_FILE, regular=True)
    except (FileNotFoundError, NotADirectoryError):
        return Contexts(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not TOML: {mask_decode_error(error)}") from None
    return _parsed(path, decoded, stat.S_IMODE(mode) & OTHERS)


def _parsed(path: Path, text: str, open_to: int = 0) -> Contexts:
    import tomllib  # needed only where there are contexts

    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number with thousands of digits
        raise UsageError(f"{path}: not TOML: {mask_decode_error(error)}") from None
    _refuse_unknown(str(path), document, _TOP_LEVEL_KEYS)
    tables, current = document.get("context", {}), document.get("current")
    if not isinstance(tables, dict) or not isinstance(current, str | None):
        raise UsageError(f"{path}: current is a name, and each context a table such as [context.prod]")
    contexts = {name: _context(path, name, table) for name, table in tables.items()}
    return Contexts(path, current, contexts, open_to, text)


def write_contexts(contexts: Contexts) -> None:
    """Replaces the file as a whole, or leaves it as it was; only its owner may read it. Raises UsageError."""
    text = _edited(contexts)
    if text is None or not _holds(text, contexts):
        raise UsageError(
            f"{contexts.path}: its form is unusual, and a change would damage it; write each context as a table of its "
            "own, such as [context.prod]"
        )
    try:
        Path(os.path.realpath(contexts.path)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with edit_lock(contexts.path):
            replace_file(contexts.path, text.encode(), mode=0o600)
    except OSError as error:
        raise UsageError(f"{contexts.path}: cannot be written: {error.strerror}") from None


def _edited(contexts: Contexts) -> str | None:
    """The text that was read, with these contexts; None where TOML allows no such change in its form."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(contexts.text)
        _put(document, "current", contexts.current)
        tables = document.setdefault("context", tomlkit.table(is_super_table=True)) if contexts.by_name else document
        for name in [name for name in document.get("context", {}) if name not in contexts.by_name]:
            del document["context"][name]
        for name, context in sorted(contexts.by_name.items()):
            table = tables.setdefault(name, tomlkit.table())
            for key in KEYS:
                _put(table, key, getattr(context, key))
        return tomlkit.dumps(document)
    except (TOMLKitError, ValueError, TypeError):
        return None


def _holds(text: str, contexts: Contexts) -> bool:
    try:
        found = _parsed(contexts.path, text)
    except UsageError:
        return False
    return (found.current, found.by_name) == (contexts.current, contexts.by_name)


def _put(table: Any, key: str, text: str | None) -> None:
    value = float(text) if key == "request_timeout" and text is not None else text
    if value is None:
        table.pop(key, None)
    elif table.get(key) != value:
        table[key] = value


def check_name(name: str) -> str:
    """The name, if a context may have it. Raises UsageError."""
    if 0 < len(name) <= _LONGEST_NAME and _NAME_CHARS.issuperset(name) and not name.startswith("-"):
        return name
    raise UsageError(f"{name[:_LONGEST_NAME]!a} is not a name for a context: letters, digits and . _ - make one")


def read_token_file(path: str, *, pipes: bool = True) -> tuple[str, str]:
    """Name and token in the token file of a context. Raises UsageError. `pipes` is as for `load_connection`."""
    return read_token(path, f"token file {path}", pipes=pipes)


def _context(path: Path, name: str, table: Any) -> Context:
    place = f"{path}: context {name!a}"
    if not isinstance(table, dict):
        raise UsageError(f"{place} is not a table such as [context.prod]")
    check_name(name)
    _refuse_unknown(place, table, KEYS)
    timeout = table.get("request_timeout")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | None):
        raise UsageError(f"{place}: request_timeout is not a number of seconds")
    for key in ("address", "token_file", "ca_file"):
        if not isinstance(table.get(key), str | None):
            raise UsageError(f"{place}: {key} is not a text")
    seconds = None if timeout is None else f"{timeout:g}"
    return Context(name, table.get("address"), seconds, table.get("token_file"), table.get("ca_file"))


def _refuse_unknown(place: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{place}: {key!a} is not known{_hint(key, known)}")


def _hint(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    others = f"; there are {', '.join(names)}" if names else "; ctl context set makes one"
    return did_you_mean(nearest(word, names)) or others


class _Choice(NamedTuple):
    """The context in use, where its name came from, and whether this call names it (the current one is not named)."""

    context: Context | None = None
    origin: str | None = None
    named: bool = False
    contexts: Contexts | None = None


def load_connection(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    env_file: str | None = None,
    context: str | None = None,
    *,
    pipes: bool = True,
) -> ClientSettings:
    """The settings of a client. `context` is the value of --context; None when it was not given, empty for none at all.

    Of ./.env nothing is read. Without `pipes` the token file is a regular file or refused: to read a pipe may wait.
    `remarks` warn of likely mistakes. Raises UsageError.
    """
    choice = _choose(context, environ)
    if (chosen := choice.context) is None:
        settings = ClientSettings.load(flags, environ, env_file)
    else:
        values = {"address": chosen.address, "request_timeout": chosen.request_timeout}
        texts = {key: Found(text, f"context {chosen.name}") for key, text in values.items() if text}
        before = texts if choice.named else NOTHING
        settings = ClientSettings.load(flags, environ, env_file, before=before, after=texts)
        settings = replace(settings, context=chosen.name, context_origin=choice.origin)
        settings = _with_ca_file(settings, chosen, named=choice.named)
    from dbgpt_ctl.settings.addresses import clear_text_remarks

    remarks = (*_remarks(choice, environ), *_flag_remarks(settings))
    settings = _with_token(replace(settings, remarks=remarks), chosen, environ, pipes=pipes)
    receivers = [address for address in settings.addresses if address.credentials]
    return replace(settings, remarks=(*settings.remarks, *clear_text_remarks(receivers)))


def _choose(flag: str | None, environ: Mapping[str, str]) -> _Choice:
    if flag == "":
        return _Choice()
    name, source = (flag, "--context") if flag is not None else (environ.get(CONTEXT) or None, CONTEXT)
    if not name and not _may_read(environ):
        return _Choice()
    contexts = read_contexts(config_path(environ))
    if name:
        origin = f"flag {source}" if flag is not None else f"environment {source}"
        return _Choice(contexts.named(name, source), origin, named=True, contexts=contexts)
    if contexts.current is None:
        return _Choice(contexts=contexts)
    current = contexts.named(contexts.current, f"{contexts.path}: current")
    return _Choice(current, str(contexts.path), contexts=contexts)


def _may_read(environ: Mapping[str, str]) -> bool:
    """False without a home directory, or with one of another user, as in a container: that is no error by itself."""
    has_home = environ.get("HOME") or environ.get("XDG_CONFIG_HOME")
    return bool(has_home) and os.access(config_path(environ), os.R_OK)


def _remarks(choice: _Choice, environ: Mapping[str, str]) -> list[str]:
    lines = []
    contexts, context = choice.contexts, choice.context
    if contexts and contexts.open_to and any(entry.holds_secret for entry in contexts.by_name.values()):
        lines.append(f"{contexts.path} holds a token, and others can read it: chmod 600 {contexts.path}")
    elif contexts and contexts.open_to & OTHERS_WRITE and any(entry.token_file for entry in contexts.by_name.values()):
        lines.append(f"{contexts.path} says where tokens are sent, and others can write it: chmod 600 {contexts.path}")
    if context and context.address and choice.origin == f"environment {CONTEXT}" and environ.get(_ADDRESS):
        lines.append(f"{_ADDRESS} is set and not used: {CONTEXT}={context.name} goes before it")
    return lines


def _flag_remarks(settings: ClientSettings) -> list[str]:
    if settings.origins.get("address") != "flag --address" or not any(each.credentials for each in settings.addresses):
        return []
    return [f"other users of this machine can read the token of --address in the process list: use {TOKEN}"]


def unread_address(settings: ClientSettings, env_file: str | None) -> str | None:
    """The line that says that ./.env holds an address, which is not read; None where it would not have been used."""
    origin = settings.origins.get("address", "default")
    named_context = settings.context_origin and settings.context_origin.startswith(("flag", "environment"))
    assumed = origin == "default" or (origin == f"context {settings.context}" and not named_context)
    if env_file is None and assumed and folder_holds(_ADDRESS):
        return (
            f"./{DEFAULT_ENV_FILE} holds {_ADDRESS}, which is not read: --env-file {DEFAULT_ENV_FILE} reads it, "
            "--env-file '' hides this line"
        )
    return None


def _with_ca_file(settings: ClientSettings, context: Context, *, named: bool) -> ClientSettings:
    """With the ca_file of the context, if the addresses are its own and nothing that goes before it names a file."""
    origin, given = f"context {context.name}", settings.origins.get("ca_file")
    if not context.ca_file or settings.origins.get("address") != origin:
        return settings
    if given is not None and (not named or given.startswith("flag ")):
        return settings
    return replace(settings, ca_file=context.ca_file, origins={**settings.origins, "ca_file": origin}).checked()


def _with_token(
    settings: ClientSettings, context: Context | None, environ: Mapping[str, str], *, pipes: bool
) -> ClientSettings:
    """The settings with a token in each address that has none of its own and that one was given for.

    A remark says to which addresses CTL_TOKEN is not sent.
    """
    bare = [address for address in settings.addresses if address.credentials is None]
    tokens: dict[Address, tuple[str, str]] = {}
    origins = []
    if bare and (token := environ.get(TOKEN)):
        origin = f"environment {TOKEN}"
        only = _addresses_of_environment(environ)
        credentials = split_token(token, origin)
        if tokens := {address: credentials for address in bare if only is None or address.url in only}:
            origins.append(origin)
    rest = [address for address in bare if address not in tokens]
    if rest and context and context.token_file and settings.origins.get("address") == f"context {context.name}":
        tokens |= dict.fromkeys(rest, read_token_file(context.token_file, pipes=pipes))
        origins.append(f"{context.token_file} (context {context.name})")
    elif rest and environ.get(TOKEN):
        settings = replace(settings, remarks=(*settings.remarks, _not_sent(rest)))
    if not tokens:
        return settings
    complete = (
        replace(address, credentials=tokens.get(address, address.credentials)) for address in settings.addresses
    )
    address = ",".join(each.url_with_credentials for each in complete)
    return replace(settings, address=address, token_origin=", ".join(origins))


def _addresses_of_environment(environ: Mapping[str, str]) -> frozenset[str] | None:
    """The URLs in the CONTROLLER_ADDRESS of the environment; None if it is not set. None of its URLs if it is wrong:
    that is an error only of a call that uses it.
    """
    found = find_variables(environ, "").get(_ADDRESS)
    if found is None:
        return None
    from dbgpt_ctl.settings.addresses import parse_addresses

    try:
        return frozenset(address.url for address in parse_addresses(found.text))
    except UsageError:
        return frozenset()


def _not_sent(addresses: Iterable[Address]) -> str:
    urls = ", ".join(map(str, addresses))
    return f"{TOKEN} is not sent to {urls}: it belongs to {_ADDRESS}, which is set too; to send it, unset {_ADDRESS}"
