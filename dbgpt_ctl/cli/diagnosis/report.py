"""Prints findings: for people each cause with its evidence and fix, for scripts all of it as JSON."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.instances import identity_object
from dbgpt_ctl.cli.output.stdout import is_terminal, print_lines, wants_colour
from dbgpt_ctl.cli.output.table import cell_width, coloured
from dbgpt_ctl.cli.ping.report import PingedInstance
from dbgpt_ctl.domain.texts import AS_LAST_KNOWN
from dbgpt_ctl.errors import (
    ControllerError,
    ControllerFailed,
    ControllerRefused,
    ControllerUnreachable,
    ErrorKind,
    NotAllowed,
    NotFound,
    StaleList,
)
from dbgpt_ctl.text.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.cli.documents.reports import ExaminedCluster, PrintedController, PrintedFinding
    from dbgpt_ctl.diagnosis.facts import ControllerFacts, Facts, Finding

PRECEDENCE: tuple[type[ControllerError], ...] = (NotAllowed, ControllerRefused, ControllerUnreachable, ControllerFailed)
"""Of several controllers without an answer the first of these sets the exit code: as for any verb, a 4xx ends the call,
and a controller that is away counts before one that failed.
"""
FEW = 3
"""Pieces of evidence that people see of one finding; scripts get all."""
_MIN_WIDTH = 40
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def print_report(heading: str, findings: Sequence[Finding], closing: Sequence[str]) -> None:
    """On a terminal lines are folded to its width; in a pipe a line stays a line."""
    width = max(_MIN_WIDTH, shutil.get_terminal_size().columns) if is_terminal() else None
    lines = [heading]
    for finding in findings:
        lines += ["", *_finding_lines(finding)]
    lines += ["", *closing] if closing else []
    colour = wants_colour()
    print_lines(_coloured(piece) if colour else piece for line in lines for piece in folded(line, width))


def report_object(facts: Facts, findings: Sequence[Finding]) -> ExaminedCluster:
    """The part of the JSON document that `why` and `doctor` have in common."""
    return {
        "version": 1,
        "controllers": [_controller_object(controller) for controller in facts.controllers],
        "instances": len(facts.instances),
        "get_requests": facts.routed,
        "probed": len(facts.probes),
        "unprobed": facts.unprobed,
        "pings": [PingedInstance(each.ping, each).as_object() for each in facts.instances if each.ping],
        "unpinged": facts.unpinged,
        "findings": [_finding_object(finding) for finding in findings],
    }


def heading_without_answer(controllers: Sequence[ControllerFacts]) -> str:
    """The heading of a report without any facts: why no controller gave an answer."""
    kinds = {controller.failure.kind for controller in controllers if controller.failure}
    if kinds <= {ErrorKind.NO_ANSWER}:
        return "no controller answers"
    if kinds <= {ErrorKind.NOT_A_CONTROLLER}:
        return "no controller is there"
    if kinds <= {ErrorKind.NOT_ALLOWED}:
        return "no controller lets you in"
    if kinds <= {ErrorKind.NO_ANSWER, ErrorKind.UNAVAILABLE}:
        return "no controller can serve now"
    return "no controller lists its instances"


def exit_code(facts: Facts) -> int:
    """4 for a model that has neither instances nor a past, or 3 where only stale lists say so. When no controller
    answers, that of the first of PRECEDENCE: the exit code of any other verb that none of these controllers served.
    """
    if not facts.answering:
        codes = {controller.failure.code for controller in facts.controllers if controller.failure}
        return next((error.exit_code for error in PRECEDENCE if error.code in codes), ControllerError.exit_code)
    if not str(facts.model_filter) or facts.instances or facts.events:
        return 0
    return StaleList.exit_code if facts.are_stale else NotFound.exit_code


def places(facts: Facts) -> str:
    """The controllers that answer, for the end of a heading."""
    return ", ".join(controller.url for controller in facts.answering) + (AS_LAST_KNOWN if facts.are_stale else "")


def left_out_lines(facts: Facts) -> list[str]:
    """A line where there were more addresses than are probed, and one where there were more than are pinged."""
    left_out = (
        ("Probed", "addresses", facts.probes, facts.unprobed),
        ("Pinged", "instances", facts.pings, facts.unpinged),
    )
    return [f"{verb} {len(done)} {what}, and left out {more} more." for verb, what, done, more in left_out if more]


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity}: {finding.summary} [{finding.code}]"
    yield from (f"  {line}" for line in finding.evidence[:FEW])
    more = len(finding.evidence) - FEW
    if more > 0:
        yield f"  and {more} more (-o json shows all)"
    yield f"  fix: {finding.fix}"


def folded(line: str, width: int | None) -> list[str]:
    """Folds between words, to `width` cells. A longer word stays whole, so that it can be copied."""
    if width is None or cell_width(line) <= width:
        return [line]
    margin = " " * (len(line) - len(line.lstrip(" ")))
    first, *words = line.removeprefix(margin).split(" ")
    pieces = [margin + first]
    for word in words:
        if cell_width(pieces[-1]) + 1 + cell_width(word) <= width:
            pieces[-1] += f" {word}"
        else:
            pieces.append(f"{margin}{margin and '  '}{word}")
    return pieces


def _coloured(line: str) -> str:
    word, colon, rest = line.partition(":")
    return f"{coloured(word, _COLOURS[word])}:{rest}" if colon and word in _COLOURS else line


def _controller_object(controller: ControllerFacts) -> PrintedController:
    return {
        "controller": controller.url,
        "answers": controller.answers,
        "error": controller.failure.detail if controller.failure else None,
        "cause": controller.failure.cause and controller.failure.cause.value if controller.failure else None,
        "registry": controller.status.registry.kind if controller.status else None,
        "instances": len(controller.instances) if controller.answers else None,
        "stale_since": iso(controller.stale_since),
        "held_until": iso(controller.held_until),
    }


def _finding_object(finding: Finding) -> PrintedFinding:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "summary": finding.summary,
        "evidence": list(map(str, finding.evidence)),
        "fix": finding.fix,
        "instances": [identity_object(key) for key in finding.keys],
    }
