"""`ctl why`: why DB-GPT reports "could not found worker instances" for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from dbgpt_ctl.cli.diagnosis.report import (
    exit_code,
    heading_without_answer,
    left_out_lines,
    places,
    print_report,
    report_object,
)
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import NoProbe, Ping, ReportOutput, model_argument
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, say
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.instance import SERVICE
from dbgpt_ctl.errors import NotFound
from dbgpt_ctl.text.escaping import escaped, shell_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.documents.reports import WhyDocument
    from dbgpt_ctl.diagnosis.facts import Facts, Finding


DOUBTS = frozenset({"settings-differ", "states-held", "registry-degraded"})
"""Warnings that leave open whether the registry is the cause."""
ANSWERS = frozenset({"healthy-but-not-answering", "worker-busy"})
"""Warnings that name the cause: it is the worker, so the API server is not to be examined."""


@explained(
    "ctl why qwen2.5",
    "ctl why bge@text2vec --no-probe -o json",
    "ctl why qwen2.5 --ping",
    exit_codes={
        0: "The report explains the model, whatever its state.",
        1: "No controller answers; one failed.",
        3: "No controller can be reached.",
        4: "No controller knows the model.",
        6: "No controller answers; one refused to.",
        7: "No controller answers; one does not allow the call.",
    },
)
@takes_session
def why(
    name: Annotated[str, model_argument()],
    *,
    no_probe: NoProbe = False,
    ping: Ping = None,
    output: ReportOutput = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Explain why a model gets no requests, or say that it does.

    Checks controllers, registry, names, states and proxy variables, and probes the instances from here (at most 50
    addresses, 2 s). Errors come first, then warnings; of these the likeliest. A worker whose model is dead sends
    heartbeats all the same: --ping asks it.
    """
    from dbgpt_ctl.cli.diagnosis.collect import collect
    from dbgpt_ctl.diagnosis.examine import examine
    from dbgpt_ctl.diagnosis.facts import Scope

    model_filter = ModelFilter.parse(name)
    facts = collect(session, model_filter, probe=not no_probe, ping=ping)
    findings = examine(facts, Scope.MODEL)
    if output is OutputFormat.JSON:
        shown = model_filter.model_name or model_filter.name or name
        document: WhyDocument = {**report_object(facts, findings), "name": shown}
        print_json(document)
    else:
        print_report(_heading(facts), findings, _closing(facts, findings, ping))
    code = exit_code(facts)
    if code == NotFound.exit_code:
        say(f"no controller knows {_shown(model_filter)}")
    return code


def _heading(facts: Facts) -> str:
    name, where = _shown(facts.model_filter), places(facts)
    if not facts.answering:
        return f"{name}: {heading_without_answer(facts.controllers)}"
    total = len(facts.instances)
    if not total:
        return f"{name}: no instance is registered at {where}"
    verb = "gets" if facts.routed == 1 else "get"
    types = sorted(facts.by_model)
    of = f" ({', '.join(map(escaped, types))})" if len(types) > 1 else ""
    return (
        f"{name}{of}: {facts.routed} of {total} {'instance' if total == 1 else 'instances'} {verb} requests at {where}"
    )


def _closing(facts: Facts, findings: Sequence[Finding], ping: str | None) -> list[str]:
    """What to check next where the registry is not the cause.

    With different settings a controller that was not asked may not route what the others do. While states are held, a
    worker that is gone counts as healthy. A controller that forwards knows nothing of the settings behind it.
    """
    is_well = facts.instances and facts.routed == len(facts.instances)
    explained_above = DOUBTS | ANSWERS
    if not is_well or any(finding.severity == "error" or finding.code in explained_above for finding in findings):
        return left_out_lines(facts)
    behind = [status.registry.place for _, status in facts.reporting if status.is_remote]
    name = shell_argument(_shown(facts.model_filter))
    if behind:
        addresses = escaped(",".join(filter(None, behind)))
        return [
            "No fault is seen from here. A controller that forwards does not know whether those behind it agree: ask",
            f"them with ctl why {name} -a {addresses}",
            *left_out_lines(facts),
        ]
    return [
        *_answered(facts, ping),
        "The registry is not the cause. If DB-GPT still finds no worker instances, look at the API server:",
        f"  is its controller_addr one of {', '.join(controller.url for controller in facts.answering)}?",
        f"  does it ask for exactly {escaped(min(facts.by_model))}? (it adds @llm to the name of a chat request)",
        "  does its environment set http_proxy, and no_proxy without the controller?",
        *(
            []
            if ping
            else [f"If the API server finds an instance and its requests fail, ask the workers: ctl why {name} --ping"]
        ),
        *left_out_lines(facts),
    ]


def _answered(facts: Facts, ping: str | None) -> list[str]:
    """A line where models were pinged, with how far that went (rule 14). All answered, else a finding would say so."""
    models = [key for key in facts.pings if key.type != SERVICE]
    if not models:
        return []
    which = "The instance" if len(models) == 1 else f"Each of {len(models)} instances"
    return [f"{which} {'answers a ping' if ping == 'generate' else 'has loaded the model; --ping asks the model'}."]


def _shown(model_filter: ModelFilter) -> str:
    return escaped(model_filter.model_name or model_filter.name or "")
