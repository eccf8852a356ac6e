"""Runs an action on several instances: one line of result for each, and one exit code for all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from dbgpt_ctl.cli.output.stdout import OutputFormat, print_document, print_lines, say
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, CtlError, NotAllowed, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from dbgpt_ctl.domain.instance import InstanceKey

_CONTROLLER_ERRORS = (ControllerUnreachable, ControllerFailed, NotAllowed)
"""The cause of these is the controller and not the instance."""
FAILED, NOT_TRIED = "failed", "not tried"
AT_ONCE = 16
"""Actions at the same time. A database stores those that come together in one transaction."""
_ONE_MORE_AFTER = 8
"""After so many outcomes, one action more is under way. So a few actions follow one another, and a failure that all of
them would meet is met by few.
"""


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
"""Returns the result or raises CtlError. Several threads call it at the same time, each with another key."""


def run_for_each(keys: Sequence[InstanceKey], action: Action, form: OutputFormat) -> int:
    """Runs the action on the instances, of many on several at the same time, and prints the outcomes in the order of
    the keys. Returns the exit code.

    A failure does not end it, except when no controller answers or the controller does not accept the credentials.
    """
    return conclude(attempt_all(keys, action, form), form)


def attempt_all(keys: Sequence[InstanceKey], action: Action, form: OutputFormat) -> list[Outcome]:
    """The outcome for each key. Prints the lines of text and name, but no document and no exit code."""
    outcomes: list[Outcome] = []
    for outcome in _attempts(keys, action) if len(keys) > _ONE_MORE_AFTER else _attempts_in_turn(keys, action):
        outcomes.append(outcome)
        print_outcome(outcome, form)
    return outcomes + not_tried(keys[len(outcomes) :])


def _attempts_in_turn(keys: Sequence[InstanceKey], action: Action) -> Iterator[Outcome]:
    """The outcomes in the order of the keys, up to one that ends all."""
    for key in keys:
        yield (outcome := _attempt(key, action))
        if _ends_all(outcome):
            return


def _attempts(keys: Sequence[InstanceKey], action: Action) -> Iterator[Outcome]:
    """The same by several threads. After an outcome that ends all, only the actions under way are finished."""
    from concurrent.futures import ThreadPoolExecutor

    left, under_way, done = iter(keys), deque["Future[Outcome]"](), 0
    with ThreadPoolExecutor(AT_ONCE) as threads:
        while True:
            free = min(AT_ONCE, 1 + done // _ONE_MORE_AFTER) - len(under_way)
            under_way += [threads.submit(_attempt, key, action) for key in islice(left, max(free, 0))]
            if not under_way:
                return
            yield (outcome := under_way.popleft().result())
            done += 1
            if _ends_all(outcome):
                left = iter(())


def _attempt(key: InstanceKey, action: Action) -> Outcome:
    try:
        done = action(key)
    except CtlError as error:
        return Outcome(key, FAILED, error)
    return Outcome(key, done) if isinstance(done, str) else done


def _ends_all(outcome: Outcome) -> bool:
    return isinstance(outcome.error, ControllerUnreachable | NotAllowed)


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
