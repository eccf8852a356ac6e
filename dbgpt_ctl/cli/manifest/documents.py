"""YAML and JSON files as plain values that know where they stand. Pure.

Of YAML only what JSON can say too: no tags, no anchors, no aliases, no merge keys, one document. Words mean what they
look like (YAML 1.2's core rules, decimal numbers only): `no` and `on` are texts, `22:22` is no number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 8
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Node:
    """`value`: a text, number, boolean or None; a list of nodes; or for a mapping a tuple of `Field`s, doubles too.

    `line` counts from 1; None in JSON.
    """

    value: Any
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a mapping, where it stands, and its value."""

    key: str
    node: Node
    line: int | None = None


def read_document(data: bytes, name: str) -> Node:
    """The one document of a file that people call `name`. Raises UsageError, with the line where one is known."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES // 1024**2} MiB, the most that is read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: byte {error.start + 1} is wrong") from None
    if text.lstrip()[:1] in ("{", "["):
        node = _from_json(text, name)
        if node is not None:
            return node
    return _from_yaml(text, name)


def _from_json(text: str, name: str) -> Node | None:
    """None for what is no JSON: flow style YAML starts alike."""
    import json

    try:
        value = json.loads(text, object_pairs_hook=_Pairs, parse_constant=str, parse_float=_number)
        return _of_json(value, name, 0)
    except RecursionError:
        raise _too_deep(name, None) from None
    except ValueError:
        return None


class _Pairs(list[tuple[str, Any]]):
    """An object's keys and values, doubles too."""


def _of_json(value: Any, name: str, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise _too_deep(name, None)
    if isinstance(value, _Pairs):
        return Node(tuple(Field(key, _of_json(each, name, depth + 1)) for key, each in value))
    if isinstance(value, list):
        return Node([_of_json(each, name, depth + 1) for each in value])
    return Node(value)


def _from_yaml(text: str, name: str) -> Node:
    import yaml

    try:
        events = iter(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        return _Builder(events, name).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise UsageError(f"{where}: neither YAML nor JSON: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is neither YAML nor JSON: {' '.join(str(error).split())}") from None


class _Builder:
    """Nodes from the parser's events. Depth is bounded, and nothing is referred to twice."""

    def __init__(self, events: Iterator[Any], name: str) -> None:
        self._events = events
        self._name = name

    def document(self) -> Node:
        """The first and only document; an empty file is one None."""
        found = Node(None, 1)
        documents = 0
        for event in self._events:
            kind = type(event).__name__
            if kind in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                continue
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document starts here; give one")
                continue
            found = self._node(event, 0)
        return found

    def _node(self, event: Any, depth: int) -> Node:
        line = event.start_mark.line + 1
        kind = type(event).__name__
        if kind == "AliasEvent" or event.anchor is not None:
            self._refuse(event, "anchors and aliases are not taken here; write the value out")
        if event.tag not in (None, "!"):
            self._refuse(event, f"tag {quoted(str(event.tag))} is not taken here")
        if kind == "ScalarEvent":
            plain = event.implicit[0] and event.style in (None, "")
            return Node(_scalar(event.value) if plain else event.value, line)
        if depth >= MAX_DEPTH:
            raise _too_deep(self._name, line)
        if kind == "SequenceStartEvent":
            return Node([self._node(each, depth + 1) for each in self._until("SequenceEndEvent")], line)
        return Node(tuple(self._field(each, depth) for each in self._until("MappingEndEvent")), line)

    def _field(self, event: Any, depth: int) -> Field:
        key = self._node(event, depth + 1)
        if type(event).__name__ != "ScalarEvent":
            self._refuse(event, "a list or mapping as key")
        return Field(str(event.value), self._node(next(self._events), depth + 1), key.line)

    def _until(self, end: str) -> Iterator[Any]:
        while type(event := next(self._events)).__name__ != end:
            yield event

    def _refuse(self, event: Any, why: str) -> NoReturn:
        raise UsageError(f"{self._name}:{event.start_mark.line + 1}: {why}")


def _scalar(text: str) -> Any:
    """What a word without quotes means."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return _number(text) if _NUMBER.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text) else text


def _number(text: str) -> float | str:
    """A number beyond what a float holds stays a text."""
    number = float(text)
    return number if math.isfinite(number) else text


def _too_deep(name: str, line: int | None) -> UsageError:
    where = name if line is None else f"{name}:{line}"
    return UsageError(f"{where}: nested deeper than {MAX_DEPTH} levels")
