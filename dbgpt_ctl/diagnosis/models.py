"""Rules about models: is the name registered, does an instance of it get requests, is there a name like it."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from dbgpt_ctl.client.results import counted_text
from dbgpt_ctl.diagnosis.facts import ALL_BUT_LIST, Evidence, Facts, Finding, Severity, rule
from dbgpt_ctl.diagnosis.instances import died_before_drain
from dbgpt_ctl.domain.instance import MODEL_TYPES
from dbgpt_ctl.domain.references import model_word, reference_of
from dbgpt_ctl.domain.texts import AS_LAST_KNOWN, cause_text, change_text
from dbgpt_ctl.spelling import nearest
from dbgpt_ctl.text.escaping import escaped, shell_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbgpt_ctl.domain.events import Event

LATEST = 3
"""Events that are shown of a model's past."""


@rule("not-registered", fix="start its worker, with this controller as its controller_addr; its log says why not")
def not_registered(facts: Facts) -> Iterator[Finding]:
    """No instance of that name and type is registered; names and types compare exactly."""
    name = facts.model_filter.model_name or facts.model_filter.name
    if not name or facts.instances or not facts.answering:
        return
    shown = ", ".join(map(escaped, similar(name, facts.models)))
    evidence = [
        Evidence(f"at {controller.url}: none{' in its last known list' if controller.stale_since else ''}")
        for controller in facts.answering
    ]
    evidence += [Evidence(f"registered is {shown}")] if shown else []
    evidence += [Evidence(_change(event)) for event in facts.events[-LATEST:]]
    fix = f"use one name in workers and clients; did you mean {shown}?" if shown else ""
    summary = f"no instance of {escaped(name)} is registered{AS_LAST_KNOWN if facts.are_stale else ''}"
    yield Finding(Severity.ERROR, summary, tuple(evidence), fix)


@rule("no-healthy-instance", fix="ctl why NAME says why", scope=ALL_BUT_LIST)
def no_healthy(facts: Facts) -> Iterator[Finding]:
    """A model is registered, and no instance of it gets requests. Silence is a fault. A drain before it is the wish of
    an operator, and a deregister is that of an operator or of the worker.
    """
    by_severity: dict[Severity, list[str]] = {}
    for name, counts in facts.counts_by_model.items():
        if not counts.routable:
            is_planned = counts.unhealthy == counts.unhealthy_drained and not any(
                map(died_before_drain, facts.by_model.get(name, ()))
            )
            by_severity.setdefault(Severity.INFO if is_planned else Severity.ERROR, []).append(name)
    for severity, names in sorted(by_severity.items()):
        evidence = tuple(Evidence(f"no routable instance: {_counted(facts, name)}", escaped(name)) for name in names)
        keys = tuple(instance.key for name in names for instance in facts.by_model.get(name, ()))
        summary = f"{len(names)} models have" if len(names) > 1 else "1 model has"
        intended = ": all are drained or deregistered" if severity is Severity.INFO else ""
        fix = f"ctl why {shell_argument(model_word(names[0]))} says why" if len(names) == 1 else ""
        if str(facts.model_filter):  # it is ctl why that is asked, whose heading has the numbers
            if severity is Severity.INFO:
                continue
            fix = "the other findings name the cause for each of its instances"
        yield Finding(severity, f"{summary} no instance that gets requests{intended}", evidence, fix, keys)


@rule("type-typo", fix="register it under the right type: NAME@llm, @text2vec, @reranker")
def type_typo(facts: Facts) -> Iterator[Finding]:
    """A type that is similar to one of DB-GPT's and is none of them: no API server ever asks for it."""
    evidence: dict[str, Evidence] = {}
    for model in sorted(facts.by_model):
        name, _, kind = model.partition("@")
        near = None if kind in MODEL_TYPES else nearest(kind, MODEL_TYPES)
        if near:
            evidence[model] = Evidence(f"did its worker mean {escaped(name)}@{near}?", escaped(model))
    if evidence:
        keys = tuple(instance.key for model in evidence for instance in facts.by_model[model])
        yield Finding(Severity.WARNING, "a type that DB-GPT never asks for", tuple(evidence.values()), keys=keys)


@rule("twin-names", fix="start all workers of a model with the same name: names compare exactly")
def twins(facts: Facts) -> Iterator[Finding]:
    """Two names that look the same: case, spaces or accents differ, so requests for one never reach the other."""
    groups: dict[str, list[str]] = {}
    for name in sorted(facts.models):
        groups.setdefault(_folded(name), []).append(name)
    evidence = tuple(
        Evidence(" and ".join(f"'{escaped(name)}'" for name in names))
        for names in sorted(groups.values())
        if len(names) > 1 and any(map(facts.model_filter.matches, names))
    )
    if evidence:
        yield Finding(Severity.WARNING, "one model under names that differ in case, spaces or accents", evidence)


def similar(given: str, models: Iterable[str]) -> list[str]:
    """Registered models that may have been meant: the same name with another type, else names that are similar."""
    known = sorted(models)
    name = given.partition("@")[0]
    same_name = [model for model in known if _folded(model.partition("@")[0]) == _folded(name)]
    if same_name:
        return same_name
    near = nearest(given, known) if "@" in given else nearest(name, {model.partition("@")[0] for model in known})
    return [model for model in known if near in (model, model.partition("@")[0])]


def _counted(facts: Facts, name: str) -> str:
    """`2 unhealthy (1 drained)`."""
    return counted_text(facts.counts_by_model[name])


def _folded(name: str) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return "".join(plain.split()).casefold()


def _change(event: Event) -> str:
    change = event.change
    what = f"{reference_of(change.key)} {change_text(change)}, {cause_text(change)}"
    return f"{change.time:%Y-%m-%d %H:%M:%S} UTC: {what}"
