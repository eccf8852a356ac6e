"""What `ctl apply` and `ctl diff` do with a file. No other command pays for importing it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.manifest.applying import Applier
from dbgpt_ctl.cli.manifest.declarations import InvalidFile, read_instances
from dbgpt_ctl.cli.manifest.documents import MAX_BYTES
from dbgpt_ctl.cli.manifest.plan import Kind, make_plan
from dbgpt_ctl.cli.manifest.steps import as_difference, line_of_difference, remarks
from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.output.results import NOT_TRIED, Outcome, ResultFormat, attempt_all, conclude, not_tried, reference
from dbgpt_ctl.cli.output.stdout import print_json, print_lines, say
from dbgpt_ctl.errors import ConditionNotMet, ControllerUnreachable, CtlError, UsageError

if TYPE_CHECKING:
    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.cli.manifest.declarations import Declared

_MOST_PROBLEMS = 20


def apply_file(file: str | None, session: Session, form: ResultFormat, *, prune: bool, dry_run: bool) -> int:
    """Makes the registered instances as declared. Returns the exit code. Nothing is pruned once something failed."""
    declared = _read(file, prune=prune)
    with session.client() as client:
        there = client.inventory()
        if there.stale_since is not None and not dry_run:
            raise ControllerUnreachable(
                f"the registry of {there.controller} is away, and what it last held may have changed; try again later"
            )
        steps = make_plan(declared, there.instances, prune=prune)
        for line in remarks(steps):
            session.say(line)
        applier = Applier(client, steps, session, drains=there.complete, dry_run=dry_run)
        first = [each.key for each in steps if each.kind is not Kind.PRUNE]
        last = [each.key for each in steps if each.kind is Kind.PRUNE]
        outcomes: list[Outcome] = attempt_all(first, applier, form)
        failed = any(each.error or each.result == NOT_TRIED for each in outcomes)
        outcomes += not_tried(last) if failed else attempt_all(last, applier, form)
        return conclude(outcomes, form)


def diff_file(file: str | None, session: Session, *, prune: bool, as_json: bool) -> int:
    """Prints what apply would change. Returns the exit code."""
    declared = _read(file, prune=prune)
    with session.client() as client:
        there = client.inventory()
    if there.stale_since is not None:
        session.say(f"warning: the registry of {there.controller} is away; this compares with what it last held")
    different = [each for each in make_plan(declared, there.instances, prune=prune) if each.differs]
    for line in remarks(different):
        session.say(line)
    for each in different:
        if each.why_stuck:
            session.say(f"{reference(each.key)}: {each.why_stuck}")
    if as_json:
        print_json([as_difference(each) for each in different])
    else:
        print_lines(line_of_difference(each) for each in different)
    return ConditionNotMet.exit_code if different else 0


def _read(file: str | None, *, prune: bool) -> list[Declared]:
    """Raises UsageError; all mistakes but the count are told before."""
    if file is None:
        raise UsageError("give -f FILE; -f - reads standard input")
    name = "standard input" if file == "-" else file
    try:
        declared = read_instances(_bytes_of(file), name)
    except InvalidFile as error:
        for line in error.problems[:_MOST_PROBLEMS]:
            say(line)
        if len(error.problems) > _MOST_PROBLEMS:
            say(f"and {len(error.problems) - _MOST_PROBLEMS} more")
        raise
    if not declared and prune:
        raise UsageError(f"{name} declares no instances: --prune takes the models to clear from what it declares")
    return declared


def _bytes_of(file: str) -> bytes:
    """At most one byte more than may be."""
    try:
        if file == "-":
            return bytes(_standard_input().read(MAX_BYTES + 1))
        with Path(file).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {quoted(file)}: {error.strerror or error}") from None
    except ValueError:
        raise UsageError(f"cannot read {quoted(file)}: that is no name of a file") from None


def _standard_input() -> Any:
    if sys.stdin is None:
        raise CtlError("cannot read standard input: it is closed")
    return sys.stdin.buffer
