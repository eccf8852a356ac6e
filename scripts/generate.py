"""Writes what follows from the code: .env.example, completions/, docs/schemas/, the dashboard of Grafana, the types of
the console page, and the tables between markers in the documents.

Run by `make generate`; `--check` only reports what is not current.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl import __version__
from dbgpt_ctl.auth.tokens import Mode
from dbgpt_ctl.cli.completion.scripts import FILE_NAMES, SCRIPTS
from dbgpt_ctl.cli.output.stdout import PipeClosed
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.api.dbgpt import DbgptEndpoints
from dbgpt_ctl.controller.api.openapi import meaning
from dbgpt_ctl.controller.api.v1 import ApiEndpoints
from dbgpt_ctl.controller.auth.access import Access
from dbgpt_ctl.controller.auth.session_endpoints import SessionEndpoints
from dbgpt_ctl.controller.metrics.declarations import METRICS, MetricKind, MetricScope
from dbgpt_ctl.controller.service.controller import Controller
from dbgpt_ctl.diagnosis.examine import RULES
from dbgpt_ctl.errors import ControllerError, CtlError
from dbgpt_ctl.registry.database.tables.schema import TABLE_NAMES
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.load import Setting, declared_settings
from dbgpt_ctl.settings.schema import ClientSettings, ControllerSettings
from scripts import capacity, console_types, dashboard
from scripts.markers import replaced
from scripts.schemas import schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dbgpt_ctl.controller.metrics.declarations import Metric
    from dbgpt_ctl.settings.load import Settings

ROOT = Path(__file__).parent.parent
ENV_EXAMPLE = ROOT / ".env.example"
COMPLETIONS = ROOT / "completions"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
SETTINGS = ROOT / "docs" / "settings.md"
NAMING_THE_IMAGE = (
    ROOT / "deploy" / "compose" / "compose.yaml",
    ROOT / "deploy" / "kubernetes" / "kustomization.yaml",
    ROOT / "docs" / "deploying.md",
)
"""Files with the name of the image, whose tag is the version."""
RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER"

SECTIONS: dict[str, type[Settings]] = {
    "`ctl serve`": ControllerSettings,
    "Every other command": ClientSettings,
}


def env_example() -> str:
    """The text of .env.example: each setting with its help, commented out at its default."""
    lines = [
        "# Copy this file to .env and uncomment what you change. Written by `make generate`.",
        "# With --env-file .env all of it counts. Without, `ctl serve` and `ctl db` refuse some settings in it, and",
        "# other commands do not read it: see docs/settings.md.",
    ]
    for title, settings in SECTIONS.items():
        lines += ["", f"### {title.replace('`', '')}"]
        for setting in declared_settings(settings):
            allowed = f" ({setting.kind.allowed})" if setting.kind.allowed else ""
            lines += [
                "",
                f"# {_sentence(setting)[:-1]}{allowed}.",
                f"#{setting.variable}={setting.text(setting.default)}",
            ]
    return "\n".join(lines) + "\n"


def settings_tables() -> str:
    """A table per settings class."""
    return "\n\n".join(_table(title, settings) for title, settings in SECTIONS.items())


def untrusted_table() -> str:
    """The settings that ./.env may not set, or not always."""
    head = ["| Setting | From `./.env` |", "|---|---|"]
    never = [
        f"| `{setting.name}` | never |" for setting in declared_settings(ControllerSettings) if setting.trusted_only
    ]
    guarded = [
        f"| `{setting.name}` | not while {' or '.join(f'`{name}`' for name in setting.receives)} comes from elsewhere |"
        for setting in declared_settings(ControllerSettings)
        if setting.receives
    ]
    written = [
        f"| `{setting.name}` | only a path in the folder of the file |"
        for setting in declared_settings(ControllerSettings)
        if setting.is_written
    ]
    return "\n".join(head + never + guarded + written)


def exit_codes_table() -> str:
    """Every exit code, and which errors it stands for."""
    rows = [
        (0, "Done", "The command did its work; an empty list is a success too."),
        (1, "Failed", "Anything unexpected."),
        (130, "Interrupted", "Ctrl-C. The command ends by SIGINT, so a shell script that runs it ends too."),
        (PipeClosed.exit_code, "Pipe closed", "The reader of the output has ended, as with `head`."),
        *((error.exit_code, error.title, meaning(error)) for error in _errors(CtlError) if error not in _BASES),
    ]
    head = ["| Code | Error | Meaning |", "|---|---|---|"]
    return "\n".join(
        head + [f"| {code} | {what} | {that} |" for code, what, that in sorted(rows, key=lambda row: row[0])]
    )


def problem_codes_table() -> str:
    """Every `code` that the API answers with."""
    controller = Controller(EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60)))
    sessions = SessionEndpoints(Access(None, Mode.OFF, timeout_secs=60)).routes()
    routes = (*DbgptEndpoints(controller).routes(), *ApiEndpoints(controller).routes(), *sessions)
    errors = {error for route in routes for error in route.possible_errors}
    rows = [
        (404, "not_found", "The path does not exist."),
        (405, "method_not_allowed", "The path exists, but not for this method."),
        *((error.http_status, error.code, meaning(error)) for error in errors),
    ]
    head = ["| Status | `code` | Meaning |", "|---|---|---|"]
    return "\n".join(head + [f"| {status} | `{code}` | {meaning} |" for status, code, meaning in sorted(rows)])


def causes_table() -> str:
    """Every cause that `ctl why` and `ctl doctor` know."""
    head = ["| Cause | Symptom | What to do |", "|---|---|---|"]
    return "\n".join(head + [f"| `{rule.code}` | {rule.symptom} | {rule.fix} |" for rule in RULES])


def metrics_of_registry_table() -> str:
    """The gauges on which all controllers of one registry agree."""
    return _metrics_table(metric for metric in METRICS if metric.scope is MetricScope.REGISTRY)


def metrics_of_controller_table(kind: MetricKind) -> str:
    """The metrics of that kind of which each controller has values of its own."""
    return _metrics_table(
        metric for metric in METRICS if metric.scope is MetricScope.CONTROLLER and metric.kind is kind
    )


def _metrics_table(metrics: Iterable[Metric]) -> str:
    head = ["| Metric | Labels | Meaning |", "|---|---|---|"]
    rows = [f"| `{metric.full_name}` | {_labels(metric)} | {metric.help} |" for metric in metrics]
    return "\n".join(head + rows)


def _labels(metric: Metric) -> str:
    """`model_name`, and for a label with fixed values these: `state`: healthy, unhealthy, deregistered."""
    texts = [f"`{label}`" for label in metric.labels]
    values = [f": {', '.join(metric.values.get(label, ()))}" for label in metric.labels]
    return "; ".join(text + value.removesuffix(": ") for text, value in zip(texts, values, strict=True))


def grants() -> str:
    """The SQL that gives a user the rights that a controller needs in MySQL and MariaDB."""
    return _sql(
        "CREATE DATABASE IF NOT EXISTS dbgpt;",
        "CREATE USER IF NOT EXISTS 'ctl'@'%' IDENTIFIED BY 'a password of yours';",
        *(f"GRANT {RIGHTS} ON dbgpt.{table} TO 'ctl'@'%';" for table in TABLE_NAMES),
    )


def revokes() -> str:
    """The SQL that takes away what a controller needs only where tables are created or get columns."""
    return _sql(*(f"REVOKE CREATE, ALTER ON dbgpt.{table} FROM 'ctl'@'%';" for table in TABLE_NAMES))


def _sql(*statements: str) -> str:
    return "\n".join(["```sql", *statements, "```"])


TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    SETTINGS: {"settings": settings_tables, "untrusted": untrusted_table},
    ROOT / "docs" / "exit-codes.md": {"exit-codes": exit_codes_table},
    ROOT / "docs" / "api.md": {"problem-codes": problem_codes_table},
    ROOT / "docs" / "troubleshooting.md": {"causes": causes_table},
    ROOT / "docs" / "metrics.md": {
        "metrics-registry": metrics_of_registry_table,
        "metrics-gauges": partial(metrics_of_controller_table, MetricKind.GAUGE),
        "metrics-counters": partial(metrics_of_controller_table, MetricKind.COUNTER),
        "metrics-histograms": partial(metrics_of_controller_table, MetricKind.HISTOGRAM),
    },
    ROOT / "docs" / "operating.md": {"grants": grants, "revokes": revokes},
    ROOT / "docs" / "capacity.md": {
        "plan": capacity.plan_table,
        "measured": capacity.measured,
        "database-connections": capacity.database_connections,
        "series": capacity.series_table,
    },
}
"""The generated tables, by file and by the name of their markers."""


def with_tables(path: Path, text: str) -> str:
    """The text of the file at `path` with its current tables. Raises ValueError for a text without their markers."""
    for name, table in TABLES[path].items():
        text = replaced(text, name, table())
    return text


_BASES = {CtlError, ControllerError}
"""Base classes, which are never raised themselves."""


def _errors(kind: type[CtlError]) -> Iterator[type[CtlError]]:
    yield kind
    for error in kind.__subclasses__():
        if error.__module__ == CtlError.__module__:
            yield from _errors(error)


def _table(title: str, settings: type[Settings]) -> str:
    rows = [f"| {title} | Variable | Default | Allowed | Meaning |", "|---|---|---|---|---|"]
    return "\n".join(rows + [f"| {' | '.join(_cells(setting))} |" for setting in declared_settings(settings)])


def _cells(setting: Setting) -> list[str]:
    flags = ", ".join(f"`{flag}`" for flag in (setting.flag, *setting.aliases))
    default = setting.text(setting.default)
    return [
        flags,
        f"`{setting.variable}`",
        f"`{default}`" if default else "",
        setting.kind.allowed or setting.kind.metavar,
        _sentence(setting),
    ]


def _sentence(setting: Setting) -> str:
    return f"{setting.help[0].upper()}{setting.help[1:]}."


def with_version(text: str) -> str:
    """The text with the version of this checkout wherever the image or the folder of a release has one."""
    return re.sub(r"(\bdbgpt-ctl:|\bnewTag: |\bVERSION: |/opt/ctl-)\d[\w.]*", rf"\g<1>{__version__}", text)


def generated() -> dict[Path, str]:
    """The current text of every file that is generated, whole or in part."""
    return {
        ENV_EXAMPLE: env_example(),
        DASHBOARD: dashboard.text(),
        ROOT / console_types.FILE: console_types.console_types(),
        **{ROOT / path: text for path, text in schemas().items()},
        **{COMPLETIONS / FILE_NAMES[shell]: script for shell, script in SCRIPTS.items()},
        **{path: with_tables(path, path.read_text()) for path in TABLES},
        **{path: with_version(path.read_text()) for path in NAMING_THE_IMAGE},
    }


def main() -> int:
    """Writes what has changed; with --check it writes nothing, and the exit code is 1 where something would change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a file is not current")
    check = parser.parse_args().check
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if not check:
            path.write_text(generated()[path])
        sys.stdout.write(f"{'not current' if check else 'written'}: {path.relative_to(ROOT)}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
