"""How findings look: for people, a cause each, with its evidence and its fix; for scripts, all of it as JSON."""

from __future__ import annotations

import shutil
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.stdout import is_terminal, print_json, print_lines, wants_colour

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Facts
    from dbgpt_ctl.cli.diagnosis.findings import Finding

FEW = 3
"""Pieces of evidence that people get of one finding; scripts get all."""
_LEAST_WIDTH = 40
_CODES = {"error": 31, "warning": 33, "info": 36}


class ReportFormat(StrEnum):
    """The values of `-o`."""

    TEXT = "text"
    JSON = "json"


def print_report(heading: str, findings: Sequence[Finding], closing: Sequence[str]) -> None:
    """On a terminal folded to its width; in a pipe a line stays a line."""
    width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns) if is_terminal() else None
    lines = [heading]
    for each in findings:
        lines += ["", *_finding(each)]
    lines += ["", *closing] if closing else []
    colour = wants_colour()
    print_lines(_coloured(piece) if colour else piece for line in lines for piece in folded(line, width))


def report_object(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """What why and doctor have in common, under `"version": 1`."""
    seen = facts.seen
    return {
        "version": 1,
        "controllers": [_controller(each) for each in facts.controllers],
        "instances": len(seen),
        "get_requests": sum(each.gets_requests for each in seen),
        "probed": len(facts.probes),
        "unprobed": facts.unprobed,
        "findings": [_object(each) for each in findings],
    }


def print_object(told: dict[str, Any]) -> None:
    """JSON on stdout."""
    print_json(told)


def _finding(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity}: {finding.summary} [{finding.code}]"
    yield from (f"  {line}" for line in finding.evidence[:FEW])
    more = len(finding.evidence) - FEW
    if more > 0:
        yield f"  and {more} more (-o json shows all)"
    yield f"  fix: {finding.fix}"


def folded(line: str, width: int | None) -> list[str]:
    """Between words, to `width` cells. A word that is longer is left to the terminal: pieces are hard to copy."""
    if width is None or _cells(line) <= width:
        return [line]
    margin = " " * (len(line) - len(line.lstrip(" ")))
    first, *words = line.removeprefix(margin).split(" ")
    pieces = [margin + first]
    for word in words:
        if _cells(pieces[-1]) + 1 + _cells(word) <= width:
            pieces[-1] += f" {word}"
        else:
            pieces.append(f"{margin}{margin and '  '}{word}")
    return pieces


def _cells(text: str) -> int:
    """The width on a terminal: Chinese characters take two cells."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _coloured(line: str) -> str:
    word, colon, rest = line.partition(":")
    code = _CODES.get(word) if colon else None
    return line if code is None else f"\x1b[{code}m{word}\x1b[0m:{rest}"


def _controller(each: ControllerFacts) -> dict[str, Any]:
    return {
        "controller": each.url,
        "answers": each.answers,
        "error": each.error,
        "registry": each.status.kind if each.status else None,
        "instances": len(each.seen) if each.answers else None,
    }


def _object(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "summary": finding.summary,
        "evidence": list(finding.evidence),
        "fix": finding.fix,
        "instances": [key._asdict() for key in finding.keys],
    }
