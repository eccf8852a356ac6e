"""Rules about models: what they are called, and whether anybody serves them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from shlex import quote
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.completion.candidates import TYPES
from dbgpt_ctl.cli.diagnosis.findings import Finding, Severity, rule
from dbgpt_ctl.cli.diagnosis.rules.addresses import is_loopback
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.parsing.suggestions import nearest
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbgpt_ctl.cli.diagnosis.facts import Facts, Seen

LATEST = 3


@rule("not-registered", fix="start its worker, with this controller as its controller_addr; its log says why not")
def not_registered(facts: Facts) -> Iterator[Finding]:
    """No instance of that name and type is registered; names and types compare exactly."""
    if not str(facts.wanted) or facts.seen or not facts.answering:
        return
    asked = facts.wanted.model_name or facts.wanted.name or ""
    close = looks_like(asked, facts.models)
    shown = ", ".join(map(escaped, close))
    evidence = [f"at {each.url}: none" for each in facts.answering]
    evidence += [f"registered is {shown}"] if shown else []
    evidence += [
        f"{each.change.time:%Y-%m-%d %H:%M:%S} UTC: {escaped(str(each.change.key))} {each.change.old} -> "
        f"{each.change.new}, by {each.change.cause.actor}{_because(each.change.cause.reason)}"
        for each in facts.events[-LATEST:]
    ]
    fix = f"use one name in workers and clients; did you mean {shown}?" if shown else ""
    yield Finding(Severity.ERROR, f"no instance of {escaped(asked)} is registered", tuple(evidence), fix)


@rule("no-healthy-instance", fix="ctl why NAME says why", cluster_only=True)
def no_healthy(facts: Facts) -> Iterator[Finding]:
    """A model is registered, and no instance of it gets requests."""
    by_severity: dict[Severity, list[str]] = {}
    for name, instances in facts.by_model.items():
        counts = Counter(each.state for each in instances)
        if not counts[InstanceState.HEALTHY]:
            by_severity.setdefault(_how_bad(counts), []).append(name)
    for severity, names in sorted(by_severity.items()):
        evidence = tuple(f"{escaped(name)}: {states_of(facts.by_model[name])}" for name in names)
        keys = tuple(each.key for name in names for each in facts.by_model[name])
        summary = f"{len(names)} models have" if len(names) > 1 else "1 model has"
        fix = f"ctl why {quote(escaped(names[0]))} says why" if len(names) == 1 else ""
        yield Finding(severity, f"{summary} no instance that gets requests", evidence, fix, keys)


@rule("type-typo", fix="register it under the right type: NAME@llm, @text2vec, @reranker")
def type_typo(facts: Facts) -> Iterator[Finding]:
    """A type that looks like one of DB-GPT's and is none: no API server ever asks for it."""
    found = []
    for name in sorted(facts.by_model):
        base, _, kind = name.partition("@")
        near = None if kind in TYPES else nearest(kind, TYPES)
        if near:
            found.append((name, f"{escaped(name)}: did its worker mean {escaped(base)}@{near}?"))
    if found:
        keys = tuple(each.key for name, _ in found for each in facts.by_model[name])
        yield Finding(Severity.WARNING, "a type that no DB-GPT asks for", tuple(line for _, line in found), keys=keys)


@rule("twin-names", fix="start all workers of a model with the same name: names compare exactly")
def twins(facts: Facts) -> Iterator[Finding]:
    """Two names that look the same: case, spaces or accents differ, so requests for one never reach the other."""
    groups: dict[str, list[str]] = {}
    for name in facts.models:
        groups.setdefault(_folded(name), []).append(name)
    split = [sorted(names) for names in groups.values() if len(names) > 1]
    ours = [names for names in sorted(split) if any(facts.wanted.matches(name) for name in names)]
    if ours:
        evidence = tuple(" and ".join(f"'{escaped(name)}'" for name in names) for names in ours)
        yield Finding(Severity.WARNING, "one model under names that differ in case, spaces or accents", evidence)


@rule("one-host", fix="start a worker of it on a second host, if it matters", cluster_only=True)
def one_host(facts: Facts) -> Iterator[Finding]:
    """All healthy instances of a model are on one host: when that goes, the model goes."""
    lonely = []
    for name, instances in facts.by_model.items():
        healthy = [each for each in instances if each.gets_requests]
        hosts = {each.key.host for each in healthy}
        if len(healthy) > 1 and len(hosts) == 1 and not any(map(is_loopback, hosts)):  # a loopback is a try-out
            lonely.append(f"{escaped(name)}: all {len(healthy)} on {escaped(healthy[0].key.host)}")
    if lonely:
        models = "1 model is" if len(lonely) == 1 else f"{len(lonely)} models are"
        yield Finding(Severity.INFO, f"{models} on one host only", tuple(lonely))


def looks_like(asked: str, models: Iterable[str]) -> list[str]:
    """Registered models that may have been meant: the same name with another type, then what looks like it."""
    known = sorted(models)
    name = asked.partition("@")[0]
    folded = [each for each in known if _folded(each.partition("@")[0]) == _folded(name)]
    if folded:
        return folded
    near = nearest(asked, known) if "@" in asked else nearest(name, {each.partition("@")[0] for each in known})
    return [each for each in known if near in (each, each.partition("@")[0])]


def states_of(instances: Iterable[Seen]) -> str:
    """`2 healthy, 1 unhealthy`."""
    counts = Counter(each.state for each in instances)
    return ", ".join(f"{counts[state]} {state}" for state in InstanceState if counts[state]) or "none"


def _how_bad(counts: Counter[InstanceState]) -> Severity:
    """Silence is a fault; a drain or a deregister is somebody's wish."""
    if counts[InstanceState.UNHEALTHY]:
        return Severity.ERROR
    return Severity.WARNING if counts[InstanceState.DRAINED] else Severity.INFO


def _folded(name: str) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return "".join(plain.split()).casefold()


def _because(reason: str | None) -> str:
    return f" ({escaped(reason)})" if reason else ""
