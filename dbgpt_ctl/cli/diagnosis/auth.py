"""What each controller reports of its tokens and refusals, and whether enforce mode would refuse anybody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import Mode, Reason
from dbgpt_ctl.errors import ControllerError
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.client.status import AuthReport
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.wire.auth import Tally


@dataclass(frozen=True, slots=True)
class Since:
    """From when on requests count: a time, an age by the clock of the registry, or neither for all requests."""

    start: datetime | None = None
    age: timedelta | None = None

    def begin_at(self, auth: AuthReport) -> datetime | None:
        """The first moment that counts at this controller; None: every moment does."""
        return self.start if self.age is None else auth.time - self.age


@dataclass(frozen=True, slots=True)
class ControllerAuth:
    """What one controller reports, or why it does not."""

    url: str
    auth: AuthReport | None
    failure: ControllerError | None = None

    def seen(self, since: Since) -> ControllerAuth:
        """With those rows only that were seen since then."""
        begin = None if self.auth is None else since.begin_at(self.auth)
        if self.auth is None or begin is None:
            return self
        return replace(self, auth=self.auth.since(begin))


def collect_auth(session: Session, since: Since) -> list[ControllerAuth]:
    """The report of each controller, with the rows that were seen since then."""
    from dbgpt_ctl.cli.diagnosis.collect import of_each_controller

    def ask(client: ControllerClient, url: str) -> ControllerAuth:
        try:
            return ControllerAuth(url, client.auth()).seen(since)
        except ControllerError as error:
            return ControllerAuth(url, None, error)

    return of_each_controller(session, ask)


def is_refusal(row: Tally) -> bool:
    """Whether enforce mode refuses these requests; a reason of a newer release counts as one."""
    return row.reason != Reason.OLD_TOKEN


def differences(controllers: Sequence[ControllerAuth]) -> list[str]:
    """In what the controllers differ, a line each."""
    modes: dict[str, list[str]] = {}
    digests: dict[str, list[str]] = {}
    for controller in controllers:
        if controller.auth is not None:
            modes.setdefault(controller.auth.mode, []).append(controller.url)
            digests.setdefault(controller.auth.digest or "none", []).append(controller.url)
    return [
        f"the controllers differ in their {what}: "
        + "; ".join(f"{value} at {', '.join(urls)}" for value, urls in places.items())
        for what, places in (("mode", modes), ("tokens", digests))
        if len(places) > 1
    ]


def why_nothing_is_counted(auth: AuthReport) -> str:
    """Of a controller in mode off: how to make it count."""
    if auth.digest is None:
        return (
            "nothing is counted in mode off, and it reads no tokens file: restart it with --tokens-file and --auth log"
        )
    return "nothing is counted in mode off; to count, type: ctl auth mode log"


def unmet_conditions(controllers: Sequence[ControllerAuth], since: Since) -> Iterator[str]:
    """Why it is not known that enforce mode refuses nobody, a line each; none if it is known."""
    for controller in controllers:
        if controller.failure is not None:
            yield str(controller.failure)
        elif controller.auth is not None:
            lines = _unmet_at(controller.auth, since.begin_at(controller.auth))
            yield from (f"{controller.url}: {line}" for line in lines)
    yield from differences(controllers)


def _unmet_at(auth: AuthReport, begin: datetime | None) -> Iterator[str]:
    if auth.mode == Mode.OFF:
        yield why_nothing_is_counted(auth)
        return
    if auth.problem is not None:
        yield f"its tokens file is not in force: {auth.problem}"
    if begin is not None and auth.refusals.since > begin:
        counted = duration_text((auth.time - auth.refusals.since).total_seconds())
        missing = duration_text((auth.refusals.since - begin).total_seconds() + 1)
        yield f"it has counted for {counted} only; ask again in {missing}"
    if refused := [row for row in auth.counted if is_refusal(row)]:
        requests = sum(row.count for row in refused)
        ago = duration_text((auth.time - max(row.last for row in refused)).total_seconds())
        verb = "would refuse" if auth.mode == Mode.LOG else "refused"
        yield f"enforce mode {verb} {requests:,} {'request' if requests == 1 else 'requests'}, the last one {ago} ago"
