"""The declarations in a file of instances: checked as a whole, each mistake reported with its place."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.cli.manifest.documents import Node, ValueCount, read_document
from dbgpt_ctl.cli.manifest.sources import read_sources
from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.domain.fields import (
    parse_host,
    parse_model_name,
    parse_operator_weight,
    parse_port,
    parse_prompt_template,
    parse_reason,
)
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.domain.references import DEFAULT_TYPE, reference_of, require_callable
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.spelling import nearest
from dbgpt_ctl.text.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbgpt_ctl.cli.manifest.documents import Field

_TOP = "instances"
_MOST_PROBLEMS = 20
"""More mistakes are counted only."""
_MOST_COUNTED = 1000
"""The files are not read on after so many."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One instance of the file."""

    key: InstanceKey
    fields: dict[str, Any] = dataclass_field(default_factory=dict)
    """Those of weight, enabled, prompt_template and check_healthy that the file gives.

    `drain: null` is `enabled` True. Another drain is `enabled` False, with `drain_reason` and `drain_until` where the
    file gives them.
    """


def read_files(files: Sequence[str], *, prune: bool) -> list[Declaration]:
    """The declarations in the files and folders, in their order (see `read_sources`).

    Prints the mistakes, and raises UsageError with their count. With `prune`, files without instances are a mistake
    too.
    """
    sources = read_sources(files)
    declarations, problems = read_declarations(*sources)
    where = sources[0].name if len(sources) == 1 else f"{len(sources)} files"
    _print_problems(problems, where)
    if not declarations and prune:
        raise UsageError(
            f"no instances are declared in {where}: --prune takes the models to prune from the declared instances"
        )
    return declarations


def _print_problems(problems: Sequence[str], where: str) -> None:
    """Raises UsageError if there are problems."""
    for line in problems[:_MOST_PROBLEMS]:
        say(line)
    if len(problems) > _MOST_PROBLEMS:
        say(f"and {len(problems) - _MOST_PROBLEMS} more")
    if problems:
        more = " or more" if len(problems) >= _MOST_COUNTED else ""
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes{more}"
        raise UsageError(f"{count} in {where}; nothing was changed")


def read_declarations(*documents: tuple[bytes, str]) -> tuple[list[Declaration], list[str]]:
    """The declarations in the contents of named files, in their order, and a line for each mistake, _MOST_COUNTED at
    most. Pure.

    Raises UsageError for what is neither YAML nor JSON.
    """
    checker, count, found = _Checker(), ValueCount(), list[Declaration]()
    with suppress(_TooManyProblems):
        for data, name in documents:
            found += checker.declarations(read_document(data, name, count), name)
    return found, checker.problems


class _TooManyProblems(Exception):
    """What is left of the files is not examined."""


