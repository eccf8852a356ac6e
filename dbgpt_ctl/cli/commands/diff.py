"""`ctl diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from dbgpt_ctl.cli.commands.apply import FileNames, Prune, print_notes
from dbgpt_ctl.cli.diagnosis.caveats import caveat_fields, refuse_stale
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import AllowStale, output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.manifest.plan import make_plan
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import ConditionNotMet

if TYPE_CHECKING:
    from dbgpt_ctl.cli.documents.instances import DiffDocument

Output = Annotated[OutputFormat, output_option("text", "json", help="Format of the differences.")]


@explained(
    "ctl diff -f instances.yaml",
    "ctl diff -f cluster/ --prune -o json",
    exit_codes={
        0: "The registry matches the files.",
        3: "No controller can be reached, or only the last known list.",
        5: "It does not.",
    },
)
@takes_session
def diff(
    file_names: FileNames = None,
    *,
    prune: Prune = False,
    allow_stale: AllowStale = False,
    output: Output = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Show what `ctl apply` would change.

    A line begins with + for an instance that is absent, with ~ for one that differs, and, with --prune, with - for one
    that no file declares.
    """
    from dbgpt_ctl.cli.manifest.declarations import read_files  # imports yaml

    declarations = read_files(file_names or [], prune=prune)
    with session.client() as client:
        inventory = client.inventory()
        now = inventory.time or session.clock.now()
        steps = [step for step in make_plan(declarations, inventory.instances, prune=prune, now=now) if step.differs]
        print_notes(session, client, steps, inventory)
    for step in steps:
        if step.blocked_reason:
            session.say(f"{reference_of(step.key)}: {step.blocked_reason}")
    if output is OutputFormat.JSON:
        document: DiffDocument = {
            "version": 1,
            **caveat_fields(inventory),
            "differences": [step.as_object() for step in steps],
        }
        print_json(document)
    else:
        print_lines(step.as_line() for step in steps)
    refuse_stale(session, inventory, "whether the registry matches now is not known", allow_stale=allow_stale)
    return ConditionNotMet.exit_code if steps else 0
