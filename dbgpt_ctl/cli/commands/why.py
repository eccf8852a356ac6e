"""`ctl why`: which of the many reasons it is that DB-GPT says "could not found worker instances"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.diagnosis.report import ReportFormat, print_object, print_report, report_object
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.cli.parsing.references import ModelFilter
from dbgpt_ctl.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Facts
    from dbgpt_ctl.cli.diagnosis.findings import Finding

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@TYPE]", autocompletion=candidates.models, help="The model; without a type: all types of it."
    ),
]
Output = Annotated[ReportFormat, typer.Option("--output", "-o", help="How to print what was found.")]
NoProbe = Annotated[bool, typer.Option("--no-probe", help="Do not knock at the addresses of instances.")]


@takes_session
def why(name: Name, *, no_probe: NoProbe = False, output: Output = ReportFormat.TEXT, session: Session) -> int:
    """Explain why a model gets no requests, or say that it does.

    Looks at controllers, registry, names, states and proxy variables, and knocks at the instances from here (at most 50
    addresses, 2 s). Errors come first, then warnings; of these the likeliest. Exits with 0 when it explained, with 4
    for a model that nobody knows; when no controller tells anything, with 3, 7 (not allowed), 6 (refused) or 1.
    """
    from dbgpt_ctl.cli.diagnosis.collect import gather
    from dbgpt_ctl.cli.diagnosis.rules import explain

    wanted = ModelFilter.parse(name, None)
    facts = gather(session, wanted, knock=not no_probe)
    findings = explain(facts)
    if output is ReportFormat.JSON:
        print_object({**report_object(facts, findings), "name": wanted.model_name or wanted.name})
    else:
        print_report(_heading(facts), findings, _closing(facts, findings))
    return exit_code(facts)


def exit_code(facts: Facts) -> int:
    """Of an error, when no controller tells anything; 4 for a model that has neither instances nor a past."""
    if not facts.answering:
        from dbgpt_ctl.cli.diagnosis.rules.answers import exit_code_of

        return exit_code_of(facts.controllers)
    if str(facts.wanted) and not facts.seen and not facts.events:
        say(f"no controller knows {_shown(facts.wanted)}")
        return NotFound.exit_code
    return 0


def _heading(facts: Facts) -> str:
    name, where = _shown(facts.wanted), ", ".join(each.url for each in facts.answering)
    if not facts.answering:
        from dbgpt_ctl.cli.diagnosis.rules.answers import nobody

        return f"{name}: {nobody(facts.controllers)}"
    total = len(facts.seen)
    if not total:
        return f"{name}: no instance is registered at {where}"
    ready = sum(each.gets_requests for each in facts.seen)
    verb = "gets" if ready == 1 else "get"
    types = sorted(facts.by_model)
    of = f" ({', '.join(map(escaped, types))})" if len(types) > 1 else ""
    return f"{name}{of}: {ready} of {total} {'instance' if total == 1 else 'instances'} {verb} requests at {where}"


def _closing(facts: Facts, findings: Sequence[Finding]) -> list[str]:
    if not facts.answering or not facts.seen or not all(each.gets_requests for each in facts.seen):
        return _unseen(facts)
    if any(each.severity == "error" for each in findings):
        return _unseen(facts)
    name = min(facts.by_model)
    lines = ["The registry is not the cause. If DB-GPT still finds no worker instances, look at the API server:"]
    lines += [f"  is its controller_addr one of {', '.join(each.url for each in facts.answering)}?"]
    lines += [f"  does it ask for exactly {escaped(name)}? (it adds @llm to the name of a chat request)"]
    lines += ["  does its environment set http_proxy, and no_proxy without the controller?"]
    return [*lines, *_unseen(facts)]


def _unseen(facts: Facts) -> list[str]:
    if facts.unprobed:
        return [f"Knocked at {len(facts.probes)} addresses, and left out {facts.unprobed} more."]
    return []


def _shown(wanted: ModelFilter) -> str:
    return escaped(wanted.model_name or wanted.name or "")
