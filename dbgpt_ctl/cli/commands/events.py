"""`ctl events`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import argument, output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.changes import COLUMNS, Flaps, line_of, row_of
from dbgpt_ctl.cli.output.escaping import quoted
from dbgpt_ctl.cli.output.stdout import OutputFormat, json_text, print_json, print_lines, wants_colour
from dbgpt_ctl.cli.output.table import plain
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.instance_filter import ModelFilter
from dbgpt_ctl.cli.parsing.references import parse_reference
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbgpt_ctl.cli.watch.follow import Follower
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.events import Change, Event
    from dbgpt_ctl.domain.instance import InstanceKey

VERSION = 1
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
    "ctl events --follow -o json",
)
@takes_session
def events(
    target: Target = None,
    *,
    follow: Follow = False,
    since: Since = None,
    limit: Limit = None,
    output: Output = OutputFormat.TEXT,
    session: Session,
) -> None:
    """Show the changes of instances: of their states and drains.

    An event has a time, an old and a new state, and a cause. The newest event comes last. The controller keeps events
    for 7 days, at most 10,000. With --follow, outages do not end the command.
    """
    wanted, number = EventFilter.parse(target), _parse_limit(limit, since=since, follow=follow)
    start, age = parse_since(since)
    with session.client() as client:
        if age is not None:
            start = (client.status().time or session.clock.now()) - age
        wanted = replace(wanted, since=start)
        past, cursor = _read_past(client, wanted, number)
        if follow:
            _follow(session, LiveEvents(client, wanted, cursor), past, output)
        elif output is OutputFormat.JSON:
            print_json([found for _, found in past])
        else:
            _print_table(session, past, target)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events of one instance, of one model, or all."""

    key: InstanceKey | None = None
    models: ModelFilter = field(default_factory=ModelFilter)
    since: datetime | None = None

    @classmethod
    def parse(cls, word: str | None) -> EventFilter:
        """From a reference, NAME or NAME@TYPE. Raises UsageError."""
        if word is None:
            return cls()
        try:
            key = parse_reference(word)
        except UsageError:
            if "/" in word and ":" in word.rpartition("/")[2]:
                raise
            return cls(models=ModelFilter.parse(word))
        return cls(key, ModelFilter(model_name=key.model_name))

    def matches(self, change: Change) -> bool:
        """For a NAME without a type, which a controller cannot filter by."""
        return self.key in (None, change.key) and self.models.matches(change.key.model_name)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments for `client.events`."""
        host, port = (None, None) if self.key is None else self.key[1:]
        return {"model_name": self.models.model_name, "host": host, "port": port, "since": self.since}


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


def _print_table(session: Session, items: list[EventItem], target: str | None) -> None:
    if not items:
        session.say(f"no events{'' if target is None else f' of {quoted(target)}'}")
        return
    flaps = Flaps()
    rows = [row_of(event.change, flaps.add(event.change)) for event, _ in items]
    print_lines(plain(COLUMNS, rows, headers=True, colour=wants_colour()))  # folded references cannot be copied


def _follow(session: Session, live: LiveEvents, past: list[EventItem], output: OutputFormat) -> None:
    from dbgpt_ctl.cli.output.closed_pipe import ends_with_reader

    flaps, colour = Flaps(), wants_colour()
    with ends_with_reader():
        for event, found in chain(past, live.follow(session)):
            if not live.wanted.matches(event.change):
                continue
            count = flaps.add(event.change)
            if output is OutputFormat.JSON:
                print_lines([json_text({"version": VERSION, **found})])
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
        from dbgpt_ctl.cli.watch.follow import Follower, Outage, Position

        host = None if self.wanted.key is None else self.wanted.key.host
        outage = Outage(session.say)
        follower = Follower(self.client, outage, self.wanted.models.model_name, host, Position(self.cursor))
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

        wanted, last = replace(self.wanted, since=None), Position(last_cursor)
        while True:
            try:
                stream = self.client.events(limit=1).stream
                items, cursor = _read_pages(self.client, wanted, last.number if last.stream == stream else 0)
            except (ControllerUnreachable, ControllerFailed) as error:
                follower.outage.begin(error)
                follower.sleep(PAUSE_SECS)
            else:
                follower.position.cursor = cursor
                return items


def _read_past(client: ControllerClient, wanted: EventFilter, limit: int | None) -> tuple[list[EventItem], str]:
    """The last events in their order, and the cursor after them."""
    controller_filters = wanted.models.name is None
    if controller_filters and limit is not None and limit <= PAGE:
        page = client.events(**wanted.arguments, limit=max(limit, 1))
        items = list(page.items)
        cursor = f"{page.stream}.{page.last_id}"
    else:
        items, cursor = _read_pages(client, wanted, 0)
    return (items if limit is None else items[len(items) - min(limit, len(items)) :]), cursor


def _read_pages(client: ControllerClient, wanted: EventFilter, after: int) -> tuple[list[EventItem], str]:
    """All events with an id greater than `after`, and the cursor after them."""
    items: list[EventItem] = []
    while True:
        page = client.events(**wanted.arguments, after=after, limit=PAGE)
        items += [(event, found) for event, found in page.items if wanted.matches(event.change)]
        if len(page.events) < PAGE:
            return items, f"{page.stream}.{page.last_id}"
        after = page.events[-1].id
