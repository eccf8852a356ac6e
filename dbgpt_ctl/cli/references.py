"""How people name instances: `NAME[@TYPE]/HOST:PORT`, or NAME with `--type`, `--host` and `--port`.

A reference is split at its last slash (names hold slashes) and then at its last colon. The host is verbatim: `qwen/[::1]:8001` is
the instance that registered as `[::1]`, as DB-GPT's workers do, and `qwen/::1:8001` the one that registered as `::1`. What
`reference_to` prints, `parse_reference` reads as the very same instance.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.text import escaped, quoted, unescaped
from dbgpt_ctl.errors import InvalidInstance, UsageError
from dbgpt_ctl.instance import InstanceKey, parse_host, parse_model_name, parse_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_TYPE = "llm"


def reference_to(fields: Mapping[str, Any]) -> str:
    """The reference of an instance as the API lists it, escaped.

    A name without a type (only DB-GPT's own controller lets one in) ends in `@`: no verb takes that, so it is never
    mistaken for the model of type llm.
    """
    model_name = str(fields.get("model_name"))
    name = model_name if "@" in model_name else f"{model_name}@"
    return escaped(f"{name}/{fields.get('host')}:{fields.get('port')}")


def parse_targets(
    words: Sequence[str], kind: str | None, host: str | None, port: str | None, *, creates: bool
) -> list[InstanceKey]:
    """The instances that the arguments name, in their order.

    `creates`: the verb may store an instance that was unknown, so its host must be one that a URL can hold.
    Raises UsageError, which names the value.
    """
    if host is None and port is None:
        keys = [parse_reference(word, kind) for word in words]
    else:
        keys = [_from_parts(words, kind, host, port)]
    if creates:
        for key in keys:
            _require_callable(key.host)
    return keys


def parse_reference(word: str, kind: str | None = None) -> InstanceKey:
    """The key of `NAME[@TYPE]/HOST:PORT`; `kind` is the type when the name has none. Raises UsageError."""
    name, slash, address = word.strip().rpartition("/")
    host, colon, port = address.rpartition(":")
    if not slash or not colon:
        raise UsageError(f"{quoted(word)} is not a reference NAME[@TYPE]/HOST:PORT, as in qwen@llm/10.0.0.4:8001 (or give --host and --port)")
    try:
        return InstanceKey(parse_name(name, kind, default=DEFAULT_TYPE), _verbatim_host(host), parse_port(port))
    except InvalidInstance as error:
        raise UsageError(f"{quoted(word)}: {error}") from error


def parse_name(word: str, kind: str | None, *, default: str) -> str:
    """`NAME@TYPE` of a name that may lack its type. Raises UsageError when the type of `--type` differs from the name's own."""
    name = unescaped(word.strip())
    if "@" not in name:
        if kind is not None and "@" in kind:
            raise UsageError(f"--type {quoted(kind)} holds an '@': give the bare type, as in llm")
        name = f"{name}@{default if kind is None else kind.strip()}"
    elif kind is not None and name.partition("@")[2].strip() != kind.strip():
        raise UsageError(f"{quoted(word)} and --type {quoted(kind)} name different types")
    parsed = parse_model_name(name)
    if parsed != name:
        raise UsageError(f"model name {quoted(name)} starts or ends with white space, and no controller can be asked for that")
    return parsed


def _from_parts(words: Sequence[str], kind: str | None, host: str | None, port: str | None) -> InstanceKey:
    if host is None or port is None:
        missing, given = ("--host", f"--port {quoted(port)}") if host is None else ("--port", f"--host {quoted(host)}")
        raise UsageError(f"{given} without {missing}: give both, or a reference NAME[@TYPE]/HOST:PORT")
    if len(words) != 1:
        raise UsageError(f"--host and --port go with one NAME, not with {len(words)}: {', '.join(map(quoted, words))}")
    if _is_reference(words[0]):
        raise UsageError(f"{quoted(words[0])} is a reference with a host already: leave out --host and --port")
    return InstanceKey(parse_name(words[0], kind, default=DEFAULT_TYPE), _verbatim_host(host), parse_port(port))


def _is_reference(word: str) -> bool:
    try:
        parse_reference(word)
    except UsageError:
        return False
    return True


def _verbatim_host(text: str) -> str:
    return parse_host(unescaped(text))


def _require_callable(host: str) -> None:
    """Workers are called at `http://HOST:PORT`, so a colon means an IPv6 address; it catches `--host 10.0.0.4:8001` too."""
    if ":" not in host:
        return
    try:
        IPv6Address(host.removeprefix("[").removesuffix("]"))
    except AddressValueError as error:
        raise UsageError(f"host {quoted(host)} holds a colon and is no IPv6 address: give the port apart from the host") from error
