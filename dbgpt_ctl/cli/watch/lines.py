"""`ctl models list --watch`: what there is, and each change, until Ctrl-C."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.commands.models.list import inventory, time_of
from dbgpt_ctl.cli.diagnosis.report import list_warnings
from dbgpt_ctl.cli.output.changes import Flaps, line_of, reference_of
from dbgpt_ctl.cli.output.instances import STATE_COLOURS, utc
from dbgpt_ctl.cli.output.stdout import Format, is_terminal, json_text, print_lines, wants_colour
from dbgpt_ctl.cli.output.table import GAP, coloured
from dbgpt_ctl.cli.parsing.instance_filter import sort_key
from dbgpt_ctl.cli.watch.follow import Follower, Outage
from dbgpt_ctl.domain.events import ABSENT, EXPIRY, Cause, Change
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, NotSupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.cli.parsing.instance_filter import Selection, SortKey
    from dbgpt_ctl.client import ControllerClient, Inventory, KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey

VERSION = 1
EVERY_SECS = 2.0
_UNSEEN = Cause("", EXPIRY)
"""Of a change that two lists show, and nobody told of."""


def watch_instances(
    session: Session, wanted: Selection, *, form: Format, sort_by: SortKey | None, every: float | None, headers: bool
) -> None:
    """On a terminal table and wide are drawn anew; all else is a line for each instance and for each change.

    Ends with KeyboardInterrupt, PipeClosed, or what a controller refuses.
    """
    if form in (Format.YAML, Format.CSV):
        raise UsageError(f"--watch goes with -o table, wide, json or name, not with {form}")
    seconds = EVERY_SECS if every is None else every
    if is_terminal() and form in (Format.TABLE, Format.WIDE):
        from dbgpt_ctl.cli.watch.screen import redraw

        key = None if sort_by is None else sort_key(sort_by)
        return redraw(session, wanted, form=form, sort=key, every=seconds, headers=headers)
    from dbgpt_ctl.cli.watch.reader_gone import ends_with_its_reader

    with session.client() as client, ends_with_its_reader():
        return Lines(session, client, wanted, form).run(seconds)


class Lines:
    """A line for each instance at first, then one for each change. Knows the state of each that it told of."""

    def __init__(self, session: Session, client: ControllerClient, wanted: Selection, form: Format) -> None:
        self._session = session
        self._client = client
        self._wanted = wanted
        self._form = form
        self._states: dict[InstanceKey, str] = {}
        self._listed_at: datetime | None = None
        self._flaps = Flaps()
        self._colour = wants_colour()
        self._outage = Outage(session.say)
        self._begun = False

    def run(self, every: float) -> None:
        """Never returns. Raises what keeps it from its first list; goes on over outages afterwards."""
        try:
            self._follow()
        except NotSupported:
            self._poll(every)

    def _follow(self) -> None:
        models, host = self._wanted.models, self._wanted.host
        follower = Follower(self._client, self._outage, models.model_name, host, patient=False)
        for watched in follower:
            if watched.kind == "reset" or (watched.kind == "ready" and not self._begun):
                self._list_in_time()
            elif watched.event is not None:
                self._changed(watched.event.change, watched.object)

    def _list_in_time(self) -> None:
        from dbgpt_ctl.cli.watch.follow import PAUSE_SECS

        while not self._list():
            time.sleep(PAUSE_SECS)

    def _poll(self, every: float) -> None:
        while True:
            self._list()
            time.sleep(every)

    def _list(self) -> bool:
        """Tells what is there and was not told yet. False: nobody answered."""
        try:
            answer = inventory(self._client, self._wanted)
        except (ControllerUnreachable, ControllerFailed) as error:
            if not self._begun:
                raise
            self._outage.begins(error)
            return False
        self._outage.ends()
        now = self._listed_at = time_of(answer)
        if not self._begun:
            for line in list_warnings(answer, now):
                self._session.say(line)
            self._begin(answer, now)
        else:
            self._compare(answer, now)
        return True

    def _begin(self, answer: Inventory, now: datetime) -> None:
        self._begun = True
        shown = 0
        for each in answer.instances:
            self._states[each.key] = each.state
            if self._wanted.matches(each):
                shown += 1
                self._tell_instance(each, now)
        if self._form is Format.JSON:
            self._print({"type": "synced", "time": now.isoformat(), "instances": shown})

    def _tell_instance(self, each: KnownInstance, now: datetime) -> None:
        if self._form is Format.JSON:
            about = {"type": "instance", "time": now.isoformat(), **each.key._asdict(), "state": each.state}
            return self._print({**about, "instance": each.object})
        if self._form is Format.NAME:
            return print_lines([reference_of(each.key)])
        colour = STATE_COLOURS.get(each.state) if self._colour else None
        return print_lines([GAP.join([utc(now), reference_of(each.key), coloured(each.state, colour)])])

    def _compare(self, answer: Inventory, now: datetime) -> None:
        """What changed between two lists, and nobody told how."""
        states: dict[InstanceKey, str] = {each.key: each.state for each in answer.instances}
        for key in sorted(self._states.keys() | states.keys()):
            old, new = self._states.get(key, ABSENT), states.get(key, ABSENT)
            if old != new:
                self._tell_change(Change(now, key, old, new, _UNSEEN), {})
        self._states = states

    def _changed(self, change: Change, fields: Mapping[str, Any]) -> None:
        key, known = change.key, self._states.get(change.key, ABSENT)
        if self._listed_at is not None and change.time <= self._listed_at and known == change.new:
            return  # the list held it already
        if change.new == ABSENT:
            self._states.pop(key, None)
        else:
            self._states[key] = change.new
        self._tell_change(change, fields)

    def _tell_change(self, change: Change, fields: Mapping[str, Any]) -> None:
        at, key, states = change.time, change.key, self._wanted.states
        if not self._wanted.is_about(key.model_name, key.host) or (states and not states & {change.old, change.new}):
            return
        if self._form is Format.JSON:
            cause = {name: fields.get(name) for name in ("id", "verb", "actor", "address", "reason")}
            about = {"type": "change", "time": at.isoformat(), **key._asdict(), "old": change.old, "new": change.new}
            self._print({**about, **cause})
        elif self._form is Format.NAME:
            print_lines([reference_of(key)])
        else:
            print_lines([line_of(change, self._flaps.note(change), colour=self._colour)])

    def _print(self, fields: Mapping[str, Any]) -> None:
        print_lines([json_text({"version": VERSION, **fields})])
