"""Who may import whom: imports point one way, no two modules import each other, and tests mirror the package.

The client side never loads the server's libraries.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.structure import circles, imported_by, source_files
from tests.support.process import ROOT

FLOORS = (
    "",
    "text",
    "domain",
    "settings",
    "auth",
    "wire",
    "tracing",
    "client",
    "ping",
    "registry",
    "diagnosis",
    "controller",
    "cli",
)
"""The folders of the package from below, the files at its root first. Imports go down."""
EXEMPT = {"dbgpt_ctl", "dbgpt_ctl.__main__"}
"""The version and the start of the command, which every floor may import, and which import the command line."""
ABOVE = {
    "dbgpt_ctl.registry.remote": {"client"},
    "dbgpt_ctl.cli.commands.serve": {"controller"},
    "dbgpt_ctl.cli.commands.db": {"controller", "registry"},
}
"""The modules, by the start of their names, that alone may import these floors."""
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
    "dbgpt_ctl.client.sync",
    "dbgpt_ctl.settings.schema",
    "dbgpt_ctl.cli",
    "dbgpt_ctl.cli.commands.models.register",
]
CROSS_CUTTING = {
    "browser": "the console page in a real browser",
    "chaos": "kill, stop and freeze real processes under load",
    "deploy": "the files of deploy/, by the programs that check them",
    "hostile": "hostile bytes, files and readers against real processes",
    "interop": "the real DB-GPT",
    "monitoring": "alerts, and the queries of the dashboard, in a real Prometheus",
    "script": "a script of a pipeline",
    "story": "the life of an instance through every surface",
    "cli/commands/db/test_db.py": "the three commands of ctl db",
    "cli/completion/test_shells.py": "completion in real shells",
    "cli/framework/test_usage.py": "wrong usage of every command",
    "client/test_failure_causes.py": "why a controller gives no answer, over real servers",
    "client/test_events_of_an_older_release.py": "what release 0.1.0 cannot filter",
    "controller/auth/test_routes.py": "every route, for each role, in each mode",
    "controller/metrics/test_alert_rules.py": "the alerts of deploy/prometheus",
    "registry/embedded/test_removals.py": "prunes and sweeps in turns",
    "scripts/test_dashboard_on_a_scrape.py": "the dashboard, on scrapes of real controllers",
    "controller/console/test_sources.py": "the files of the console page",
    "cli/test_filters_and_order.py": "the filters of the command line, and the order of a list",
    "cli/test_exit_codes.py": "the exit codes of every command without a controller",
    "cli/test_golden.py": "what every command prints",
    "cli/test_hostile.py": "hostile names in every output",
    "controller/auth/test_openapi_roles.py": "generated requests, by every role",
    "cli/test_two_timeouts.py": "two controllers whose heartbeat timeouts differ",
    "cli/test_no_answer.py": "why no controller answers, as every command tells it",
    "cli/test_refused.py": "every command whose token the controller refuses",
    "cli/test_process.py": "ctl as a process",
    "cli/test_stale_and_held.py": "the registry is away, and states are held after that",
    "registry/database/test_grants.py": "the documented SQL of the rights, in a real server",
    "registry/test_drain_end.py": "a drain for a time, over every kind of registry",
    "registry/test_register_drained.py": "a register that drains, on every kind of registry",
    "registry/test_events.py": "events, over every kind of registry",
    "registry/test_event_filter.py": "events that a filter selects, over every kind of registry",
    "registry/test_event_retention.py": "events that are forgotten, over every kind of registry",
    "registry/test_outages.py": "outages of the registry, over every kind of it",
    "registry/test_observer.py": "what every kind of registry tells its observer, and its figures",
    "registry/test_operate.py": "drain, undrain and prune, over every kind of registry",
    "registry/test_retention.py": "retention, over every kind of registry",
    "registry/test_stateful.py": "any sequence of calls, over every kind of registry",
    "registry/embedded/test_events.py": "events in memory over a restart",
    "registry/embedded/test_observer.py": "what the registry in memory tells its observer",
    "registry/database/test_observer.py": "what a registry in a database tells its observer",
    "registry/database/test_concurrency.py": "calls at the same time",
    "registry/database/test_outage.py": "a database that is unavailable",
    "registry/database/test_two_controllers.py": "two controllers on one database",
    "tracing/test_endpoints.py": "the spans of every endpoint",
    "tracing/test_remote.py": "a trace through two controllers",
    "test_ci.py": "how .ci/run arranges the suites",
    "test_contributing.py": "the table of CONTRIBUTING.md",
    "test_docs.py": "all documents",
    "test_layers.py": "this file",
    "test_package.py": "the built package",
}
"""Tests and folders of tests that belong to no single module, and their subject."""

MODULES = source_files(ROOT)
IMPORTS = {module: imported_by(path, MODULES) - {module} for module, path in MODULES.items()}


def folder_of(module: str) -> str:
    """The folder in which the file of a module is."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def floor_of(module: str) -> str:
    """The folder of the package that holds the module, at any depth; empty for a file at its root."""
    return folder_of(module).removeprefix("dbgpt_ctl").lstrip(".").partition(".")[0]


