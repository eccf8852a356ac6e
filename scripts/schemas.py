"""The JSON Schemas of docs/schemas: one for each document that a command prints with `-o json`.

They are made of the types in `dbgpt_ctl.cli.documents`. They leave out the bounds of the API's fields, because a
controller of another kind may send what this one refuses, and forbid no key: keys may be added under the same version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from dbgpt_ctl.cli.documents import instances, reports
from dbgpt_ctl.wire.fields import doc
from dbgpt_ctl.wire.instances import KnownInstanceObject

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path("docs", "schemas", "v1")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LEFT_OUT = {"default", "examples", "minimum", "maximum", "minLength", "maxLength", "pattern", "title"}


def _results(of: Any, *done: str, facts: Iterable[str] = ()) -> Any:
    """Of a command that changes instances: an object for each. One that was `done` has these `facts`."""
    failed = {"properties": {"result": {"const": "failed"}}}
    unchanged = {"properties": {"result": {"enum": ["failed", "not tried"]}}}
    schema = {
        "properties": {"result": {"enum": [*done, "failed", "not tried"]}},
        "dependentRequired": {"error": ["detail"], "detail": ["error"]},
        "allOf": [
            {"if": failed, "then": {"required": ["error"]}},
            {"if": unchanged, "else": {"required": list(facts)}},
        ],
    }
    return list[Annotated[of, doc("", schema=schema)]]


_REMOVED = ("removed", "would be removed")
_DRAIN = ("state", "drain")
_STEPS = ("created", "changed", "pruned")
_DOCUMENTS: dict[str, tuple[Any, ...]] = {
    "apply": (
        "ctl apply -o json",
        _results(
            instances.ApplyResult, "unchanged", *_STEPS, *(f"would be {done}" for done in _STEPS), facts=["changes"]
        ),
    ),
    "assert": ("ctl assert -o json", reports.CheckDocument),
    "auth-status": ("ctl auth status -o json", reports.AuthStatusDocument),
    "context-list": ("ctl context list -o json", reports.ContextsDocument),
    "context-show": ("ctl context show -o json", reports.ContextDocument),
    "diff": ("ctl diff -o json", instances.DiffDocument),
    "doctor": ("ctl doctor -o json", reports.DoctorDocument),
    "events": ("ctl events -o json", list[instances.PrintedEvent]),
    "events-follow": ("A line of ctl events --follow -o json", instances.EventLine),
    "export": ("ctl export -o json", instances.ExportDocument),
    "health": ("ctl health -o json", list[reports.CheckedController]),
    "models-deregister": (
        "ctl models deregister -o json",
        _results(instances.ChangeResult, "deregistered", "would be deregistered", *_REMOVED),
    ),
    "models-drain": (
        "ctl models drain -o json",
        _results(instances.DrainResult, "drained", "would be drained", facts=_DRAIN),
    ),
    "models-get": ("ctl models get -o json", instances.ModelsGet),
    "models-heartbeat": (
        "ctl models heartbeat -o json; with --every such an object on a line for each heartbeat",
        _results(
            instances.ChangeResult,
            "heartbeat accepted",
            "heartbeat would be accepted",
            "would be registered by a heartbeat",
        ),
    ),
    "models-list": ("ctl models list -o json", list[instances.WireInstance]),
    "models-list-full": (
        "ctl models list -o json --full",
        list[KnownInstanceObject],
        list[instances.BareInstance],
    ),
    "models-list-watch": (
        "A line of ctl models list --watch -o json",
        instances.ListedLine,
        instances.SyncedLine,
        instances.ChangeLine,
    ),
    "models-ping": ("ctl models ping -o json", list[instances.PrintedPing]),
    "models-prune": ("ctl models prune -o json", _results(instances.ChangeResult, *_REMOVED)),
    "models-register": (
        "ctl models register -o json",
        _results(instances.ChangeResult, "registered", "would be registered"),
    ),
    "models-undrain": (
        "ctl models undrain -o json",
        _results(instances.DrainResult, "undrained", "would be undrained", facts=_DRAIN),
    ),
    "status": ("ctl status -o json", reports.StatusDocument),
    "token-create": ("ctl token create -o json", reports.NewToken),
    "token-list": ("ctl token list -o json", reports.TokensDocument),
    "token-rotate": ("ctl token rotate -o json", reports.NewToken),
    "version": ("ctl version -o json", reports.VersionDocument),
    "wait": ("ctl wait -o json", reports.CheckDocument),
    "why": ("ctl why -o json", reports.WhyDocument),
}
"""By name of the file: what prints the document, and its type, or the types of which it has one."""


def schemas() -> dict[Path, str]:
    """The text of each file, by path."""
    return {FOLDER / f"{name}.json": _text(*described) for name, described in _DOCUMENTS.items()}


def _text(title: str, *types: Any) -> str:
    wholes, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    whole: Any = wholes[0] if len(wholes) == 1 else {"anyOf": list(wholes)}
    schema = {"$schema": _DIALECT, "title": title, **_printed(whole)}
    if definitions:
        schema["$defs"] = {name: _printed(part) for name, part in sorted(definitions.items())}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _printed(value: Any) -> Any:
    """A part of a schema, where a field with a default is always printed."""
    if isinstance(value, list):
        return [_printed(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {name: part for name, part in value.items() if name not in _LEFT_OUT and part is not False}
    if description := kept.pop("description", ""):
        kept = {"description": " ".join(description.split()), **kept}
    if "properties" not in kept or "required" not in kept:
        return {name: _printed(part) for name, part in kept.items()}
    fields = kept.pop("properties")
    required = [name for name, field in fields.items() if name in kept["required"] or "default" in field]
    fields = {name: _printed(field) for name, field in fields.items()}
    return {**{name: _printed(part) for name, part in kept.items()}, "properties": fields, "required": required}
