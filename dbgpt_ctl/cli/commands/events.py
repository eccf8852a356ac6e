"""`ctl events`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import argument, output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.changes import COLUMNS, Flaps, line_of, outage_row, row_of
from dbgpt_ctl.cli.output.stdout import OutputFormat, json_text, print_json, print_lines, wants_colour
from dbgpt_ctl.cli.output.table import plain
from dbgpt_ctl.domain.events import ActorKind, EventFilter
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.references import parse_reference
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, UsageError
from dbgpt_ctl.text.escaping import quoted, unescaped
from dbgpt_ctl.text.times import parse_duration, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dbgpt_ctl.cli.watch.follow import Follower
    from dbgpt_ctl.client.results import EventReport
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.registry_outage import Hold

T = TypeVar("T")

PAGE = 1000
LONGEST_DAYS = 366
EventItem: TypeAlias = "tuple[Event, Mapping[str, Any]]"
"""An event, parsed and as the API's own object."""
_DEFAULT_LIMIT, _DEFAULT_LIMIT_OF_FOLLOW = 100, 10

Target = Annotated[
    str | None, argument("NAME[@TYPE][/HOST:PORT]", candidates.models, "Only this model, or this instance.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Also print new events as they happen, until Ctrl-C.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="All events since then: 30m, 2h or 7d ago, or 2026-01-31T12:00:00Z."),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="NAME",
        autocompletion=candidates.one_of(ActorKind),
        help="Only by callers with the token of this name, or by all operators, workers, expiry or housekeeping: "
        f"{', '.join(ActorKind)}.",
    ),
]
Limit = Annotated[
    str | None,
    typer.Option(
        "--limit",
        metavar="N",
        help="Most events to show, the newest ones.  [default: 100; with --follow 10; with --since all there are]",
    ),
]
Output = Annotated[
    OutputFormat,
    output_option("text", "json", help="Format of the events; json is an array, with -f an object on each line."),
]


@explained(
    "ctl events qwen2.5 --since 2h",
    "ctl events qwen2.5@llm/10.0.0.4:8001",
    "ctl events --by operator --since 14d",
    "ctl events --follow -o json",
)
@takes_session
def events(
    target: Target = None,
    *,
    follow: Follow = False,
    since: Since = None,
    by: By = None,
    limit: Limit = None,
    output: Output = OutputFormat.TEXT,
    session: Session,
) -> None:
    """Show the changes of instances: of their states and drains.

    An event has a time, an old and a new state, and a cause. The newest event comes last. The controller keeps what
    operators do for 30 days, and other events for 7 days, at most 10,000. The table of all events also has the outages
    of the registry. With --follow, outages do not end the command.
    """
    wanted, number = _parse_target(target), _parse_limit(limit, since=since, follow=follow)
    start, age = parse_since(since)
    with session.client() as client:
        if age is not None:
            start = (client.status().time or session.clock.now()) - age
        wanted = wanted._replace(since=start, by=None if by is None else unescaped(by))
        past, page = _read_past(client, wanted, number)
        _say_what_is_lost(session, page, wanted, complete=len(past) == number)
        if follow:
            _follow(session, LiveEvents(client, wanted._replace(since=None), _cursor_after(page)), past, output)
        elif output is OutputFormat.JSON:
            print_json([found for _, found in past])
        else:
            rows = _rows(past)
            if target is None and by is None:
                status = client.status()
                outages = [hold for hold in status.holds if start is None or hold.back_at >= start]
                _insert_outages(rows, past, outages, status.time or session.clock.now())
            _print_table(session, _last(rows, number), target)


def _parse_target(word: str | None) -> EventFilter:
    """From a reference, NAME or NAME@TYPE. Raises UsageError."""
    if word is None:
        return EventFilter()
    try:
        return EventFilter.of(parse_reference(word))
    except UsageError:
        if "/" in word and ":" in word.rpartition("/")[2]:
            raise
    models = ModelFilter.parse(word)
    return EventFilter(models.model_name, models.name)


def parse_since(text: str | None) -> tuple[datetime | None, timedelta | None]:
    """A time, or an age relative to the registry's clock. Raises UsageError."""
    if text is None:
        return None, None
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None, timedelta(seconds=parse_duration("--since", text, longest_days=LONGEST_DAYS))
    if time.tzinfo is None:
        raise UsageError(f"--since {quoted(text)} has no time zone: end it with Z, or with an offset such as +02:00")
    return time, None


def _parse_limit(text: str | None, *, since: str | None, follow: bool) -> int | None:
    if text is None:
        return None if since is not None else _DEFAULT_LIMIT_OF_FOLLOW if follow else _DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004
        raise UsageError(f"--limit {quoted(text)} is not a whole number such as 50")
    return int(text)


