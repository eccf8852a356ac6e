"""Who may import whom. Imports point one way, and the client side never loads the server's libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dbgpt_ctl"

# A layer may import itself and what is named here; `errors` is the leaf.
ALLOWED = {
    "errors": set[str](),
    "clock": set[str](),
    "addresses": {"errors", "settings.masking"},
    "database_hosts": set[str](),
    "database_types": set[str](),
    "traceparent": set[str](),
    "domain": {"errors"},
    "settings.masking": {"errors"},
    "settings": {"errors", "addresses", "database_hosts", "database_types", "settings.masking"},
    "tracing": {"errors", "clock", "settings.masking", "traceparent"},
    "client": {"errors", "domain", "addresses", "traceparent"},
    "registry": {"errors", "database_hosts", "database_types", "domain", "clock"},
    "registry.remote": {"errors", "domain", "registry", "client", "traceparent"},
    "controller": {
        "errors",
        "database_hosts",
        "database_types",
        "domain",
        "clock",
        "settings",
        "registry",
        "registry.remote",
        "tracing",
        "traceparent",
    },
    "cli": {"errors", "clock", "domain", "addresses", "settings", "settings.masking", "client", "traceparent"},
    "cli.commands.serve": {"errors", "settings", "cli", "controller"},
    "cli.commands.db": {"errors", "clock", "domain", "settings", "cli", "controller", "registry"},
    "__main__": {"cli"},
}
SERVER_LIBRARIES = {
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "pydantic",
    "pymysql",
    "psutil",
    "opentelemetry",
    "grpc",
}
CLIENT_MODULES = [
    "dbgpt_ctl",
    "dbgpt_ctl.errors",
    "dbgpt_ctl.domain.instance",
    "dbgpt_ctl.client",
    "dbgpt_ctl.settings.schema",
    "dbgpt_ctl.cli",
    "dbgpt_ctl.cli.commands.models.register",
]


def layer_of(module: str) -> str:
    """`registry.database` belongs to `registry`, unless it is a layer of its own."""
    parts = module.split(".")
    return next((name for name in (".".join(parts[:3]), ".".join(parts[:2]), parts[0]) if name in ALLOWED), parts[0])


def modules() -> list[tuple[str, Path]]:
    paths = sorted(PACKAGE.rglob("*.py"))
    named = [
        (".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"), path) for path in paths
    ]
    return [(name, path) for name, path in named if name != "__init__"]


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports anywhere, also inside functions and for type checking."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {
                f"{node.module}.{alias.name}"
                for alias in node.names
                if (PACKAGE.parent / node.module.replace(".", "/") / f"{alias.name}.py").exists()
            }
            found.add(node.module)
    return {name.removeprefix("dbgpt_ctl.") for name in found if name.startswith("dbgpt_ctl.")}


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_point_one_way(module: str, path: Path) -> None:
    layer = layer_of(module)
    assert layer in ALLOWED, f"{module} belongs to no layer: say here what it may import"
    wrong = {name for name in imports(path) if layer_of(name) not in ALLOWED[layer] | {layer}}
    if module == "cli":
        wrong -= {"cli.serve", "cli.db"}
    assert not wrong, f"{module} ({layer}) may not import {sorted(wrong)}"


@pytest.mark.parametrize("module", CLIENT_MODULES)
def test_the_client_side_loads_no_server_library(module: str) -> None:
    tops = "{name.partition('.')[0] for name in sys.modules}"
    code = f"import sys, {module}; print(*sorted({tops} & {SERVER_LIBRARIES!r}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
