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

FOUNDATION = {"errors", "clock", "spelling", "databases", "traceparent", "forwarding", "domain"}
VIEW = {"errors", "spelling", "domain", "client", "cli.output", "cli.parsing"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "spelling": set(),
    "files": set(),
    "atomic_write": set(),
    "databases": set(),
    "traceparent": set(),
    "forwarding": set(),
    "addresses": {"errors", "settings.masking"},
    "domain": {"errors"},
    "settings": {"errors", "spelling", "files", "atomic_write", "addresses", "databases", "settings.masking"},
    "settings.masking": {"errors", "files"},
    "auth": {"errors", "spelling", "files", "atomic_write", "domain", "settings", "settings.masking"},
    "tracing": {"errors", "clock", "traceparent", "settings.masking"},
    "client": {"errors", "files", "addresses", "settings.masking", "traceparent", "forwarding", "domain"},
    "registry": {"errors", "domain"},
    "registry.embedded": {"errors", "clock", "files", "domain", "registry"},
    "registry.database": {"errors", "clock", "databases", "domain", "registry"},
    "registry.remote": {"errors", "domain", "client", "registry"},
    "controller": {
        *FOUNDATION,
        "files",
        "addresses",
        "auth",
        "settings",
        "settings.masking",
        "tracing",
        "registry",
        "registry.embedded",
        "registry.database",
        "registry.remote",
        "controller.api.diagnosis",
        "controller.api.commands",
    },
    "controller.api.diagnosis": {"domain", "controller", "registry", "client", "cli.diagnosis"},
    "controller.api.commands": {"errors", "domain", "controller", "cli.output", "cli.parsing"},
    "cli": {"cli.framework", "cli.output"},
    "cli.output": {"errors", "domain", "client", "cli.parsing"},
    "cli.parsing": {"errors", "spelling", "domain", "client", "cli.output", "cli.completion"},
    "cli.completion": {*VIEW, "auth", "addresses", "settings", "cli.framework.typer_internals"},
    "cli.framework.typer_internals": {"cli.output"},
    "cli.framework": {
        *{"errors", "clock", "traceparent", "domain", "settings", "client"},
        *{"settings.masking", "cli.output", "cli.parsing", "cli.completion", "cli.framework.typer_internals"},
    },
    "cli.framework.selection": {*VIEW, "cli.framework", "cli.completion", "cli.diagnosis"},
    "cli.diagnosis": {
        *{*VIEW, "auth", "addresses", "settings", "settings.masking", "cli.framework", "cli.completion", "cli.ping"},
    },
    "cli.manifest": {*VIEW, "files"},
    "cli.ping": {*VIEW, "addresses", "traceparent"},
    "cli.watch": {*VIEW, "clock", "cli.framework", "cli.diagnosis"},
    "cli.commands": {
        *{*VIEW, "auth", "clock", "addresses", "settings", "cli.framework", "cli.completion"},
        *{"cli.framework.selection", "cli.diagnosis", "cli.manifest", "cli.ping", "cli.watch"},
    },
    "cli.commands.db": {
        *{"errors", "clock", "domain", "settings", "cli.framework", "cli.output", "cli.diagnosis"},
        *{"registry.database", "controller"},
    },
    "cli.commands.serve": {"errors", "settings", "controller", "cli.framework", "cli.output"},
    "__main__": {"cli"},
}
"""A layer, by its folder or module, and the other layers that it may import. A module belongs to the longest name."""
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


def layer_of(module: str) -> str:
    """The longest name in ALLOWED that the module is or is below."""
    name = module.removeprefix("dbgpt_ctl.")
    while name not in ALLOWED:
        name, dot, _ = name.rpartition(".")
        assert dot, f"{module} belongs to no layer: add it to ALLOWED"
    return name


@pytest.mark.parametrize("module", [module for module in MODULES if module != "dbgpt_ctl"])
def test_imports_point_one_way(module: str) -> None:
    layer = layer_of(module)
    allowed = ALLOWED[layer] | {layer}
    wrong = {name for name in IMPORTS[module] - {"dbgpt_ctl"} if layer_of(name) not in allowed}
    assert not wrong, f"{module} ({layer}) may not import {sorted(wrong)}"


def test_every_layer_that_is_named_is_there() -> None:
    named = ALLOWED.keys() | {name for allowed in ALLOWED.values() for name in allowed}
    assert named == {layer_of(module) for module in MODULES if module != "dbgpt_ctl"}


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