class _Checker:
    """Checks the documents of one command, and collects their problems."""

    def __init__(self) -> None:
        self._name = ""
        self._places: dict[InstanceKey, str] = {}
        """Where each instance is declared first."""
        self.problems: list[str] = []

    def declarations(self, document: Node, name: str) -> list[Declaration]:
        """The declarations without mistakes in the file of that name."""
        self._name = name
        if document.value is None:
            self._note(document.line, "", f"it is empty: the list '{_TOP}:' is missing")
            return []
        top = self._fields(document, "the file", (_TOP,))
        if top is None:
            return []
        if _TOP not in top:
            self._note(document.line, "", f"the list '{_TOP}:' is missing")
            return []
        entries = top[_TOP].node
        if not isinstance(entries.value, list):
            self._note(top[_TOP].line, _TOP, f"{_quote_value(entries)} is not a list; write [] for no instances")
            return []
        return self._entries(entries.value)

    def _entries(self, entries: Sequence[Node]) -> list[Declaration]:
        declarations: list[Declaration] = []
        for position, entry in enumerate(entries):
            path = f"{_TOP}[{position}]"
            declaration = self._entry(entry, path)
            if declaration is None:
                continue
            if (first := self._places.get(declaration.key)) is None:
                self._places[declaration.key] = self._place(entry.line, path)
                declarations.append(declaration)
            else:
                self._note(entry.line, path, f"{reference_of(declaration.key)} is declared already, at {first}")
        return declarations

    def _entry(self, entry: Node, path: str) -> Declaration | None:
        values = self._values(entry, path, _RULES)
        if values is None:
            return None
        identity = InstanceKey(values.pop("model"), values.pop("host"), values.pop("port"))
        if _DRAIN not in values:
            return Declaration(identity, values)
        drain: dict[str, Any] | None = values.pop(_DRAIN)
        enabled = drain is None
        if values.setdefault("enabled", enabled) is not enabled:
            contrary = "null" if enabled else "a drain"
            self._note(entry.line, f"{path}.{_DRAIN}", f"{contrary} contradicts enabled: leave one of them out")
        return Declaration(identity, values | {f"{_DRAIN}_{fact}": value for fact, value in (drain or {}).items()})

    def _values(self, node: Node, path: str, rules: Mapping[str, _Rule]) -> dict[str, Any] | None:
        """The values of a mapping, in the order of the rules; None where one of them is wrong or missing."""
        fields = self._fields(node, path, tuple(rules))
        if fields is None:
            return None
        problems_before = len(self.problems)
        values: dict[str, Any] = {}
        for key, rule in rules.items():
            if key in fields:
                self._read(fields[key], path, rule, values)
            elif rule.required:
                self._note(node.line, path, f"{key} is missing")
        return None if len(self.problems) > problems_before else values

    def _read(self, field: Field, path: str, rule: _Rule, values: dict[str, Any]) -> None:
        node, path = field.node, f"{path}.{field.key}"
        if type(node.value) not in rule.types:
            self._note(node.line, path, f"{_quote_value(node)} is not {rule.wanted}")
            return
        if isinstance(node.value, tuple):
            values[field.key] = self._values(node, path, _DRAIN_RULES)
            return
        try:
            values[field.key] = rule.parse(node.value)
        except UsageError as error:
            self._note(node.line, path, str(error))

    def _fields(self, node: Node, path: str, known: Sequence[str]) -> dict[str, Field] | None:
        """The fields of a mapping by key; None for a node that is no mapping."""
        if not isinstance(node.value, tuple):
            self._note(node.line, path, f"{_quote_value(node)} is not a mapping with {', '.join(known)}")
            return None
        fields: dict[str, Field] = {}
        for field in node.value:
            if field.key in fields:
                self._note(field.line, path, f"key {quoted(field.key)} is there twice")
            elif field.key not in known:
                near = nearest(field.key, known)
                hint = f"; did you mean {near}?" if near else f"; known keys are {', '.join(known)}"
                self._note(field.line, path, f"unknown key {quoted(field.key)}{hint}")
            else:
                fields[field.key] = field
        return fields

    def _note(self, line: int | None, path: str, problem: str) -> None:
        self.problems.append(f"{self._place(line, path)}: {problem}")
        if len(self.problems) >= _MOST_COUNTED:
            raise _TooManyProblems

    def _place(self, line: int | None, path: str) -> str:
        place = self._name if line is None else f"{self._name}:{line}"
        return f"{place}: {path}" if path else place


def _model(text: str) -> str:
    return parse_model_name(text if "@" in text else f"{text.strip()}@{DEFAULT_TYPE}" if text.strip() else text)


def _host(text: str) -> str:
    host = parse_host(text)
    require_callable(host)
    return host


def _reason(text: str) -> str:
    reason = parse_reason(text)
    if reason is None:
        raise UsageError("it is empty: leave it out")
    return reason


def _until(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip())
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{quoted(text)} is not a time such as 2026-01-31T12:00:00Z") from None
    raise UsageError(f"{quoted(text)} has no time zone: end it with Z, or with an offset such as +02:00")


class _Rule(NamedTuple):
    parse: Callable[[Any], Any]
    types: tuple[type, ...]
    wanted: str
    required: bool = False


_DRAIN = "drain"
_DRAIN_RULES = {
    "reason": _Rule(_reason, (str,), "a text"),
    "until": _Rule(_until, (str, type(None)), "a time such as 2026-01-31T12:00:00Z, or null"),
}
_RULES = {
    "model": _Rule(_model, (str,), "a text, as in qwen@llm (a number in quotes is one)", required=True),
    "host": _Rule(_host, (str,), "a text (a number in quotes is one)", required=True),
    "port": _Rule(parse_port, (int,), "a whole number", required=True),
    "weight": _Rule(parse_operator_weight, (int, float), "a number"),
    "enabled": _Rule(bool, (bool,), "true or false"),
    _DRAIN: _Rule(lambda null: null, (tuple, type(None)), "a mapping with reason and until, or null for not drained"),
    "prompt_template": _Rule(parse_prompt_template, (str, type(None)), "a text or null"),
    "check_healthy": _Rule(bool, (bool,), "true or false"),
}


def _quote_value(node: Node) -> str:
    """A value in an error message."""
    if isinstance(node.value, list):
        return "a list"
    if isinstance(node.value, tuple):
        return "a mapping"
    if node.value is None:
        return "null"
    return quoted(node.value) if isinstance(node.value, str) else str(node.value).lower()[:40]
