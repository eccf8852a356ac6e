"""Candidates for completion: registered models and instances, contexts, and the values of options.

Every candidate is printable, and the command that gets it parses it as exactly that model or instance. What does not
parse back is not offered.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.domain.fields import parse_host
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.instance import MODEL_TYPES
from dbgpt_ctl.domain.references import parse_reference, reference_of
from dbgpt_ctl.errors import CtlError
from dbgpt_ctl.text.escaping import escape_of, escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.instance import InstanceKey

FILES = "the name of a file"
"""Help text of a candidate that lets the shell complete a file name."""
TIMEOUT_SECS = 0.3
"""How long TAB waits for the controllers, name lookups and failover included."""


def one_of(words: Sequence[str]) -> Callable[[str], list[str]]:
    """A function that returns those of the words that continue a text."""
    return lambda incomplete: [str(word) for word in words if word.startswith(incomplete)]


def files(incomplete: str) -> list[tuple[str, str]]:
    """Lets the shell complete a file name."""
    return [(incomplete, FILES)]


def types(incomplete: str) -> list[tuple[str, str]]:
    """The types that DB-GPT uses."""
    return [pair for pair in MODEL_TYPES.items() if pair[0].startswith(incomplete)]


def contexts(incomplete: str) -> list[str]:
    """Names of contexts."""
    from dbgpt_ctl.settings.contexts import config_path, read_contexts

    try:
        return sorted(name for name in read_contexts(config_path(os.environ)).by_name if name.startswith(incomplete))
    except CtlError:
        return []


def nothing(incomplete: str) -> list[str]:  # noqa: ARG001 - Typer passes it
    """No candidates: the name is a new one."""
    return []


def tokens(ctx: Any, incomplete: str) -> list[str]:
    """Names of the tokens in the file that the flag or the environment names."""
    path = ctx.params.get("tokens_file") or os.environ.get("CONTROLLER_TOKENS_FILE")
    if not path:
        return []
    from dbgpt_ctl.auth.tokens_file import read_tokens_file

    try:
        return sorted(name for name in read_tokens_file(Path(path).expanduser()).tokens if name.startswith(incomplete))
    except (CtlError, RuntimeError):
        return []


def models(ctx: Any, incomplete: str) -> list[str]:
    """NAME of each model; NAME@TYPE once the text contains an `@`."""
    names = {key.model_name for key in _registered_keys(ctx)}
    if "@" not in incomplete:
        names = {name.partition("@")[0] for name in names if _is_model(name)}
    shown = {_argument(escaped(name)): name for name in names}
    return sorted(text for text, name in shown.items() if text.startswith(incomplete) and _selects(text, name))


def hosts(ctx: Any, incomplete: str) -> list[str]:
    """Hosts of registered instances."""
    found = {key.host for key in _registered_keys(ctx)}
    shown = {_argument(escaped(host)): host for host in found}
    return sorted(text for text, host in shown.items() if text.startswith(incomplete) and _is_host(text, host))


def references(ctx: Any, incomplete: str) -> list[str]:
    """References of registered instances that are not among the arguments yet."""
    given = set(ctx.params.get("references") or ())
    by_text = {reference_of(key): key for key in _registered_keys(ctx)}
    return sorted(
        text for text, key in by_text.items() if text.startswith(incomplete) and text not in given and _names(text, key)
    )


def _registered_keys(ctx: Any) -> list[InstanceKey]:
    """All registered instances; empty, without a message, when settings are wrong or no controller answers in time."""
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.settings.contexts import load_connection

    given = ctx.params
    env_file = given.get("env_file")
    if env_file and not Path(env_file).expanduser().is_file():
        return []  # a pipe is for the command that is being typed: it can be read once, and may have to be waited for
    try:
        flags = {"address": ",".join(given.get("address") or ()) or None, "ca_file": given.get("ca_file")}
        settings = load_connection(flags, os.environ, env_file, given.get("context"), pipes=False)
        client = ControllerClient(settings.address, timeout=TIMEOUT_SECS, ca_file=settings.ca_file)
    except CtlError:
        return []
    found: list[InstanceKey] = []
    # The lookup of a name has no timeout of its own. One that takes longer is left behind in a daemon thread.
    thread = Thread(target=_list, args=(client, found), daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECS)
    return found


def _list(client: ControllerClient, found: list[InstanceKey]) -> None:
    with suppress(CtlError):
        found += [instance.key for instance in client.list().instances]


def _argument(text: str) -> str:
    """Escapes a `-` at the start, which would make the name an option."""
    return escape_of("-") + text[1:] if text.startswith("-") else text


def _is_model(name: str) -> bool:
    return name.count("@") == 1


def _selects(text: str, name: str) -> bool:
    try:
        wanted = ModelFilter.parse(text)
    except CtlError:
        return False
    return name in (wanted.name, wanted.model_name)


def _is_host(text: str, host: str) -> bool:
    try:
        return parse_host(unescaped(text)) == host
    except CtlError:
        return False


def _names(text: str, key: InstanceKey) -> bool:
    try:
        return parse_reference(text) == key
    except CtlError:
        return False
