"""What a rule finds, and what a rule is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Facts, Seen
    from dbgpt_ctl.domain.instance import InstanceKey


class Severity(StrEnum):
    """`error`: requests fail, or will. `warning`: they may, or something hides. `info`: as somebody wanted it."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One cause, however many instances it has. Texts are one line each, for people; names in them are escaped.

    `code` and `fix` are the rule's where the rule leaves them empty.
    """

    severity: Severity
    summary: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    keys: tuple[InstanceKey, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A symptom, how it is seen in the facts, and what to do about it. `code` is stable."""

    code: str
    symptom: str
    fix: str
    check: Callable[[Facts], Iterable[Finding]]
    cluster_only: bool
    """It says nothing about one model that the others do not say better."""

    def __call__(self, facts: Facts) -> Iterator[Finding]:
        """What it finds."""
        for each in self.check(facts):
            yield replace(each, code=self.code, fix=each.fix or self.fix)


def rule(code: str, *, fix: str, cluster_only: bool = False) -> Callable[[Callable[[Facts], Iterable[Finding]]], Rule]:
    """Makes a rule of a function; the first paragraph of its docstring is the symptom, for people."""

    def make(check: Callable[[Facts], Iterable[Finding]]) -> Rule:
        symptom, _, _ = (check.__doc__ or "").partition("\n\n")
        return Rule(code, " ".join(symptom.split()), fix, check, cluster_only)

    return make


def of_instances(  # noqa: PLR0917 - as one reads them: how bad, which, what, why, and what to do
    severity: Severity, seen: Sequence[Seen], one: str, many: str, tell: Callable[[Seen], str], fix: str = ""
) -> Iterator[Finding]:
    """One finding for all instances with the same cause, none for none. `many` has a `{n}`; `tell` gives evidence."""
    if seen:
        summary = one if len(seen) == 1 else many.format(n=len(seen))
        evidence = tuple(f"{each.reference}: {tell(each)}" for each in seen)
        yield Finding(severity, summary, evidence, fix, tuple(each.key for each in seen))
