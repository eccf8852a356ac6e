"""`ctl doctor`: what is wrong with the whole cluster, and what to do about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.commands.why import exit_code
from dbgpt_ctl.cli.diagnosis.report import ReportFormat, print_object, print_report, report_object
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.parsing.references import ModelFilter
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Facts

Output = Annotated[ReportFormat, typer.Option("--output", "-o", help="How to print what was found.")]
NoProbe = Annotated[bool, typer.Option("--no-probe", help="Do not knock at the addresses of instances.")]


@takes_session
def doctor(*, no_probe: NoProbe = False, output: Output = ReportFormat.TEXT, session: Session) -> int:
    """Examine controllers and all models: each finding with its evidence and its fix.

    Knocks at instances from here (at most 50 addresses, 2 s). Exits with 1 when there is an error; warnings alone are
    0. When no controller tells anything, with 3, 7 (not allowed), 6 (refused) or 1.
    """
    from dbgpt_ctl.cli.diagnosis.collect import gather
    from dbgpt_ctl.cli.diagnosis.rules import examine

    facts = gather(session, ModelFilter(), knock=not no_probe)
    findings = examine(facts)
    counts = Counter(each.severity.value for each in findings)
    if output is ReportFormat.JSON:
        report = report_object(facts, findings)
        print_object(
            {**report, "models": len(facts.by_model), "errors": counts["error"], "warnings": counts["warning"]}
        )
    else:
        print_report(_heading(facts, counts), findings, _closing(facts))
    return exit_code(facts) or (CtlError.exit_code if counts["error"] else 0)


def _heading(facts: Facts, counts: Counter[str]) -> str:
    if not facts.answering:
        from dbgpt_ctl.cli.diagnosis.rules.answers import nobody

        return nobody(facts.controllers)
    told = [f"{counts[kind]} {kind}{'s' if counts[kind] > 1 else ''}" for kind in ("error", "warning") if counts[kind]]
    ready = sum(each.gets_requests for each in facts.seen)
    where = ", ".join(each.url for each in facts.answering)
    models = "1 model" if len(facts.by_model) == 1 else f"{len(facts.by_model)} models"
    verdict = ", ".join(told) or "all is well"
    return f"{verdict}: {models}, {ready} of {len(facts.seen)} instances get requests at {where}"


def _closing(facts: Facts) -> Sequence[str]:
    if not facts.unprobed:
        return []
    return [f"Knocked at {len(facts.probes)} addresses, and left out {facts.unprobed} more."]
