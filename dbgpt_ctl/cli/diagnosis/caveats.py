"""What is to be known before an answer is trusted: it is stale, some of its states are held, or another controller
would give other states (rule 14).

Every command that rests on a list says it in these words, which are those of the rules of the scope LIST.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.errors import StaleList
from dbgpt_ctl.text.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dbgpt_ctl.cli.documents.instances import Caveats
    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.client.results import Inventory
    from dbgpt_ctl.diagnosis.facts import ControllerFacts, Finding


def caveats(answer: Inventory, now: datetime) -> list[Finding]:
    """At most one finding for each fact: stale, held, of one of several heartbeat timeouts."""
    if not answer.stale_since and not answer.held_until and not answer.heartbeat_timeouts_secs:
        return []
    from dbgpt_ctl.diagnosis.facts import ControllerFacts

    return caveats_of(
        ControllerFacts(
            answer.controller,
            time=now,
            stale_since=answer.stale_since,
            held_until=answer.held_until,
            heartbeat_timeouts_secs=answer.heartbeat_timeouts_secs,
            instances=answer.instances,
        )
    )


def caveats_of(controller: ControllerFacts) -> list[Finding]:
    """The same of a controller's report."""
    from dbgpt_ctl.diagnosis.examine import RULES
    from dbgpt_ctl.diagnosis.facts import Facts, Scope, diagnose
    from dbgpt_ctl.domain.filters import ModelFilter

    return diagnose(RULES, Facts(ModelFilter(), (controller,)), Scope.LIST)


def caveat_lines(answer: Inventory, now: datetime) -> list[str]:
    """A warning for each fact."""
    return [f"warning: {line}" for finding in caveats(answer, now) for line in finding.lines]


def caveat_fields(answer: Inventory) -> Caveats:
    """The same facts for scripts."""
    return {"stale_since": iso(answer.stale_since), "held_until": iso(answer.held_until)}


def warn_of_caveats(session: Session, answer: Inventory) -> None:
    """Prints the warnings on stderr, each fact once per command, also where the command asks again and again."""
    warn_of(session, caveats(answer, answer.time or session.clock.now()))


def warn_of(session: Session, found: Iterable[Finding]) -> None:
    """Prints the lines of these findings on stderr, each fact once per command."""
    for finding in found:
        for line in finding.lines:
            session.say_once(f"warning: {line}", about=finding.code)


def refuse_stale(session: Session, answer: Inventory, consequence: str, *, allow_stale: bool | None = None) -> None:
    """Raises StaleList, with the warning and its `consequence`, if the answer is stale and may not be; else warns.

    `allow_stale`: None for a command that has no such option.
    """
    if answer.stale_since is None or allow_stale:
        return warn_of_caveats(session, answer)
    found = caveats(answer, answer.time or session.clock.now())
    evidence = next(str(evidence) for finding in found for evidence in finding.evidence)
    hint = "" if allow_stale is None else "; --allow-stale relies on that list"
    raise StaleList(f"{evidence}; {consequence}{hint}")
