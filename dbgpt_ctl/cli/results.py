"""What became of each target of a verb that changes something: a line each, and one exit code for all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output import print_json, print_lines, print_yaml, say
from dbgpt_ctl.cli.references import reference_to
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, CtlError, NotAllowed, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.instance import InstanceKey


_OF_THE_CONTROLLER = (ControllerUnreachable, ControllerFailed, NotAllowed)
"""These say nothing about the target."""


class ResultFormat(StrEnum):
    """The values of `-o` for a verb that changes something."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` is a word or two, such as `registered`, `failed` or `not tried`."""

    key: InstanceKey
    result: str
    error: CtlError | None = None

    def as_object(self) -> dict[str, Any]:
        """For json and yaml: the identity, the result, and for a failure the error's code and message."""
        error = {"error": self.error.code, "detail": str(self.error)} if self.error else {}
        return {**self.key._asdict(), "result": self.result, **error}


def for_each(keys: Sequence[InstanceKey], act: Callable[[InstanceKey], str], form: ResultFormat) -> int:
    """Calls `act`, which returns the result or raises CtlError, for one key after the other. Returns the exit code.

    When one target fails the next is tried, except when no controller answers or it wants other credentials.
    """
    outcomes: list[Outcome] = []
    for key in keys:
        outcomes.append(_attempt(key, act))
        _show(outcomes[-1], form)
        if isinstance(outcomes[-1].error, ControllerUnreachable | NotAllowed):
            break
    rest = keys[len(outcomes) :]
    if rest:
        say(f"{len(rest)} not tried: {reference(rest[0])}{' and what follows' if len(rest) > 1 else ''}")
    outcomes += [Outcome(key, "not tried") for key in rest]
    if form is ResultFormat.JSON:
        print_json([each.as_object() for each in outcomes])
    if form is ResultFormat.YAML:
        print_yaml([each.as_object() for each in outcomes])
    return exit_code_of([each.error for each in outcomes if each.error])


def exit_code_of(errors: Sequence[CtlError]) -> int:
    """0 without errors; 4 when all that failed were not found; else the code of the first other error."""
    if not errors:
        return 0
    return next((error.exit_code for error in errors if not isinstance(error, NotFound)), NotFound.exit_code)


def reference(key: InstanceKey) -> str:
    """The key's reference, escaped."""
    return reference_to(key._asdict())


def _attempt(key: InstanceKey, act: Callable[[InstanceKey], str]) -> Outcome:
    try:
        return Outcome(key, act(key))
    except CtlError as error:
        return Outcome(key, "failed", error)


def _show(outcome: Outcome, form: ResultFormat) -> None:
    if isinstance(outcome.error, _OF_THE_CONTROLLER):
        say(str(outcome.error))
    elif outcome.error:
        say(f"{reference(outcome.key)}: {outcome.error}")
    elif form is ResultFormat.TEXT:
        print_lines([f"{reference(outcome.key)} {outcome.result}"])
    elif form is ResultFormat.NAME:
        print_lines([reference(outcome.key)])
