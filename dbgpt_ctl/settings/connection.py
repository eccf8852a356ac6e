"""How a command comes to its controller: which address, with which token, and where each of them came from.

    flag  >  context named by --context or CTL_CONTEXT  >  environment  >  .env file  >  current context  >  default

A context that somebody names is meant, so it goes before a CONTROLLER_ADDRESS that a profile set long ago; the current
one, chosen once with `ctl context use`, is a default of the user's own. A token is CTL_TOKEN, else in the context's
token file; that of a context goes to the addresses of that context only.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from dbgpt_ctl.settings.contexts import config_path, read_contexts, read_token, split_token
from dbgpt_ctl.settings.load import NOTHING
from dbgpt_ctl.settings.schema import ClientSettings
from dbgpt_ctl.settings.sources import Found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.addresses import Address
    from dbgpt_ctl.settings.contexts import Context, Contexts

CONTEXT = "CTL_CONTEXT"
TOKEN = "CTL_TOKEN"  # noqa: S105 - the name of a variable
_ADDRESS = "CONTROLLER_ADDRESS"
OTHERS_WRITE = 0o022


class _Choice(NamedTuple):
    context: Context | None
    origin: str | None
    named: bool
    contexts: Contexts | None


def load_connection(
    flags: Mapping[str, object], environ: Mapping[str, str], env_file: str | None = None, context: str | None = None
) -> ClientSettings:
    """The settings of a client. `context` is what --context says; None when it was not given, empty for none at all.

    `remarks` warn of what is likely not meant. Raises UsageError.
    """
    choice = _choose(context, environ)
    if choice.context is None:
        settings = ClientSettings.load(flags, environ, env_file)
    else:
        texts = _texts_of(choice.context)
        named = texts if choice.named else NOTHING
        settings = ClientSettings.load(flags, environ, env_file, before=named, after=texts)
        settings = replace(settings, context=choice.context.name, context_origin=choice.origin)
    return _with_token(replace(settings, remarks=tuple(_remarks(choice, environ))), choice.context, environ)


def _choose(name: str | None, environ: Mapping[str, str]) -> _Choice:
    if name == "":
        return _Choice(None, None, named=False, contexts=None)
    asked, origin = (name, "--context") if name is not None else (environ.get(CONTEXT) or None, CONTEXT)
    contexts = read_contexts(config_path(environ)) if asked or _may_read(environ) else None
    if contexts is None:
        return _Choice(None, None, named=False, contexts=None)
    if asked:
        shown = f"flag {origin}" if name is not None else f"environment {origin}"
        return _Choice(contexts.named(asked, origin), shown, named=True, contexts=contexts)
    if contexts.current is None:
        return _Choice(None, None, named=False, contexts=contexts)
    current = contexts.named(contexts.current, f"{contexts.path}: current")
    return _Choice(current, str(contexts.path), named=False, contexts=contexts)


def _may_read(environ: Mapping[str, str]) -> bool:
    """Who names no context is not told that there is no home, or that it is somebody else's, as in a container."""
    has_home = environ.get("HOME") or environ.get("XDG_CONFIG_HOME")
    return bool(has_home) and os.access(config_path(environ), os.R_OK)


def _texts_of(context: Context) -> dict[str, Found]:
    texts = {"address": context.address, "request_timeout": context.request_timeout}
    return {key: Found(text, f"context {context.name}") for key, text in texts.items() if text}


def _remarks(choice: _Choice, environ: Mapping[str, str]) -> list[str]:
    lines = []
    contexts, context = choice.contexts, choice.context
    if contexts and contexts.open_to and any(each.holds_secret for each in contexts.by_name.values()):
        lines.append(f"{contexts.path} holds a token, and others can read it: chmod 600 {contexts.path}")
    elif contexts and contexts.open_to & OTHERS_WRITE and any(each.token_file for each in contexts.by_name.values()):
        lines.append(f"{contexts.path} says where tokens are sent, and others can write it: chmod 600 {contexts.path}")
    if context and context.address and choice.origin == f"environment {CONTEXT}" and environ.get(_ADDRESS):
        lines.append(f"{_ADDRESS} is set and not used: {CONTEXT}={context.name} goes before it")
    return lines


def _with_token(settings: ClientSettings, context: Context | None, environ: Mapping[str, str]) -> ClientSettings:
    """The token goes into each address that has none of its own."""
    if environ.get(TOKEN):
        credentials, origin = split_token(environ[TOKEN], f"environment {TOKEN}"), f"environment {TOKEN}"
    elif context and context.token_file and settings.origins.get("address") == f"context {context.name}":
        credentials, origin = read_token(context.token_file), f"{context.token_file} (context {context.name})"
    else:
        return settings
    addresses = settings.addresses
    if all(each.credentials for each in addresses):
        return settings
    texts = (address_text(each, each.credentials or credentials) for each in addresses)
    return replace(settings, address=",".join(texts), token_origin=origin)


def address_text(address: Address, credentials: tuple[str, str] | None) -> str:
    """The URL with user and token in it, as `parse_addresses` takes it."""
    if credentials is None:
        return address.url
    scheme, _, rest = address.url.partition("://")
    user, token = (quote(each, safe="") for each in credentials)
    return f"{scheme}://{user}:{token}@{rest}"
