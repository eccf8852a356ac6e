"""The JSON Schema of what is sent, whole: without references, and with an example of each field.

A field without an example gets one that is made of the examples of its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

Schema: TypeAlias = dict[str, Any]


def schema_of_request(sent: Any) -> Schema:
    """Of a query or of a body: a field with a default may be missing."""
    return _whole(sent, of_answer=False)


def schema_of_answer(sent: Any) -> Schema:
    """Of an answer of this release: it has every field but those that may be UNSET."""
    return _whole(sent, of_answer=True)


def _whole(sent: Any, *, of_answer: bool) -> Schema:
    schema = msgspec.json.schema(sent)
    whole = _without_references(schema, schema.pop("$defs", {}), of_answer=of_answer)
    _add_examples(whole)
    return whole


def _without_references(schema: Schema, definitions: Mapping[str, Schema], *, of_answer: bool) -> Schema:
    """A copy in which each part that is defined elsewhere stands in its place."""

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(item) for item in value]
        if not isinstance(value, dict):
            return value
        definition = definitions[value["$ref"].rpartition("/")[2]] if "$ref" in value else {}
        merged = {**definition, **{name: part for name, part in value.items() if name != "$ref"}}
        if "properties" not in merged:
            return {name: part if name == "examples" else resolved(part) for name, part in merged.items()}
        fields = {name: resolved(field) for name, field in merged["properties"].items()}
        required = [name for name in fields if name in merged["required"] or (of_answer and "default" in fields[name])]
        for field in fields.values():
            if of_answer or field.get("default", ...) is None:
                field.pop("default", None)
        return {**merged, "properties": fields, "required": required}

    whole: Schema = resolved(schema)
    return whole


def _add_examples(schema: Schema) -> Any:
    """Gives `schema` and all its parts an example, where they have none, and returns that of `schema`."""
    if "items" in schema:
        of_parts: Any = [_add_examples(schema["items"])]
    elif schema.get("type") == "boolean":
        of_parts = True
    else:
        of_parts = {name: _add_examples(field) for name, field in schema.get("properties", {}).items()}
    return schema.setdefault("examples", [of_parts])[0]
