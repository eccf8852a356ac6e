"""The JSON Schemas of docs/schemas, against which real outputs are checked."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from tests.support.process import ROOT

SCHEMAS = ROOT / "docs" / "schemas" / "v1"


def validated(name: str, told: Any) -> Any:
    """`told`, if the schema of that name has nothing against it."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(told)
    return told
