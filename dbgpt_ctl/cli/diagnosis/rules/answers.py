"""Rules about controllers that give no list of instances: nobody is there, or what is there answers with an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.findings import Finding, Severity, rule
from dbgpt_ctl.errors import ControllerError, ControllerFailed, ControllerRefused, ControllerUnreachable, NotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Facts

GRAVEST: tuple[type[ControllerError], ...] = (NotAllowed, ControllerRefused, ControllerUnreachable, ControllerFailed)
"""Which error tells for all: a 4xx ends a call of any verb; a controller that is away counts before one that failed."""


@rule("controller-unreachable", fix="start it, or correct --address; ctl health -a URL shows when it is back")
def unreachable(facts: Facts) -> Iterator[Finding]:
    """Nothing answers at the address of a controller."""
    yield from _finding(facts, [each for each in facts.controllers if _is_silent(each)], "{} not answer", "does", "do")


@rule("controller-unavailable", fix="wait some seconds; ctl health -a URL shows when it is ready, its log says why not")
def unavailable(facts: Facts) -> Iterator[Finding]:
    """A controller, or a proxy before it, answers 502, 503 or 504: it is about to end, or its registry is away."""
    those = [each for each in facts.controllers if _is_away(each) and not _is_silent(each)]
    yield from _finding(facts, those, "{} there, and cannot serve now", "is", "are")


@rule(
    "not-allowed",
    fix="give a token that it takes: CTL_TOKEN, the --token-file of a context, or user:token@ in --address",
)
def not_allowed(facts: Facts) -> Iterator[Finding]:
    """A controller, or a proxy before it, answers 401 or 403: it lets nobody in without the right token."""
    those = [each for each in facts.controllers if _is_closed(each)]
    yield from _finding(facts, those, "{} not let you in", "does", "do")


@rule("controller-failed", fix="see its log; if no controller is there, correct --address")
def failed(facts: Facts) -> Iterator[Finding]:
    """A controller answers with an error such as 500, or what answers is no controller."""
    those = [each for each in facts.controllers if not (each.answers or _is_away(each) or _is_closed(each))]
    yield from _finding(facts, those, "{} with an error", "answers", "answer")


def nobody(controllers: Sequence[ControllerFacts]) -> str:
    """In a few words, why none of them told anything."""
    if all(map(_is_silent, controllers)):
        return "no controller answers"
    if all(map(_is_closed, controllers)):
        return "no controller lets you in"
    if all(map(_is_away, controllers)):
        return "no controller can serve now"
    return "no controller lists its instances"


def exit_code_of(controllers: Sequence[ControllerFacts]) -> int:
    """That of any other verb which none of them served."""
    codes = {each.error_code for each in controllers}
    return next((each.exit_code for each in GRAVEST if each.code in codes), ControllerError.exit_code)


def _is_closed(controller: ControllerFacts) -> bool:
    return controller.error_code == NotAllowed.code


def _is_away(controller: ControllerFacts) -> bool:
    return controller.error_code == ControllerUnreachable.code


def _is_silent(controller: ControllerFacts) -> bool:
    return _is_away(controller) and not controller.is_there


def _finding(facts: Facts, those: Sequence[ControllerFacts], summary: str, verb: str, plural: str) -> Iterator[Finding]:
    if those:
        one = len(those) == 1
        which = f"{those[0].url} {verb}" if one else f"{len(those)} of {len(facts.controllers)} controllers {plural}"
        evidence = tuple(f"{each.url}: {each.error}" for each in those)
        yield Finding(Severity.ERROR, summary.format(which), evidence)
