"""`ctl health`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import NoHeaders, output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_csv, print_document, print_table, say
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.errors import ControllerUnreachable

if TYPE_CHECKING:
    from dbgpt_ctl.client.responses import ControllerHealth


_COLUMNS = (
    Column("CONTROLLER"),
    Column("STATUS", colours={"healthy": "green", "unhealthy": "yellow", "unreachable": "red"}, folds=False),
    Column("LATENCY", folds=False),
    Column("DETAIL"),
)
Output = Annotated[OutputFormat, output_option("table", "json", "yaml", "csv", help="Format of the list.")]


@explained(
    "ctl health",
    "ctl health --all -a http://ctl-1:8000 -a http://ctl-2:8000",
    exit_codes={
        0: "One controller is healthy; with --all: all are.",
        3: "No controller is healthy; with --all: one is not.",
    },
)
@takes_session
def health(
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Succeed only if every controller is healthy, not just one.")
    ] = False,
    output: Output = OutputFormat.TABLE,
    no_headers: NoHeaders = False,
    session: Session,
) -> int:
    """Show whether each controller of --address is healthy.

    Each controller is asked by itself, all at the same time.
    """
    with session.client() as client:
        controllers = client.health()
    _print(controllers, output, headers=not no_headers)
    healthy = sum(controller.ok for controller in controllers)
    if healthy == len(controllers) or (healthy and not all_):
        return 0
    number = len(controllers)
    say("the controller is not healthy" if number == 1 else f"{healthy} of {number} controllers healthy")
    for controller in controllers:
        if controller.cause is not None:
            say(f"{controller.controller}: {controller.cause.fix} [{controller.cause}]")
    return ControllerUnreachable.exit_code


def _print(controllers: list[ControllerHealth], form: OutputFormat, *, headers: bool) -> None:
    objects = [_object(controller) for controller in controllers]
    match form:
        case OutputFormat.JSON | OutputFormat.YAML:
            print_document(objects, form)
        case OutputFormat.CSV:
            print_csv(tuple(objects[0]), objects, headers=headers)
        case OutputFormat.TABLE:
            print_table(_COLUMNS, [_row(controller) for controller in controllers], headers=headers)


def _object(controller: ControllerHealth) -> dict[str, Any]:
    return {
        "controller": controller.controller,
        "status": _status(controller),
        "http_status": controller.status,
        "latency_secs": None if controller.latency is None else round(controller.latency, 6),
        "detail": controller.detail,
        "cause": controller.cause and controller.cause.value,
    }


def _row(controller: ControllerHealth) -> list[str]:
    latency = "-" if controller.latency is None else f"{controller.latency * 1000:.1f}ms"
    return [escaped(controller.controller), _status(controller), latency, escaped(controller.detail)]


def _status(controller: ControllerHealth) -> str:
    if controller.ok:
        return "healthy"
    return "unreachable" if controller.status is None else "unhealthy"
