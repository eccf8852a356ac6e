"""`ctl doctor`: what is wrong with the whole cluster, and what to do about it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.report import (
    exit_code,
    heading_without_answer,
    print_report,
    report_object,
    unprobed_lines,
)
from dbgpt_ctl.cli.framework.options import NoProbe, ReportOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json
from dbgpt_ctl.cli.parsing.instance_filter import ModelFilter
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from dbgpt_ctl.cli.diagnosis.facts import Facts


@takes_session
def doctor(*, no_probe: NoProbe = False, output: ReportOutput = OutputFormat.TEXT, session: Session) -> int:
    """Examine the controllers and all models.

    Each finding has its evidence and its fix. Probes the instances from here (at most 50 addresses, 2 s). Exits with 1
    when there is an error; warnings alone are 0. When no controller answers, with 3, 7 (not allowed), 6 (refused) or 1.
    """
    from dbgpt_ctl.cli.diagnosis.collect import collect
    from dbgpt_ctl.cli.diagnosis.facts import Scope, diagnose
    from dbgpt_ctl.cli.diagnosis.rules import RULES

    facts = collect(session, ModelFilter(), probe=not no_probe)
    findings = diagnose(RULES, facts, Scope.CLUSTER)
    counts = Counter(finding.severity.value for finding in findings)
    if output is OutputFormat.JSON:
        report = report_object(facts, findings)
        print_json({**report, "models": len(facts.by_model), "errors": counts["error"], "warnings": counts["warning"]})
    else:
        print_report(_heading(facts, counts), findings, unprobed_lines(facts))
    return exit_code(facts) or (CtlError.exit_code if counts["error"] else 0)


def _heading(facts: Facts, counts: Counter[str]) -> str:
    if not facts.answering:
        return heading_without_answer(facts.controllers)
    numbers = [
        f"{counts[name]} {name}{'s' if counts[name] > 1 else ''}" for name in ("error", "warning") if counts[name]
    ]
    verdict = ", ".join(numbers) or "all is well"
    ready = sum(instance.routable for instance in facts.instances)
    where = ", ".join(controller.url for controller in facts.answering)
    models = "1 model" if len(facts.by_model) == 1 else f"{len(facts.by_model)} models"
    return f"{verdict}: {models}, {ready} of {len(facts.instances)} instances get requests at {where}"
