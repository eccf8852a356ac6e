"""Following changes over reconnects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.watch.follow import Follower, OutageNotice, Position
from dbgpt_ctl.client.results import Watched
from dbgpt_ctl.errors import ControllerUnreachable, NotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterator


class Script:
    """A client with given watches, which records the cursors of the calls."""

    def __init__(self, *watches: list[Watched | Exception]) -> None:
        self.watches = list(watches)
        self.cursors: list[str | None] = []

    def watch(self, **arguments: str | None) -> Iterator[Watched]:
        self.cursors.append(arguments["cursor"])
        if not self.watches:
            raise KeyboardInterrupt
        for item in self.watches.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


def change(cursor: str) -> Watched:
    return Watched("change", cursor)


def followed(script: Script, printed: list[str], cursor: str | None = None, **more: Any) -> list[Watched]:
    client: Any = script
    outage = OutageNotice(printed.append, monotonic=lambda: 0.0)
    found: list[Watched] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(Follower(client, outage, position=Position(cursor), sleep=lambda _: None, **more))
    return found


def test_no_change_twice_and_none_lost_over_a_reconnect() -> None:
    gone = ControllerUnreachable("gone")
    script = Script(
        [Watched("ready", "s.7"), change("s.8"), gone],
        [gone],
        [Watched("ready", "s.8"), change("s.8"), change("s.9"), Watched("leaving")],
        [Watched("ready", "s.9"), Watched("dropped")],
        [Watched("ready", "t.0"), Watched("reset", "t.3"), change("t.4")],
    )
    printed: list[str] = []
    found = followed(script, printed)
    assert [watched.cursor for watched in found if watched.kind == "change"] == ["s.8", "s.9", "t.4"]
    assert script.cursors == [None, "s.8", "s.8", "s.9", "s.9", "t.4"]
    assert printed[:2] == ["gone; waiting until one answers", "the controller answers again, after 0s"]


def test_without_awaits_first_the_error_of_the_first_connection_is_raised() -> None:
    client: Any = Script([ControllerUnreachable("gone")])
    with pytest.raises(ControllerUnreachable):
        next(iter(Follower(client, OutageNotice(lambda _: None), awaits_first=False)))


def test_a_refusal_ends_the_watch_also_when_it_comes_with_a_reconnect() -> None:
    """A token that is revoked stays so: to try for ever would hide it."""
    script: Any = Script([Watched("ready", "s.7"), change("s.8")], [NotAllowed("401 revoked")])
    with pytest.raises(NotAllowed):
        list(Follower(script, OutageNotice(lambda _: None), sleep=lambda _: None))
