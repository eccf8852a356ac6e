"""What a file for `ctl apply` and `ctl diff` declares: checked as a whole, each mistake with its place. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.cli.manifest.documents import Node, read_document
from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.parsing.references import DEFAULT_TYPE, reference_to, require_callable
from dbgpt_ctl.cli.parsing.suggestions import nearest
from dbgpt_ctl.domain.fields import parse_host, parse_model_name, parse_port, parse_prompt_template, parse_weight
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.cli.manifest.documents import Field

_TOP = "instances"


@dataclass(frozen=True, slots=True)
class Declared:
    """One instance of the file. `stated` holds those of weight, enabled, prompt_template and check_healthy that the
    file gives, in that order: only these are compared.
    """

    key: InstanceKey
    stated: dict[str, Any] = field(default_factory=dict)


class InvalidFile(UsageError):
    """What is wrong with the file, a line for each mistake."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__(f"{count} in {name}; nothing was changed")
        self.problems = problems


def read_instances(data: bytes, name: str) -> list[Declared]:
    """The instances that a file declares, in its order. `name` is what people call the file.

    Raises UsageError for what is neither YAML nor JSON, InvalidFile for all other mistakes at once.
    """
    reader = _Reader(name)
    found = reader.instances(read_document(data, name))
    if reader.problems:
        raise InvalidFile(name, reader.problems)
    return found


class _Reader:
    """Collects problems on its way."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[str] = []

    def instances(self, document: Node) -> list[Declared]:
        """What the document declares, as far as it is right."""
        top = self._fields(document, "the file", (_TOP,))
        if top is None:
            return []
        if _TOP not in top:
            self._note(document.line, "", f"no list '{_TOP}:', which declares the instances")
            return []
        entries = top[_TOP].node
        if not isinstance(entries.value, list):
            self._note(top[_TOP].line, _TOP, f"{_what(entries)} is not a list; for none write []")
            return []
        return self._each(entries.value)

    def _each(self, entries: Sequence[Node]) -> list[Declared]:
        seen: dict[InstanceKey, int] = {}
        found: list[Declared] = []
        for number, entry in enumerate(entries):
            declared = self._declared(entry, f"{_TOP}[{number}]")
            if declared is None:
                continue
            if declared.key in seen:
                shown = reference_to(declared.key._asdict())
                before = seen[declared.key]
                self._note(entry.line, f"{_TOP}[{number}]", f"{shown} is declared by {_TOP}[{before}] already")
                continue
            seen[declared.key] = number
            found.append(declared)
        return found

    def _declared(self, entry: Node, path: str) -> Declared | None:
        fields = self._fields(entry, path, tuple(_RULES))
        if fields is None:
            return None
        good = len(self.problems)
        values: dict[str, Any] = {}
        for key, rule in _RULES.items():
            if key in fields:
                self._read(fields[key], path, rule, values)
            elif rule.required:
                self._note(entry.line, path, f"{key} is missing")
        if len(self.problems) > good:
            return None
        identity = InstanceKey(values.pop("model"), values.pop("host"), values.pop("port"))
        return Declared(identity, values)

    def _read(self, found: Field, path: str, rule: _Rule, values: dict[str, Any]) -> None:
        value = found.node.value
        if type(value) not in rule.types:
            self._note(found.node.line, f"{path}.{found.key}", f"{_what(found.node)} is not {rule.wanted}")
            return
        try:
            values[found.key] = rule.parse(value)
        except UsageError as error:
            self._note(found.node.line, f"{path}.{found.key}", str(error))

    def _fields(self, node: Node, path: str, known: Sequence[str]) -> dict[str, Field] | None:
        """The fields of a mapping; None for what is none."""
        if not isinstance(node.value, tuple):
            self._note(node.line, path, f"{_what(node)} is not a mapping with {', '.join(known)}")
            return None
        fields: dict[str, Field] = {}
        for each in node.value:
            if each.key in fields:
                self._note(each.line, path, f"key {quoted(each.key)} stands there twice")
            elif each.key not in known:
                near = nearest(each.key, known)
                hint = f"; did you mean {near}?" if near else f"; known are {', '.join(known)}"
                self._note(each.line, path, f"unknown key {quoted(each.key)}{hint}")
            else:
                fields[each.key] = each
        return fields

    def _note(self, line: int | None, path: str, problem: str) -> None:
        place = self._name if line is None else f"{self._name}:{line}"
        self.problems.append(f"{place}: {path}: {problem}" if path else f"{place}: {problem}")


def _model(text: str) -> str:
    return parse_model_name(text if "@" in text else f"{text.strip()}@{DEFAULT_TYPE}" if text.strip() else text)


def _host(text: str) -> str:
    host = parse_host(text)
    require_callable(host)
    return host


class _Rule(NamedTuple):
    parse: Callable[[Any], Any]
    types: tuple[type, ...]
    wanted: str
    required: bool = False


_RULES = {
    "model": _Rule(_model, (str,), "a text, as in qwen@llm (a number in quotes is one)", required=True),
    "host": _Rule(_host, (str,), "a text (a number in quotes is one)", required=True),
    "port": _Rule(parse_port, (int,), "a whole number", required=True),
    "weight": _Rule(parse_weight, (int, float), "a number"),
    "enabled": _Rule(bool, (bool,), "true or false"),
    "prompt_template": _Rule(parse_prompt_template, (str, type(None)), "a text or null"),
    "check_healthy": _Rule(bool, (bool,), "true or false"),
}
"""In the order in which differences are told."""


def _what(node: Node) -> str:
    """A value as an error quotes it."""
    if isinstance(node.value, list):
        return "a list"
    if isinstance(node.value, tuple):
        return "a mapping"
    if node.value is None:
        return "null"
    return quoted(node.value) if isinstance(node.value, str) else str(node.value).lower()[:40]
