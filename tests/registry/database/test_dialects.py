"""Each type of database has a dialect, and no other module makes a difference between databases."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from sqlalchemy import URL

import dbgpt_ctl.registry.database
from dbgpt_ctl.databases import DATABASE_TYPES
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.registry.database.dialects import DIALECTS, dialect_of

FOLDER = Path(dbgpt_ctl.registry.database.__file__).parent
MODULES = [path for path in sorted(FOLDER.rglob("*.py")) if path.parent.name != "dialects"]


@pytest.mark.parametrize("name", DATABASE_TYPES)
def test_a_type_of_database_has_a_dialect(name: str) -> None:
    dialect = dialect_of(URL.create(DATABASE_TYPES[name].driver, database="ctl"))
    assert name in dialect.names
    assert all(DIALECTS[other] is dialect for other in dialect.names)


def test_another_database_is_refused() -> None:
    with pytest.raises(UsageError, match=r"database 'oracle' is not supported: use mysql, postgresql, sqlite"):
        dialect_of(URL.create("oracle"))


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(FOLDER)) for path in MODULES])
def test_no_other_module_names_a_database(path: Path) -> None:
    strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not strings & set(DIALECTS), "what differs between databases belongs in their dialects"
