"""`ctl health`: does each controller answer, and how fast?"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.stdout import print_csv, print_json, print_table, print_yaml, say
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.errors import ControllerUnreachable

if TYPE_CHECKING:
    from dbgpt_ctl.client import ControllerHealth


class HealthFormat(StrEnum):
    """The values of `-o`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


_COLUMNS = (
    Column("CONTROLLER"),
    Column("STATUS", colours={"healthy": "green", "unhealthy": "yellow", "unreachable": "red"}, folds=False),
    Column("LATENCY", folds=False),
    Column("DETAIL"),
)


@takes_session
def health(
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Succeed only if every controller is healthy, not just one.")
    ] = False,
    output: Annotated[HealthFormat, typer.Option("--output", "-o", help="How to print them.")] = HealthFormat.TABLE,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Leave out the header of table and csv.")] = False,
    session: Session,
) -> int:
    """Ask each controller of --address how it is.

    Exits with 0 if one is healthy (with --all: if all are), else with 3.
    """
    with session.client() as client:
        found = client.health()
    _print(found, output, headers=not no_headers)
    healthy = sum(each.ok for each in found)
    if healthy == len(found) or (healthy and not all_):
        return 0
    say("the controller is not healthy" if len(found) == 1 else f"{healthy} of {len(found)} controllers healthy")
    return ControllerUnreachable.exit_code


def _print(found: list[ControllerHealth], form: HealthFormat, *, headers: bool) -> None:
    objects = [_object(each) for each in found]
    match form:
        case HealthFormat.JSON:
            print_json(objects)
        case HealthFormat.YAML:
            print_yaml(objects)
        case HealthFormat.CSV:
            print_csv(tuple(objects[0]), objects, headers=headers)
        case HealthFormat.TABLE:
            print_table(_COLUMNS, [_row(each) for each in found], headers=headers)


def _object(found: ControllerHealth) -> dict[str, Any]:
    return {
        "controller": found.controller,
        "status": _status(found),
        "http_status": found.status,
        "latency_secs": None if found.latency is None else round(found.latency, 6),
        "detail": found.detail,
    }


def _row(found: ControllerHealth) -> list[str]:
    latency = "-" if found.latency is None else f"{found.latency * 1000:.1f}ms"
    return [escaped(found.controller), _status(found), latency, escaped(found.detail)]


def _status(found: ControllerHealth) -> str:
    if found.ok:
        return "healthy"
    return "unreachable" if found.status is None else "unhealthy"
