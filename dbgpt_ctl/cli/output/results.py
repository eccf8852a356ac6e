"""What became of each target of a verb that changes something: a line each, and one exit code for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from dbgpt_ctl.cli.output.stdout import print_json, print_lines, print_yaml, say
from dbgpt_ctl.cli.parsing.references import reference_to
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, CtlError, NotAllowed, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbgpt_ctl.domain.instance import InstanceKey


_OF_THE_CONTROLLER = (ControllerUnreachable, ControllerFailed, NotAllowed)
"""These say nothing about the target."""
FAILED, NOT_TRIED = "failed", "not tried"


class ResultFormat(StrEnum):
    """The values of `-o` for a verb that changes something."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb did to one target. `line` is `result` as people read it; `facts` are further keys for scripts.

    `error`: a part of what was asked could not be done.
    """

    result: str
    line: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: CtlError | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` is a word or two, such as `registered`, `failed` or `not tried`."""

    key: InstanceKey
    result: str
    error: CtlError | None = None
    line: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """For json and yaml: the identity, the result, and for a failure the error's code and message."""
        error = {"error": self.error.code, "detail": str(self.error)} if self.error else {}
        return {**self.key._asdict(), "result": self.result, **self.facts, **error}


Act: TypeAlias = "Callable[[InstanceKey], str | Done]"
"""Returns the result or raises CtlError."""


def for_each(keys: Sequence[InstanceKey], act: Act, form: ResultFormat) -> int:
    """Calls `act` for one key after the other. Returns the exit code.

    When one target fails the next is tried, except when no controller answers or it wants other credentials.
    """
    return conclude(attempt_all(keys, act, form), form)


def attempt_all(keys: Sequence[InstanceKey], act: Act, form: ResultFormat) -> list[Outcome]:
    """As `for_each`, up to the lines: of each key what became of it."""
    outcomes: list[Outcome] = []
    for key in keys:
        outcomes.append(_attempt(key, act))
        show(outcomes[-1], form)
        if isinstance(outcomes[-1].error, ControllerUnreachable | NotAllowed):
            break
    return outcomes + not_tried(keys[len(outcomes) :])


def not_tried(keys: Sequence[InstanceKey]) -> list[Outcome]:
    """The outcomes of what is left out, which it says."""
    if keys:
        say(f"{len(keys)} not tried: {reference(keys[0])}{' and what follows' if len(keys) > 1 else ''}")
    return [Outcome(key, NOT_TRIED) for key in keys]


def conclude(outcomes: Sequence[Outcome], form: ResultFormat) -> int:
    """Prints what comes as one document. Returns the exit code."""
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


def show(outcome: Outcome, form: ResultFormat) -> None:
    """The line of one target, in the formats that have lines."""
    if isinstance(outcome.error, _OF_THE_CONTROLLER):
        say(str(outcome.error))
    elif outcome.error:
        say(f"{reference(outcome.key)}: {outcome.error}")
    if outcome.result == FAILED:
        return
    if form is ResultFormat.TEXT:
        print_lines([f"{reference(outcome.key)} {outcome.line or outcome.result}"])
    elif form is ResultFormat.NAME:
        print_lines([reference(outcome.key)])


def _attempt(key: InstanceKey, act: Act) -> Outcome:
    try:
        done = act(key)
    except CtlError as error:
        return Outcome(key, FAILED, error)
    if isinstance(done, str):
        return Outcome(key, done)
    return Outcome(key, done.result, done.error, done.line, done.facts)
