"""What TAB may put where: models and references that the controller knows, and the words of an option.

A candidate is printable, and the verb that gets it reads it as the very instance or model: what does not come back so
is not offered.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.escaping import escape_of, escaped
from dbgpt_ctl.cli.parsing.references import ModelFilter, parse_reference, reference_to
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Iterable

FILES = "the name of a file"
"""As help of a candidate: let the shell complete the name of a file."""
TYPES = {"llm": "language models", "text2vec": "embeddings", "reranker": "rerankers", "service": "DB-GPT's own parts"}
TIMEOUT_SECS = 0.3
"""How long TAB waits for the controllers, name lookups and failover included."""


def files(incomplete: str) -> list[tuple[str, str]]:
    """Names of files, which the shell knows best."""
    return [(incomplete, FILES)]


def types(incomplete: str) -> list[tuple[str, str]]:
    """The types that DB-GPT has."""
    return [pair for pair in TYPES.items() if pair[0].startswith(incomplete)]


def contexts(incomplete: str) -> list[str]:
    """Names of contexts."""
    from dbgpt_ctl.settings.contexts import config_path, read_contexts

    try:
        return sorted(name for name in read_contexts(config_path(os.environ)).by_name if name.startswith(incomplete))
    except CtlError:
        return []


def models(ctx: Any, incomplete: str) -> list[str]:
    """NAME of each model, or NAME@TYPE once the `@` is there."""
    names = {str(each["model_name"]) for each in _registered(ctx)}
    if "@" not in incomplete:
        names = {name.partition("@")[0] for name in names if _is_model(name)}
    shown = {_argument(escaped(name)): name for name in names}
    return sorted(text for text, name in shown.items() if text.startswith(incomplete) and _asks_for(text, name))


def references(ctx: Any, incomplete: str) -> list[str]:
    """References of what is registered and not among the arguments yet."""
    given = set(ctx.params.get("references") or ())
    shown = ((reference_to(each), each) for each in _registered(ctx))
    return sorted(
        text for text, each in shown if text.startswith(incomplete) and text not in given and _names(text, each)
    )


def _registered(ctx: Any) -> Iterable[dict[str, Any]]:
    """The API's objects; none, and no word about it, when settings are wrong or nobody answers in time."""
    from dbgpt_ctl.cli.completion.quick_list import quick_list
    from dbgpt_ctl.settings.contexts import load_connection

    given = ctx.params
    try:
        flags = {"address": given.get("address")}
        settings = load_connection(flags, os.environ, given.get("env_file"), given.get("context"))
        return quick_list(settings.address, TIMEOUT_SECS)
    except CtlError:
        return []


def _argument(text: str) -> str:
    """A name that starts with a `-` is no option."""
    return escape_of("-") + text[1:] if text.startswith("-") else text


def _is_model(name: str) -> bool:
    return name.count("@") == 1


def _asks_for(text: str, name: str) -> bool:
    try:
        wanted = ModelFilter.parse(text, None)
    except CtlError:
        return False
    return name in (wanted.name, wanted.model_name)


def _names(text: str, fields: dict[str, Any]) -> bool:
    try:
        return parse_reference(text) == InstanceKey(fields["model_name"], fields["host"], fields["port"])
    except CtlError:
        return False
