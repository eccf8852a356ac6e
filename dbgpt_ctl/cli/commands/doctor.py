"""`ctl doctor`: what is wrong with the whole cluster, and what to do about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.report import (
    exit_code,
    heading_without_answer,
    left_out_lines,
    places,
    print_report,
    report_object,
)
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import NoProbe, Ping, ReportOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from dbgpt_ctl.cli.documents.reports import DoctorDocument
    from dbgpt_ctl.diagnosis.facts import Facts


@explained(
    "ctl doctor",
    "ctl doctor --no-probe -o json",
    "ctl doctor --ping=metadata",
    exit_codes={
        0: "No finding is an error; there may be warnings.",
        1: "A finding is an error, or a controller failed to answer.",
        3: "No controller can be reached.",
        6: "No controller answers; one refused to.",
        7: "No controller answers; one does not allow the call.",
    },
)
@takes_session
def doctor(
    *, no_probe: NoProbe = False, ping: Ping = None, output: ReportOutput = OutputFormat.TEXT, session: Session
) -> int:
    """Examine the controllers and all models.

    Each finding has its evidence and its fix. Probes the instances from here (at most 50 addresses, 2 s). A worker
    whose model is dead sends heartbeats all the same: --ping asks it.
    """
    from dbgpt_ctl.cli.diagnosis.collect import collect
    from dbgpt_ctl.diagnosis.examine import examine
    from dbgpt_ctl.diagnosis.facts import Scope

    facts = collect(session, ModelFilter(), probe=not no_probe, ping=ping)
    findings = examine(facts, Scope.CLUSTER)
    counts = Counter(finding.severity.value for finding in findings)
    if output is OutputFormat.JSON:
        document: DoctorDocument = {
            **report_object(facts, findings),
            "models": len(facts.by_model),
            "errors": counts["error"],
            "warnings": counts["warning"],
        }
        print_json(document)
    else:
        print_report(_heading(facts, counts), findings, left_out_lines(facts))
    return exit_code(facts) or (CtlError.exit_code if counts["error"] else 0)


def _heading(facts: Facts, counts: Counter[str]) -> str:
    if not facts.answering:
        return heading_without_answer(facts.controllers)
    numbers = [
        f"{counts[name]} {name}{'s' if counts[name] > 1 else ''}" for name in ("error", "warning") if counts[name]
    ]
    verdict = ", ".join(numbers) or ("no errors, no warnings" if counts["info"] else "all is well")
    models = "1 model" if len(facts.by_model) == 1 else f"{len(facts.by_model)} models"
    return f"{verdict}: {models}, {facts.routed} of {len(facts.instances)} instances get requests at {places(facts)}"
