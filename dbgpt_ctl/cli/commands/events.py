"""`ctl events`: what happened to instances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.commands.event_query import Query, parse_since
from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.changes import COLUMNS, Flaps, line_of, row_of
from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.output.stdout import json_text, print_json, print_lines, wants_colour
from dbgpt_ctl.cli.output.table import plain
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbgpt_ctl.cli.watch.follow import Follower
    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.domain.events import Event

VERSION = 1
PAGE = 1000
_LAST, _LAST_FOLLOWED = 100, 10


class EventFormat(StrEnum):
    """The values of `-o`."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and the API's own object of it."""

    event: Event
    object: Mapping[str, Any]


Target = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME[@TYPE][/HOST:PORT]",
        autocompletion=candidates.models,
        show_default=False,
        help="Only this model, or this instance.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen, until Ctrl-C; over outages too.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="All from then on: 30m, 2h or 7d ago, or 2026-01-31T12:00:00Z."),
]
Limit = Annotated[
    str | None,
    typer.Option(
        "--limit", metavar="N", help="Only the last N. [default: 100; with --follow 10; with --since all there are]"
    ),
]


@takes_session
def events(
    target: Target = None,
    *,
    follow: Follow = False,
    since: Since = None,
    limit: Limit = None,
    output: Annotated[
        EventFormat,
        typer.Option("--output", "-o", help="How to print them: json is an array, with -f an object a line."),
    ] = EventFormat.TEXT,
    session: Session,
) -> None:
    """Show each change of state of the instances: when, from what to what, and who did it.

    The last events come last. The controller keeps them for 7 days, at most 10,000.
    """
    query, wanted = Query.parse(target), _parse_limit(limit, since=since, follow=follow)
    moment, ago = parse_since(since)
    with session.client() as client:
        if ago is not None:
            moment = (client.status().time or datetime.now().astimezone()) - ago
        query = replace(query, since=moment)
        found, cursor = _past(client, query, wanted)
        if follow:
            _follow(session, Following(client, query, cursor), found, output)
        elif output is EventFormat.JSON:
            print_json([each.object for each in found])
        else:
            _print(session, found, target)


def _print(session: Session, found: list[Told], target: str | None) -> None:
    if not found:
        session.say(f"no events{'' if target is None else f' of {quoted(target)}'}")
        return
    flaps = Flaps()
    rows = [row_of(each.event.change, flaps.note(each.event.change)) for each in found]
    print_lines(plain(COLUMNS, rows, headers=True, colour=wants_colour()))  # a reference in pieces could not be copied


def _follow(session: Session, following: Following, found: list[Told], output: EventFormat) -> None:
    from dbgpt_ctl.cli.watch.reader_gone import ends_with_its_reader

    flaps, colour = Flaps(), wants_colour()

    def tell(told: Told) -> None:
        change = told.event.change
        if not following.query.matches(change):
            return
        count = flaps.note(change)
        if output is EventFormat.JSON:
            print_lines([json_text({"version": VERSION, **told.object})])
        else:
            print_lines([line_of(change, count, colour=colour)])

    with ends_with_its_reader():
        for each in found:
            tell(each)
        for each in following.live(session):
            tell(each)


@dataclass(frozen=True, slots=True)
class Following:
    """Events as they come, from `cursor` on."""

    client: ControllerClient
    query: Query
    cursor: str

    def live(self, session: Session) -> Iterator[Told]:
        """Never ends. Over an outage none is lost but what the controllers have forgotten, which is said."""
        from dbgpt_ctl.cli.watch.follow import Follower, Outage, Position

        host = None if self.query.key is None else self.query.key.host
        follower = Follower(self.client, Outage(session.say), self.query.models.model_name, host, Position(self.cursor))
        known = self.cursor
        for watched in follower:
            if watched.kind == "change" and watched.event is not None:
                yield Told(watched.event, watched.object)
            elif watched.kind == "reset":
                session.say(f"some events may be missing here: {watched.reason or 'the controller has forgotten them'}")
                yield from self._caught_up(follower, known)
            known = follower.position.cursor or known

    def _caught_up(self, follower: Follower, known: str) -> list[Told]:
        """What is still to be had of what came after the cursor `known`; moves the follower to its end."""
        from dbgpt_ctl.cli.watch.follow import PAUSE_SECS, Position

        query, was = replace(self.query, since=None), Position(known)
        while True:
            try:
                stream = self.client.events(limit=1).stream
                found, cursor = _pages(self.client, query, was.number if was.stream == stream else 0)
            except (ControllerUnreachable, ControllerFailed) as error:
                follower.outage.begins(error)
                follower.sleep(PAUSE_SECS)
            else:
                follower.position.cursor = cursor
                return found


def _past(client: ControllerClient, query: Query, limit: int | None) -> tuple[list[Told], str]:
    """The last ones there are, in their order, and the cursor after them."""
    exact = query.models.name is None
    if exact and limit is not None and limit <= PAGE:
        page = client.events(**query.asked, limit=max(limit, 1))
        found = [Told(*pair) for pair in zip(page.events, page.objects, strict=True)]
        cursor = f"{page.stream}.{page.last_id}"
    else:
        found, cursor = _pages(client, query, 0)
    return (found if limit is None else found[len(found) - min(limit, len(found)) :]), cursor


def _pages(client: ControllerClient, query: Query, after: int) -> tuple[list[Told], str]:
    """All beyond the id `after`, and the cursor after them."""
    found: list[Told] = []
    while True:
        page = client.events(**query.asked, after=after, limit=PAGE)
        pairs = [Told(*pair) for pair in zip(page.events, page.objects, strict=True)]
        found += [each for each in pairs if query.matches(each.event.change)]
        if len(pairs) < PAGE:
            return found, f"{page.stream}.{page.last_id}"
        after = pairs[-1].event.id


def _parse_limit(text: str | None, *, since: str | None, follow: bool) -> int | None:
    if text is None:
        return None if since is not None else _LAST_FOLLOWED if follow else _LAST
    if not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004
        raise UsageError(f"--limit {quoted(text)} is not a whole number such as 50")
    return int(text)