FOLDERS: dict[str, set[str]] = {
    folder: {
        folder_of(name)
        for module, names in IMPORTS.items()
        if module not in EXEMPT and folder_of(module) == folder
        for name in names - EXEMPT
        if folder_of(name) != folder
    }
    for folder in sorted(map(folder_of, MODULES))
}


@pytest.mark.parametrize("module", [module for module in MODULES if module not in EXEMPT])
def test_imports_go_down(module: str) -> None:
    floor = FLOORS.index(floor_of(module))
    wrong = {name for name in IMPORTS[module] - EXEMPT if FLOORS.index(floor_of(name)) > floor}
    assert not wrong, f"{module} is below {sorted(wrong)}"


@pytest.mark.parametrize(
    ("floor", "guarded"), [("registry", "client"), ("cli", "controller"), ("cli", "registry")], ids=str
)
def test_only_few_modules_import(floor: str, guarded: str) -> None:
    allowed = tuple(name for name, floors in ABOVE.items() if guarded in floors)
    importing = {
        module
        for module, names in IMPORTS.items()
        if floor_of(module) == floor and guarded in map(floor_of, names) and module not in EXEMPT
    }
    assert [
        module for module in sorted(importing) if not f"{module}.".startswith(tuple(f"{a}." for a in allowed))
    ] == []


def test_no_folders_import_each_other() -> None:
    """A folder and one below it count as two. Neither directly nor through others."""
    assert circles(FOLDERS) == []


def test_no_modules_import_each_other() -> None:
    """Imports for type checking count."""
    assert circles(IMPORTS) == []


def test_a_circle_is_noticed() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]


@pytest.mark.parametrize("module", CLIENT_MODULES)
def test_the_client_side_loads_no_server_library(module: str) -> None:
    tops = "{name.partition('.')[0] for name in sys.modules}"
    code = f"import sys, {module}; print(*sorted({tops} & {SERVER_LIBRARIES!r}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def test_tests_mirror_the_package() -> None:
    """tests/PATH/test_X.py tests dbgpt_ctl/PATH/X.py or the package X, or X of benchmarks and scripts."""
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("test_*.py")):
        name = path.relative_to(folder)
        mirrored = name.with_name(name.stem.removeprefix("test_"))
        places = (ROOT / "dbgpt_ctl" / mirrored, ROOT / mirrored)
        there = any(place.with_suffix(".py").exists() or (place / "__init__.py").exists() for place in places)
        listed = {name.parts[0], str(name)} & CROSS_CUTTING.keys()
        assert there or listed, f"tests/{name} mirrors no module: move it, or list it in CROSS_CUTTING"


def test_what_is_cross_cutting_is_there() -> None:
    folder = Path(__file__).parent
    assert [name for name in CROSS_CUTTING if not (folder / name).exists()] == []