def _say_what_is_lost(session: Session, page: EventReport, wanted: EventFilter, *, complete: bool) -> None:
    """Unless the answer is `complete` without them: no events, and events that are no longer kept, are not the same."""
    of_operators = page.operator_complete_since
    lost_before = of_operators if wanted.by == ActorKind.OPERATOR else page.complete_since
    if lost_before is None or (complete if wanted.since is None else wanted.since >= lost_before):
        return
    but = ""
    if wanted.by != ActorKind.OPERATOR:
        but = f", except those of operators{f' since {utc_text(of_operators)}' if of_operators else ''}"
    session.say(f"some events before {utc_text(lost_before)} are no longer kept{but}")


def _rows(items: list[EventItem]) -> list[list[str]]:
    flaps = Flaps()
    return [row_of(event.change, flaps.add(event.change)) for event, _ in items]


def _insert_outages(rows: list[list[str]], items: list[EventItem], outages: Sequence[Hold], now: datetime) -> None:
    """Each before the row of the first of `items` that is later."""
    for hold in reversed(outages):
        later = (number for number, (event, _) in enumerate(items) if event.change.time >= hold.gone_at)
        rows.insert(next(later, len(items)), outage_row(hold, now))


def _print_table(session: Session, rows: list[list[str]], target: str | None) -> None:
    if not rows:
        session.say(f"no events{'' if target is None else f' of {quoted(target)}'}")
        return
    print_lines(plain(COLUMNS, rows, headers=True, colour=wants_colour()))  # folded references cannot be copied


def _follow(session: Session, live: LiveEvents, past: list[EventItem], output: OutputFormat) -> None:
    from dbgpt_ctl.cli.output.signals import ends_with_reader

    flaps, colour = Flaps(), wants_colour()
    with ends_with_reader():
        for event, found in chain(past, live.follow(session)):
            if not live.wanted.matches(event.change):
                continue
            count = flaps.add(event.change)
            if output is OutputFormat.JSON:
                print_lines([json_text({"version": 1, **found})])
            else:
                print_lines([line_of(event.change, count, colour=colour)])


@dataclass(frozen=True, slots=True)
class LiveEvents:
    """Events after `cursor`, as they happen."""

    client: ControllerClient
    wanted: EventFilter
    cursor: str

    def follow(self, session: Session) -> Iterator[EventItem]:
        """Never ends. After an outage it continues where it was, and prints a line where events are lost."""
        from dbgpt_ctl.cli.watch.follow import Follower, OutageNotice, Position

        outage = OutageNotice(session.say)
        follower = Follower(self.client, outage, self.wanted.model_name, self.wanted.host, Position(self.cursor))
        last_cursor = self.cursor
        for watched in follower:
            if watched.kind == "change" and watched.event is not None:
                yield watched.event, watched.object
            elif watched.kind == "reset":
                reason = watched.reason or "the controller no longer has them"
                session.say(f"some events may be missing here: {reason}")
                yield from self._catch_up(follower, last_cursor)
            last_cursor = follower.position.cursor or last_cursor

    def _catch_up(self, follower: Follower, last_cursor: str) -> list[EventItem]:
        """The events after `last_cursor` that the controller still has. Moves the follower behind them."""
        from dbgpt_ctl.cli.watch.follow import PAUSE_SECS, Position

        last = Position(last_cursor)
        while True:
            try:
                stream = self.client.events(limit=1).stream
                items, page = _read_pages(self.client, self.wanted, last.number if last.stream == stream else 0)
            except (ControllerUnreachable, ControllerFailed) as error:
                follower.outage.begin(error)
                follower.sleep(PAUSE_SECS)
            else:
                follower.position.cursor = _cursor_after(page)
                return items


def _read_past(client: ControllerClient, wanted: EventFilter, limit: int | None) -> tuple[list[EventItem], EventReport]:
    """The last events in their order, and the last page."""
    if limit is not None and limit <= PAGE:
        page = client.events(where=wanted, limit=max(limit, 1))
        items = list(page.items)
    else:
        items, page = _read_pages(client, wanted, 0)
    return _last(items, limit), page


def _last(items: list[T], limit: int | None) -> list[T]:
    return items if limit is None else items[len(items) - min(limit, len(items)) :]


def _read_pages(client: ControllerClient, wanted: EventFilter, after: int) -> tuple[list[EventItem], EventReport]:
    """All events with an id greater than `after`, and the last page."""
    items: list[EventItem] = []
    while True:
        page = client.events(where=wanted, after=after, limit=PAGE)
        items += page.items
        if page.next_after >= page.last_id:
            return items, page
        after = page.next_after


def _cursor_after(page: EventReport) -> str:
    return f"{page.stream}.{page.last_id}"
