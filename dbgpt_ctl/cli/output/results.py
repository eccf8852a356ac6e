"""Runs an action on several instances: one line of result for each, and one exit code for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from dbgpt_ctl.cli.output.stdout import OutputFormat, print_document, print_lines, say
from dbgpt_ctl.cli.parsing.references import reference_of
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, CtlError, NotAllowed, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbgpt_ctl.domain.instance import InstanceKey

_CONTROLLER_ERRORS = (ControllerUnreachable, ControllerFailed, NotAllowed)
"""The cause of these is the controller and not the instance."""
FAILED, NOT_TRIED = "failed", "not tried"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for one instance. `result` is a word or two, such as `registered`, `failed` or `not tried`."""

    key: InstanceKey
    result: str
    error: CtlError | None = None
    """Also with another result than `failed`: then a part of the action failed."""
    line: str | None = None
    """The result for people, where it differs."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further keys for scripts."""

    def as_object(self) -> dict[str, Any]:
        """For json and yaml: identity, result, facts, and for a failure the code and message of the error."""
        error = {"error": self.error.code, "detail": str(self.error)} if self.error else {}
        return {**self.key._asdict(), "result": self.result, **self.facts, **error}


Action: TypeAlias = "Callable[[InstanceKey], str | Outcome]"
"""Returns the result or raises CtlError."""


def run_for_each(keys: Sequence[InstanceKey], action: Action, form: OutputFormat) -> int:
    """Runs the action on one instance after the other and prints the outcomes. Returns the exit code.

    A failure does not end it, except when no controller answers or the controller does not accept the credentials.
    """
    return conclude(attempt_all(keys, action, form), form)


def attempt_all(keys: Sequence[InstanceKey], action: Action, form: OutputFormat) -> list[Outcome]:
    """The outcome for each key. Prints the lines of text and name, but no document and no exit code."""
    outcomes: list[Outcome] = []
    for key in keys:
        try:
            done = action(key)
            outcome = Outcome(key, done) if isinstance(done, str) else done
        except CtlError as error:
            outcome = Outcome(key, FAILED, error)
        outcomes.append(outcome)
        print_outcome(outcome, form)
        if isinstance(outcome.error, ControllerUnreachable | NotAllowed):
            break
    return outcomes + not_tried(keys[len(outcomes) :])


def not_tried(keys: Sequence[InstanceKey]) -> list[Outcome]:
    """The outcomes of keys that are left out. Prints how many they are."""
    if keys:
        say(f"{len(keys)} not tried: {reference_of(keys[0])}{' and those after it' if len(keys) > 1 else ''}")
    return [Outcome(key, NOT_TRIED) for key in keys]


def conclude(outcomes: Sequence[Outcome], form: OutputFormat) -> int:
    """Prints the document of json and yaml. Returns the exit code."""
    print_document([outcome.as_object() for outcome in outcomes], form)
    return exit_code_of([outcome.error for outcome in outcomes if outcome.error])


def exit_code_of(errors: Sequence[CtlError]) -> int:
    """0 without errors; 4 when all errors are NotFound; else the code of the first other error."""
    if not errors:
        return 0
    return next((error.exit_code for error in errors if not isinstance(error, NotFound)), NotFound.exit_code)


def print_outcome(outcome: Outcome, form: OutputFormat) -> None:
    """Prints the error of an outcome, and its line in text and name."""
    if isinstance(outcome.error, _CONTROLLER_ERRORS):
        say(str(outcome.error))
    elif outcome.error:
        say(f"{reference_of(outcome.key)}: {outcome.error}")
    if outcome.result == FAILED:
        return
    if form is OutputFormat.TEXT:
        print_lines([f"{reference_of(outcome.key)} {outcome.line or outcome.result}"])
    elif form is OutputFormat.NAME:
        print_lines([reference_of(outcome.key)])
