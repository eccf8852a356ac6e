"""`ctl status`: the controllers, their registry, and what is registered, on one screen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import print_json, print_lines, print_yaml
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import ControllerError, ControllerUnreachable, CtlError, ErrorKind, NotAllowed, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.client.details import ControllerStatus, KnownInstance

VERSION = 1


class StatusFormat(StrEnum):
    """The values of `-o`."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Told:
    """What one controller said of itself, or why it said nothing. `latency`: seconds; None without an answer."""

    controller: str
    status: ControllerStatus | None = None
    latency: float | None = None
    error: ControllerError | None = None

    @property
    def word(self) -> str:
        """`up`, `leaving`, `not ready`, `down`, or `unknown` for one that answers and says nothing of itself."""
        if self.status is None:
            return "down" if isinstance(self.error, ControllerUnreachable) else "unknown"
        if self.status.leaving:
            return "leaving"
        return "up" if self.status.ready else "not ready"

    def as_object(self) -> dict[str, Any]:
        """For json and yaml."""
        of = self.status
        started = None if of is None or of.started_at is None else of.started_at.isoformat()
        return {
            "controller": self.controller,
            "status": self.word,
            "latency_secs": None if self.latency is None else round(self.latency, 6),
            "version": of.version if of else None,
            "started_at": started,
            "registry": of.object["registry"] if of else None,
            "detail": str(self.error) if self.error else None,
        }


@dataclass(frozen=True, slots=True)
class Overview:
    """What all controllers told; `first` is the status that counts for the cluster."""

    controllers: list[Told]
    first: ControllerStatus
    odd: list[KnownInstance]
    """Those that are drained or deregistered, with all their facts."""


@takes_session
def status(
    *,
    output: Annotated[StatusFormat, typer.Option("--output", "-o", help="How to print it.")] = StatusFormat.TEXT,
    session: Session,
) -> None:
    """Show the state of the cluster: controllers, registry, models, and what needs a look.

    Exits with 3 if no controller answers.
    """
    told = _ask_all(session)
    first = next((each.status for each in sorted(told, key=_rank) if each.status), None)
    if first is None:
        raise _why_none(told)
    overview = Overview(told, first, _odd(session, first))
    from dbgpt_ctl.cli.diagnosis.status_warnings import warnings_of

    warnings = warnings_of(overview)
    document = {
        "version": VERSION,
        "time": first.time.isoformat() if first.time else None,
        "controllers": [each.as_object() for each in told],
        "registry": first.object["registry"],
        "settings": first.object["settings"],
        "stale_since": first.object["stale_since"],
        "held_until": first.object["held_until"],
        "models": first.object["models"],
        "warnings": [{"kind": each.kind, "subject": each.subject, "detail": each.detail} for each in warnings],
    }
    match output:
        case StatusFormat.JSON:
            print_json(document)
        case StatusFormat.YAML:
            print_yaml(document)
        case StatusFormat.TEXT:
            from dbgpt_ctl.cli.commands.status_screen import screen

            print_lines(screen(overview, warnings))


def _ask_all(session: Session) -> list[Told]:
    """All at once, each for the whole of --request-timeout, in the order of the address."""
    urls = [each.url for each in session.settings.addresses]

    def ask(url: str) -> Told:
        with session.client(url) as client:
            return _ask(client, url, time.monotonic)

    if len(urls) == 1:
        return [ask(urls[0])]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(urls)) as threads:
        return list(threads.map(ask, urls))


def _ask(client: ControllerClient, url: str, monotonic: Callable[[], float]) -> Told:
    began = monotonic()
    try:
        found = client.status()
    except ControllerError as error:
        return Told(url, error=error)
    return Told(url, found, monotonic() - began)


def _rank(told: Told) -> int:
    """The one that knows most comes first."""
    return ("up", "leaving", "not ready", "unknown", "down").index(told.word)


def _why_none(told: list[Told]) -> ControllerError:
    """One error for all controllers: that of one that answers, if any does."""
    errors = [each.error for each in told if each.error]
    for error in errors:
        if isinstance(error, NotAllowed):
            return error
    for error in errors:
        if isinstance(error, NotSupported):
            return error.advised("ctl health and ctl models list show what it reports")
    answered = next((error for error in errors if not isinstance(error, ControllerUnreachable)), None)
    if answered is not None:
        return answered
    gravest = next((error for error in errors if error.kind is ErrorKind.NO_ANSWER), errors[0])
    attempts = [attempt for error in errors for attempt in error.attempts]
    return ControllerUnreachable.of_attempts(attempts, gravest.kind, gravest.advice)


def _odd(session: Session, first: ControllerStatus) -> list[KnownInstance]:
    """Asked for only where there are some. What cannot be had is left out: the screen is worth more than a warning."""
    found: list[KnownInstance] = []
    with session.client(first.controller) as client:
        for state in (InstanceState.DRAINED, InstanceState.DEREGISTERED):
            if any(getattr(each, state) for each in first.models):
                try:
                    found += client.instances(state=state).instances
                except CtlError:
                    continue
    return found
