"""`ctl health`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import NoHeaders, choice, output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_csv, print_document, print_table, say
from dbgpt_ctl.cli.output.table import Column
from dbgpt_ctl.domain.controllers import ControllerCondition
from dbgpt_ctl.errors import ConditionNotMet, ControllerUnreachable
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.documents.reports import CheckedController
    from dbgpt_ctl.client.results import ControllerHealth

_COLOURS: dict[str, str] = {
    ControllerCondition.HEALTHY: "green",
    ControllerCondition.DEGRADED: "yellow",
    ControllerCondition.LEAVING: "yellow",
    ControllerCondition.UNHEALTHY: "red",
    ControllerCondition.UNREACHABLE: "red",
}
_COLUMNS = (
    Column("CONTROLLER"),
    Column("STATUS", colours=_COLOURS, folds=False),
    Column("LATENCY", folds=False),
    Column("DETAIL"),
)
Output = Annotated[OutputFormat, output_option("table", "json", "yaml", "csv", help="Format of the list.")]


Require = Annotated[
    ControllerCondition,
    typer.Option(
        "--require",
        help="Worst status that is good enough.",
        **choice((ControllerCondition.HEALTHY, ControllerCondition.DEGRADED), ControllerCondition),
    ),
]


@explained(
    "ctl health",
    "ctl health --all --require healthy -a http://ctl-1:8000 -a http://ctl-2:8000",
    exit_codes={
        0: "One controller is as required; with --all: all are.",
        3: "No controller serves; with --all: one does not.",
        5: "Enough serve, and not enough are healthy, which --require healthy wants.",
    },
)
@takes_session
def health(
    *,
    require: Require = ControllerCondition.DEGRADED,
    all_: Annotated[
        bool, typer.Option("--all", help="Succeed only if every controller is as required, not just one.")
    ] = False,
    output: Output = OutputFormat.TABLE,
    no_headers: NoHeaders = False,
    session: Session,
) -> int:
    """Show whether each controller is healthy.

    Each controller of --address is asked by itself, all at the same time. A degraded one serves, and DETAIL says what
    is wrong: its registry is away, or states are held. A controller that is leaving serves on for some seconds. An
    unhealthy one answers with an error. DB-GPT's own controller is healthy whenever it answers.
    """
    with session.client() as client:
        controllers = client.health()
    _print(controllers, output, headers=not no_headers)
    serving = sum(controller.ok for controller in controllers)
    as_required = sum(controller.condition in {ControllerCondition.HEALTHY, require} for controller in controllers)
    enough = len(controllers) if all_ else 1
    if as_required >= enough:
        return 0
    _explain(controllers, as_required, "healthy" if require is ControllerCondition.HEALTHY else "healthy or degraded")
    return ControllerUnreachable.exit_code if serving < enough else ConditionNotMet.exit_code


def _explain(controllers: Sequence[ControllerHealth], as_required: int, required: str) -> None:
    """Says on stderr what is missing, and what to do about what is known."""
    if len(controllers) == 1:
        say(f"the controller is {controllers[0].condition}")
    else:
        say(f"{as_required} of {len(controllers)} controllers {'is' if as_required == 1 else 'are'} {required}")
    for controller in controllers:
        if controller.cause is not None:
            say(f"{controller.controller}: {controller.cause.fix} [{controller.cause}]")


def _print(controllers: list[ControllerHealth], form: OutputFormat, *, headers: bool) -> None:
    objects = [_object(controller) for controller in controllers]
    match form:
        case OutputFormat.JSON | OutputFormat.YAML:
            print_document(objects, form)
        case OutputFormat.CSV:
            print_csv(tuple(objects[0]), objects, headers=headers)
        case OutputFormat.TABLE:
            print_table(_COLUMNS, [_row(controller) for controller in controllers], headers=headers)


def _object(controller: ControllerHealth) -> CheckedController:
    return {
        "controller": controller.controller,
        "status": controller.condition,
        "http_status": controller.status,
        "latency_secs": None if controller.latency is None else round(controller.latency, 6),
        "detail": controller.detail,
        "cause": controller.cause and controller.cause.value,
    }


def _row(controller: ControllerHealth) -> list[str]:
    latency = "-" if controller.latency is None else f"{controller.latency * 1000:.1f}ms"
    return [escaped(controller.controller), controller.condition.value, latency, escaped(controller.detail)]
