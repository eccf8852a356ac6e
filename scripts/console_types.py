"""The types of the API for the JavaScript of the console page, made of the structs of `dbgpt_ctl.wire`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from dbgpt_ctl.wire.answers import KnownInstances
from dbgpt_ctl.wire.auth import PageSession
from dbgpt_ctl.wire.diagnosis import Commands, Diagnosis, EffectiveSettings
from dbgpt_ctl.wire.events import Events
from dbgpt_ctl.wire.instances import Identity
from dbgpt_ctl.wire.status import Status

FILE = Path("dbgpt_ctl", "controller", "console", "assets", "wire.d.ts")
_READ = (Identity, KnownInstances, Events, Status, PageSession, Diagnosis, EffectiveSettings, Commands)
_HEAD = "// The objects of /api/v1. Written by `make generate` from dbgpt_ctl/wire; docs/api.md describes each field.\n"
_NAMES = {"integer": "number"}


def console_types() -> str:
    """The text of FILE."""
    _, definitions = msgspec.json.schema_components(_READ)
    return _HEAD + "".join(f"\nexport {_declared(name, schema)}\n" for name, schema in sorted(definitions.items()))


def _declared(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"type {name} = {_type(schema)};"
    fields = (
        f"  {field}{'' if field in schema['required'] or 'default' in part else '?'}: {_type(part)};\n"
        for field, part in schema["properties"].items()
    )
    return f"interface {name} {{\n{''.join(fields)}}}"


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"$ref": str(path)}:
            return path.rpartition("/")[2]
        case {"anyOf": list(parts)}:
            return " | ".join(dict.fromkeys(map(_type, parts)))
        case {"enum": list(values)}:
            return " | ".join(map(json.dumps, values))
        case {"type": "array", "items": dict(items)}:
            return f"{_type(items)}[]"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"Record<string, {_type(values)}>"
        case {"type": str(name)}:
            return _NAMES.get(name, name)
        case _:
            raise ValueError(f"no type for {schema}")
