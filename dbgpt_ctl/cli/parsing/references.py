"""How people name instances: `NAME[@TYPE]/HOST:PORT`, or NAME with `--type`, `--host` and `--port`.

A reference is split at its last slash (names hold slashes) and then at its last colon. The host is verbatim:
`qwen/[::1]:8001` is the instance that registered as `[::1]`, as DB-GPT's workers do, and `qwen/::1:8001` the one that
registered as `::1`. What `reference_to` prints, `parse_reference` reads as the very same instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.escaping import escape_of, escaped, quoted, unescaped
from dbgpt_ctl.domain.fields import parse_host, parse_model_name, parse_port
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import InvalidInstance, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_TYPE = "llm"


def reference_to(fields: Mapping[str, Any]) -> str:
    """The reference of an instance as the API lists it, escaped.

    A name without a type (only DB-GPT's own controller lets one in) ends in `@`: no verb takes that, so it is never
    mistaken for the model of type llm. A `-` at the start is escaped, or a stranger's name could pass for an option of
    the command that is given it.
    """
    model_name = str(fields.get("model_name"))
    name = model_name if "@" in model_name else f"{model_name}@"
    host = escaped(str(fields.get("host"))).replace("/", escape_of("/"))
    shown = f"{escaped(name)}/{host}:{escaped(str(fields.get('port')))}"
    return escape_of("-") + shown[1:] if shown.startswith("-") else shown


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """Which models a list is of. A controller can be asked for `model_name`, but not for `name` or `kind` alone."""

    model_name: str | None = None
    name: str | None = None
    kind: str | None = None

    @classmethod
    def parse(cls, name: str | None, kind: str | None) -> ModelFilter:
        """From NAME, NAME@TYPE, `--type`, or none of them. Raises UsageError."""
        if name is None:
            return cls(kind=None if kind is None else _parse_type(kind))
        model_name = parse_name(name, kind, default=DEFAULT_TYPE)
        if kind is None and "@" not in name:
            return cls(name=model_name.partition("@")[0])
        return cls(model_name=model_name)

    def matches(self, model_name: str) -> bool:
        """Compares exactly; DB-GPT's controller on MySQL folds case when it is asked for a model."""
        name, _, kind = model_name.partition("@")
        return self.model_name in (None, model_name) and self.name in (None, name) and self.kind in (None, kind)

    def __str__(self) -> str:
        if self.kind is not None:
            return f" of type {escaped(self.kind)}"
        of = self.model_name or self.name
        return "" if of is None else f" of {escaped(of)}"


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
            require_callable(key.host)
    return keys


def parse_reference(word: str, kind: str | None = None) -> InstanceKey:
    """The key of `NAME[@TYPE]/HOST:PORT`; `kind` is the type when the name has none. Raises UsageError."""
    name, slash, address = word.strip().rpartition("/")
    host, colon, port = address.rpartition(":")
    if not slash or not colon:
        raise UsageError(
            f"{quoted(word)} is not a reference NAME[@TYPE]/HOST:PORT, as in qwen@llm/10.0.0.4:8001; "
            "ctl models list -o name prints them (or give --host and --port)"
        )
    try:
        return InstanceKey(parse_name(name, kind, default=DEFAULT_TYPE), _verbatim_host(host), parse_port(port))
    except InvalidInstance as error:
        raise UsageError(f"{quoted(word)}: {error}") from error


def parse_name(word: str, kind: str | None, *, default: str) -> str:
    """`NAME@TYPE` of a name that may lack its type. Raises UsageError, also when `--type` differs from its own."""
    name = unescaped(word.strip())
    kind = None if kind is None else _parse_type(kind)
    if "@" not in name:
        name = f"{name}@{kind or default}"
    elif kind is not None and name.partition("@")[2] != kind:
        raise UsageError(f"{quoted(word)} and --type {quoted(kind)} name different types")
    parsed = parse_model_name(name)
    if parsed != name:
        raise UsageError(
            f"model name {quoted(name)} starts or ends with white space, and no controller can be asked for that"
        )
    return parsed


def _parse_type(text: str) -> str:
    kind = text.strip()
    if not kind or "@" in kind or not kind.isprintable():
        raise UsageError(f"--type {quoted(text)} is not a type, as in llm, text2vec, reranker or service")
    return kind


def _from_parts(words: Sequence[str], kind: str | None, host: str | None, port: str | None) -> InstanceKey:
    if host is None:
        raise UsageError(f"--port {quoted(str(port))} without --host: give both, or a reference NAME[@TYPE]/HOST:PORT")
    if port is None:
        raise UsageError(f"--host {quoted(host)} without --port: give both, or a reference NAME[@TYPE]/HOST:PORT")
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


def require_callable(host: str) -> None:
    """Workers are called at `http://HOST:PORT`: a colon means IPv6. It catches `--host 10.0.0.4:8001` too."""
    if ":" not in host:
        return
    try:
        IPv6Address(host.removeprefix("[").removesuffix("]"))
    except AddressValueError as error:
        raise UsageError(
            f"host {quoted(host)} holds a colon and is no IPv6 address: give the port apart from the host"
        ) from error
