"""Reads YAML and JSON files as plain values with their line numbers. Pure.

Of YAML it accepts what JSON can express: no tags, anchors, aliases or merge keys, and one document. A word has the
value that it looks like (YAML 1.2's core rules, decimal numbers only): `no` and `on` are texts, `22:22` is no number.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import yaml

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 32 * 1024 * 1024
"""A file that `ctl export` writes of as many instances as a controller keeps by default is shorter, also as JSON."""
MAX_VALUES = 2_100_000
"""Entries of lists and fields of mappings, of all files together: 200,000 instances with all fields have 2,000,001. A
file of the largest size could have sixteen million, which need gigabytes.
"""
MAX_DEPTH = 8
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_JSON_TOKEN = re.compile(r'[\[{,]|"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
"""Each value but the outermost begins after one of the three characters; a text may contain them."""
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


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


class ValueCount:
    """Counts the values of several documents."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, values: int, name: str) -> None:
        """Raises UsageError, which names the file, above MAX_VALUES."""
        self._count += values
        if self._count > MAX_VALUES:
            raise UsageError(f"{name} is too large: a command reads at most {MAX_VALUES} values; split the files")


def read_document(data: bytes, name: str, count: ValueCount) -> Node:
    """The document of the file `name`. Raises UsageError, with the line where one is known."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES // 1024**2} MiB, the most that is read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: byte {error.start + 1} is wrong") from None
    if text.lstrip()[:1] in ("{", "["):
        node = _read_json(text, name, count)
        if node is not None:
            return node
    return _read_yaml(text, name, count)


def _read_json(text: str, name: str, count: ValueCount) -> Node | None:
    """None for text that is not JSON: YAML in flow style starts with the same characters."""
    values = sum(map(text.count, "[{,"))  # as many as there are, or more where texts contain these characters
    if values > MAX_VALUES:
        separators = (token for token in _JSON_TOKEN.finditer(text) if token[0][0] != '"')
        values = sum(1 for _ in islice(separators, MAX_VALUES + 1))
    count.add(values, name)
    try:
        value = json.loads(text, object_pairs_hook=_Pairs, parse_constant=str, parse_float=_number)
        return _from_json(value, name, 0)
    except RecursionError:
        raise _too_deep(name, None) from None
    except ValueError:
        count.add(-values, name)  # they are counted as YAML
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


def _read_yaml(text: str, name: str, count: ValueCount) -> Node:
    events = _Events(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), name, count)
    try:
        next(events)  # the start of the stream
        if isinstance(next(events), yaml.StreamEndEvent):
            return Node(None, 1)
        node = _from_yaml(next(events), events, name, 0)
        next(events)  # the end of the document
        after = next(events)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise UsageError(f"{place}: neither YAML nor JSON: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is neither YAML nor JSON: {' '.join(str(error).split())}") from None
    if not isinstance(after, yaml.StreamEndEvent):
        raise _refused(name, after, "a second document starts here; give one")
    return node


class _Events:
    """The events of the file `name`."""

    def __init__(self, events: Iterator[Any], name: str, count: ValueCount) -> None:
        self._events = events
        self._name = name
        self._count = count

    def __next__(self) -> Any:
        return next(self._events)

    def children(self) -> Iterator[Any]:
        """The events up to the end of a list or mapping, each of which begins a child, or the key of one.

        Raises UsageError for too many values in all.
        """
        while not isinstance(event := next(self._events), yaml.CollectionEndEvent):
            self._count.add(1, self._name)
            yield event


def _from_yaml(event: Any, events: _Events, name: str, depth: int) -> Node:
    """The node that begins with `event`. Reads the other events of the node."""
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _refused(name, event, "anchors and aliases are not accepted here; write the value out")
    if event.tag not in (None, "!"):
        raise _refused(name, event, f"tag {quoted(str(event.tag))} is not accepted here")
    line = event.start_mark.line + 1
    if isinstance(event, yaml.ScalarEvent):
        is_plain = event.implicit[0] and not event.style
        return Node(_scalar(event.value) if is_plain else event.value, line)
    if depth >= MAX_DEPTH:
        raise _too_deep(name, line)
    if isinstance(event, yaml.SequenceStartEvent):
        return Node([_from_yaml(item, events, name, depth + 1) for item in events.children()], line)
    fields = []
    for key in events.children():
        key_node = _from_yaml(key, events, name, depth + 1)
        if not isinstance(key, yaml.ScalarEvent):
            raise _refused(name, key, "a list or mapping as key")
        fields.append(Field(key.value, _from_yaml(next(events), events, name, depth + 1), key_node.line))
    return Node(tuple(fields), line)


def _refused(name: str, event: Any, reason: str) -> UsageError:
    return UsageError(f"{name}:{event.start_mark.line + 1}: {reason}")


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
