"""Reads YAML and JSON files as plain values with their line numbers. Pure.

Of YAML it accepts what JSON can express: no tags, anchors, aliases or merge keys, and one document. A word has the
value that it looks like (YAML 1.2's core rules, decimal numbers only): `no` and `on` are texts, `22:22` is no number.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from yaml.composer import Composer

from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 8
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_PLAIN, _QUOTED = "plain", "quoted"
"""Tags of scalars: only a plain one can be a number, a boolean or null."""


@dataclass(frozen=True, slots=True)
class Node:
    """`value`: a text, number, boolean or None; a list of nodes; or for a mapping a tuple of `Field`s.

    A mapping may contain a key twice. `line` counts from 1; None in JSON.
    """

    value: Any
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a mapping with its line, and its value."""

    key: str
    node: Node
    line: int | None = None


def read_document(data: bytes, name: str) -> Node:
    """The document of the file `name`. Raises UsageError, with the line where one is known."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES // 1024**2} MiB, the most that is read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: byte {error.start + 1} is wrong") from None
    if text.lstrip()[:1] in ("{", "["):
        node = _read_json(text, name)
        if node is not None:
            return node
    return _read_yaml(text, name)


def _read_json(text: str, name: str) -> Node | None:
    """None for text that is not JSON: YAML in flow style starts with the same characters."""
    try:
        value = json.loads(text, object_pairs_hook=_Pairs, parse_constant=str, parse_float=_number)
        return _from_json(value, name, 0)
    except RecursionError:
        raise _too_deep(name, None) from None
    except ValueError:
        return None


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of an object, with duplicates."""


def _from_json(value: Any, name: str, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise _too_deep(name, None)
    if isinstance(value, _Pairs):
        return Node(tuple(Field(key, _from_json(item, name, depth + 1)) for key, item in value))
    if isinstance(value, list):
        return Node([_from_json(item, name, depth + 1) for item in value])
    return Node(value)


def _read_yaml(text: str, name: str) -> Node:
    try:
        return _YamlComposer(text, name).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise UsageError(f"{place}: neither YAML nor JSON: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is neither YAML nor JSON: {' '.join(str(error).split())}") from None


class _YamlComposer(Composer):
    """PyYAML's composer of nodes, with bounded depth and without anchors, aliases and tags."""

    peek_event: Callable[[], Any]

    def __init__(self, text: str, name: str) -> None:
        super().__init__()
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self.check_event, self.peek_event, self.get_event = loader.check_event, loader.peek_event, loader.get_event
        self._name = name
        self._depth = 0

    def document(self) -> Node:
        """The only document; a Node of None for an empty file."""
        self.get_event()  # the start of the stream
        if self.check_event(yaml.StreamEndEvent):
            return Node(None, 1)
        node = self.compose_document()
        if not self.check_event(yaml.StreamEndEvent):
            self._refuse(self.peek_event(), "a second document starts here; give one")
        return self._converted(node)

    def compose_node(self, parent: Any, index: Any) -> Any:
        """PyYAML calls this for every node."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(event, "anchors and aliases are not accepted here; write the value out")
        if event.tag not in (None, "!"):
            self._refuse(event, f"tag {quoted(str(event.tag))} is not accepted here")
        is_scalar = isinstance(event, yaml.ScalarEvent)
        if self._depth >= MAX_DEPTH and not is_scalar:
            raise _too_deep(self._name, event.start_mark.line + 1)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        if is_key and not is_scalar:
            self._refuse(event, "a list or mapping as key")
        return node

    def resolve(self, kind: Any, _value: Any, implicit: Any) -> str:
        """PyYAML calls this for the tag of every node."""
        return _PLAIN if kind is yaml.ScalarNode and implicit[0] else _QUOTED

    def descend_resolver(self, parent: Any, index: Any) -> None:
        """PyYAML calls this before every node."""

    def ascend_resolver(self) -> None:
        """PyYAML calls this after every node."""

    def _converted(self, node: Any) -> Node:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            is_plain = node.tag == _PLAIN and not node.style
            return Node(_scalar(node.value) if is_plain else node.value, line)
        if isinstance(node, yaml.SequenceNode):
            return Node([self._converted(item) for item in node.value], line)
        fields = (Field(str(key.value), self._converted(value), key.start_mark.line + 1) for key, value in node.value)
        return Node(tuple(fields), line)

    def _refuse(self, event: Any, reason: str) -> NoReturn:
        raise UsageError(f"{self._name}:{event.start_mark.line + 1}: {reason}")


def _scalar(text: str) -> Any:
    """The value of a word without quotes."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return _number(text) if _NUMBER.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text) else text


def _number(text: str) -> float | str:
    """A number that a float cannot hold stays a text."""
    number = float(text)
    return number if math.isfinite(number) else text


def _too_deep(name: str, line: int | None) -> UsageError:
    place = name if line is None else f"{name}:{line}"
    return UsageError(f"{place}: nested deeper than {MAX_DEPTH} levels")
