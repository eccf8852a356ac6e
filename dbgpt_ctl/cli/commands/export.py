"""`ctl export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.diagnosis.caveats import refuse_stale
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import AllowStale, host_option, model_argument, output_option, type_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.manifest.export import export_of
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_document, print_lines
from dbgpt_ctl.domain.filters import InstanceFilter
from dbgpt_ctl.errors import ConditionNotMet

if TYPE_CHECKING:
    from dbgpt_ctl.cli.documents.instances import ExportDocument
    from dbgpt_ctl.cli.manifest.export import Export
    from dbgpt_ctl.client.results import Inventory

HEADER = "# Instances for `ctl apply -f`, written by `ctl export`."
"""Without the time and the controller: two exports of one registry are the same, byte by byte."""
MOST_PROBLEMS = 20
"""More of what is left out is counted only."""

Name = Annotated[str | None, model_argument("Only this model; without a type: all types of this name.")]
ModelType = Annotated[str | None, type_option("Only this type, such as llm, text2vec, reranker or service.")]
Host = Annotated[str | None, host_option("Only this host, as it is registered.")]
AllStates = Annotated[bool, typer.Option("--all", help="Also unhealthy and deregistered instances.")]
Output = Annotated[OutputFormat, output_option("yaml", "json", help="Format of the file; apply reads both.")]


@explained(
    "ctl export",
    "ctl export --type llm -o json",
    "ctl export -a http://old:8000 | ctl apply -a http://new:8000 -f -",
    exit_codes={
        3: "No controller can be reached, or only the last known list.",
        5: "Something is left out, because apply would refuse it; the rest is written.",
    },
)
@takes_session
def export(
    name: Name = None,
    *,
    model_type: ModelType = None,
    host: Host = None,
    all_states: AllStates = False,
    allow_stale: AllowStale = False,
    output: Output = OutputFormat.YAML,
    session: Session,
) -> int:
    """Write the registered instances as a file for `ctl apply`.

    The file has the instances that get requests, and the drained ones with reason and end of their drains, in order of
    identity; service instances too. Weight, prompt template and check_healthy stand in it where they differ from the
    default. Two exports of the same registry are the same file. DB-GPT's own controller may list an instance more than
    once: a routable row counts, else the one with the latest heartbeat.
    """
    wanted = InstanceFilter.parse(name, model_type, None, host)
    with session.client() as client:
        inventory = client.inventory(wanted)
    refuse_stale(session, inventory, "nothing was exported", allow_stale=allow_stale)
    found = export_of(filter(wanted.matches, inventory.instances), all_states=all_states)
    _say_what_is_missing(session, found)
    _say_what_to_know(session, found, inventory, wanted)
    if output is OutputFormat.YAML:
        print_lines([HEADER])
    document: ExportDocument = {"instances": found.entries}
    print_document(document, output)
    return ConditionNotMet.exit_code if found.problems else 0


def _say_what_is_missing(session: Session, found: Export) -> None:
    """A line for each instance that is not in the file and should be. They are errors: --quiet does not hide them."""
    for line in found.problems[:MOST_PROBLEMS]:
        session.print_message(line)
    if len(found.problems) > MOST_PROBLEMS:
        session.print_message(f"and {len(found.problems) - MOST_PROBLEMS} more")


def _say_what_to_know(session: Session, found: Export, inventory: Inventory, wanted: InstanceFilter) -> None:
    if found.duplicates:
        rows = "1 duplicate row" if found.duplicates == 1 else f"{found.duplicates} duplicate rows"
        session.say(
            f"{rows} left out: {inventory.controller} lists an instance more than once; a routable row of it counts, "
            "else the one with the latest heartbeat"
        )
    if found.excluded:
        states = "unhealthy or deregistered"
        session.say(f"{_instances(found.excluded)} left out: {states}; --all exports them too")
    if found.not_routable:
        session.say(
            f"warning: unhealthy or deregistered in the file: {_instances(found.not_routable)}; apply registers what "
            "is absent, which counts as one heartbeat, so it gets requests until the heartbeat timeout"
        )
    if not inventory.complete and any("enabled" in entry for entry in found.entries):
        session.say(f"{inventory.controller} does not report reasons and ends of drains: it is DB-GPT's own, or older")
    if not found.entries:
        session.say(f"no instances{wanted} to export at {inventory.controller}")


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"
