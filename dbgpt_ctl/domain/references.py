"""Reads and prints references to instances: `NAME[@TYPE]/HOST:PORT`, or NAME with `--type`, `--host` and `--port`.

A reference is split at its last slash (names may contain slashes) and then at its last colon. An IPv6 address is in
brackets there, as in `qwen/[fe80::1]:8001`; with `--host` the brackets may be left out. `parse_reference` reads what
`reference_of` prints as the same instance.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.fields import canonical_host, ipv6_of, parse_host, parse_model_name, parse_port
from dbgpt_ctl.domain.hosts import require_registrable
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import InvalidInstance, UsageError
from dbgpt_ctl.text.escaping import escape_of, escaped, quoted, unescaped

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_TYPE = "llm"
_WITH_URL = re.compile(r"(.*?)/?https?://([^/]+)/?", re.IGNORECASE | re.DOTALL)


def reference_of(key: InstanceKey) -> str:
    """The reference of an instance, escaped so that `parse_reference` takes it.

    A name without a type, which only DB-GPT's own controller accepts, ends in `@`: no command takes that, so it is
    never mistaken for the model of type llm. A `-` at the start is escaped, because a name from an unknown client could
    otherwise pass for an option of the command that gets it.
    """
    name = escaped(key.model_name if "@" in key.model_name else f"{key.model_name}@")
    if name.lower().endswith(("http:/", "https:/")):
        name = name[:-1] + escape_of("/")
    host = escaped(str(key.host)).replace("/", escape_of("/"))
    if not host.startswith("["):
        host = host.replace(":", escape_of(":"))
    return _no_option(f"{name}/{host}:{escaped(str(key.port))}")


def model_word(model_name: str) -> str:
    """`NAME@TYPE`, escaped so that `parse_model` takes it, and so that no command takes it for an option."""
    return _no_option(escaped(model_name))


def first_references(keys: Sequence[InstanceKey], most: int = 3) -> str:
    """The references of the first instances, and how many more there are, as a part of a sentence."""
    more = [f"and {len(keys) - most} more"] if len(keys) > most else []
    return ", ".join([*map(reference_of, keys[:most]), *more])


def parse_targets(
    words: Sequence[str], model_type: str | None, host: str | None, port: str | None, *, creates: bool
) -> list[InstanceKey]:
    """The instances that the arguments name, in their order.

    `creates`: the command may store an unknown instance, so a URL must be able to contain its host.
    Raises UsageError, which names the value.
    """
    if host is None and port is None:
        keys = [parse_reference(word, model_type) for word in words]
    else:
        keys = [_from_parts(words, model_type, host, port)]
    if creates:
        for key in keys:
            require_callable(key.host)
    return keys


def parse_reference(word: str, model_type: str | None = None) -> InstanceKey:
    """The key of `NAME[@TYPE]/HOST:PORT`; `model_type` is the type where the name has none. Raises UsageError."""
    if found := _WITH_URL.fullmatch(word.strip()):
        name, address = found[1] or "NAME", found[2].rpartition("@")[2]  # without a token, which nobody should see
        raise UsageError(f"a reference has no scheme such as http://: write {escaped(name)}/{escaped(address)}")
    name, slash, address = word.strip().rpartition("/")
    host, colon, port = address.rpartition(":")
    _refuse_bare_ipv6(word, name, address)
    if not slash or not colon:
        raise UsageError(
            f"{quoted(word)} is not a reference NAME[@TYPE]/HOST:PORT, as in qwen@llm/10.0.0.4:8001; "
            "ctl models list -o name prints them (or give --host and --port)"
        )
    try:
        return InstanceKey(parse_model(name, model_type), parse_host(unescaped(host)), parse_port(port))
    except InvalidInstance as error:
        raise UsageError(f"{quoted(word)}: {error}") from error


def parse_model(word: str, model_type: str | None) -> str:
    """`NAME@TYPE` of NAME or NAME@TYPE. Raises UsageError, also when `model_type` differs from the type in the name."""
    name = unescaped(word.strip())
    if not name.partition("@")[0]:
        raise InvalidInstance("model_name", f"model {quoted(word)} has no name: write NAME[@TYPE], as in qwen@llm")
    model_type = None if model_type is None else parse_type(model_type)
    if "@" not in name:
        name = f"{name}@{model_type or DEFAULT_TYPE}"
    elif model_type is not None and name.partition("@")[2] != model_type:
        raise UsageError(f"{quoted(word)} and --type {quoted(model_type)} name different types")
    parsed = parse_model_name(name)
    if parsed != name:
        raise UsageError(
            f"model name {quoted(name)} starts or ends with white space, and no controller can look that up"
        )
    return parsed


def parse_type(text: str) -> str:
    """The value of `--type`. Raises UsageError."""
    model_type = text.strip()
    if not model_type or "@" in model_type or not model_type.isprintable():
        raise UsageError(f"--type {quoted(text)} is not a type, as in llm, text2vec, reranker or service")
    return model_type


def _from_parts(words: Sequence[str], model_type: str | None, host: str | None, port: str | None) -> InstanceKey:
    if host is None:
        raise UsageError(f"--port {quoted(str(port))} without --host: give both, or a reference NAME[@TYPE]/HOST:PORT")
    if port is None:
        raise UsageError(f"--host {quoted(host)} without --port: give both, or a reference NAME[@TYPE]/HOST:PORT")
    if len(words) != 1:
        raise UsageError(f"--host and --port go with one NAME, not with {len(words)}: {', '.join(map(quoted, words))}")
    if is_reference(words[0]):
        raise UsageError(f"{quoted(words[0])} is a reference with a host already: leave out --host and --port")
    return InstanceKey(parse_model(words[0], model_type), parse_host(unescaped(host)), parse_port(port))


def _no_option(word: str) -> str:
    return escape_of("-") + word[1:] if word.startswith("-") else word


def is_reference(word: str) -> bool:
    """Whether `parse_reference` takes it."""
    try:
        parse_reference(word)
    except UsageError:
        return False
    return True


def require_callable(host: str) -> None:
    """Raises UsageError for a host with a colon that is no IPv6 address, as in `--host 10.0.0.4:8001`, and for one that
    no controller registers.

    API servers call a worker at `http://HOST:PORT`, where a colon in the host means IPv6.
    """
    require_registrable(host)
    if ":" in host and ipv6_of(host) is None:
        raise UsageError(f"host {quoted(host)} contains a colon and is no IPv6 address: give the port separately")


def _refuse_bare_ipv6(word: str, name: str, address: str) -> None:
    """Raises UsageError for an IPv6 address without brackets, or without a port.

    `fe80::1:8001` is an address as a whole, and may be meant as one with a port.
    """
    host, _, port = address.rpartition(":")
    if ipv6_of(address) and (address.startswith("[") or not ipv6_of(host)):
        host, port = address, "PORT"
    elif host.startswith("[") or not ipv6_of(host):
        return
    fix = f"{escaped(name or 'NAME')}/{canonical_host(host)}:{escaped(port)}"
    raise UsageError(f"{quoted(word)}: an IPv6 address stands in brackets, with the port after it: write {fix}")
