"""`ctl models list --watch` in a pipe: a line for each instance, then a line for each change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.cli.diagnosis.caveats import warn_of_caveats
from dbgpt_ctl.cli.output.changes import Flaps, line_of
from dbgpt_ctl.cli.output.instances import coloured_state, identity_object
from dbgpt_ctl.cli.output.stdout import OutputFormat, json_text, print_lines, wants_colour
from dbgpt_ctl.cli.output.table import GAP
from dbgpt_ctl.cli.watch.follow import PAUSE_SECS, Follower, OutageNotice
from dbgpt_ctl.client.results import state_text
from dbgpt_ctl.domain.events import ABSENT, EXPIRY, Cause, Change
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, NotSupported
from dbgpt_ctl.text.times import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from dbgpt_ctl.cli.documents.instances import ChangeLine, ListedLine, SyncedLine
    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.client.results import Inventory, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.filters import InstanceFilter
    from dbgpt_ctl.domain.instance import InstanceKey

_UNKNOWN_CAUSE = Cause("", EXPIRY)
"""The cause of a change that two lists show and no event reported."""


class KnownState(NamedTuple):
    """What a line says of an instance: its state, and whether it is drained."""

    state: str
    drained: bool


GONE = KnownState(ABSENT, drained=False)


class LineWatch:
    """Prints the instances and then their changes. It knows the last printed state of each instance."""

    def __init__(self, session: Session, client: ControllerClient, wanted: InstanceFilter, form: OutputFormat) -> None:
        self._session = session
        self._client = client
        self._wanted = wanted
        self._form = form
        self._known: dict[InstanceKey, KnownState] = {}
        self._listed_at: datetime | None = None
        self._flaps = Flaps()
        self._colour = wants_colour()
        self._outage = OutageNotice(session.say)

    def run(self, interval: float) -> None:
        """Never returns. Raises the error of the first list; outages after it do not end the watch.

        `interval` is in seconds, for a controller without events.
        """
        try:
            self._follow()
        except NotSupported:
            self._poll(interval)

    def _follow(self) -> None:
        models, host = self._wanted.models, self._wanted.host
        for watched in Follower(self._client, self._outage, models.model_name, host, awaits_first=False):
            if watched.kind == "reset" or (watched.kind == "ready" and self._listed_at is None):
                while not self._list():
                    time.sleep(PAUSE_SECS)
            elif watched.event is not None:
                self._on_change(watched.event.change, watched.object)

    def _poll(self, interval: float) -> None:
        while True:
            self._list()
            time.sleep(interval)

    def _list(self) -> bool:
        """Lists the instances and prints those, or those changes, that are not printed yet. False in an outage."""
        is_first = self._listed_at is None
        try:
            inventory = self._client.inventory(self._wanted)
        except (ControllerUnreachable, ControllerFailed) as error:
            if is_first:
                raise
            self._outage.begin(error)
            return False
        self._outage.end()
        now = self._listed_at = inventory.time or self._session.clock.now()
        warn_of_caveats(self._session, inventory)
        if is_first:
            self._print_instances(inventory, now)
        else:
            self._print_differences(inventory, now)
        self._known = _states_in(inventory)
        return True

    def _print_instances(self, inventory: Inventory, now: datetime) -> None:
        matching = [instance for instance in inventory.instances if self._wanted.matches(instance)]
        for instance in matching:
            self._print_instance(instance, now)
        if self._form is OutputFormat.JSON:
            line: SyncedLine = {"version": 1, "type": "synced", "time": now.isoformat(), "instances": len(matching)}
            print_lines([json_text(line)])

    def _print_instance(self, instance: KnownInstance, now: datetime) -> None:
        key = instance.key
        if self._form is OutputFormat.JSON:
            line: ListedLine = {
                "version": 1,
                "type": "instance",
                "time": now.isoformat(),
                **identity_object(key),
                "state": instance.state,
                "drained": instance.drain is not None,
                "instance": instance.object,
            }
            print_lines([json_text(line)])
        elif self._form is OutputFormat.NAME:
            print_lines([reference_of(key)])
        else:
            state = coloured_state(instance) if self._colour else state_text(instance)
            print_lines([GAP.join([utc_text(now), reference_of(key), state])])

    def _print_differences(self, inventory: Inventory, now: datetime) -> None:
        """Prints the changes since the last list that no event reported."""
        states = _states_in(inventory)
        for key in sorted(self._known.keys() | states.keys()):
            old, new = self._known.get(key, GONE), states.get(key, GONE)
            if old != new:
                self._print_change(Change(now, key, old.state, new.state, _UNKNOWN_CAUSE, drained=new.drained), old, {})

    def _on_change(self, change: Change, fields: Mapping[str, Any]) -> None:
        known, new = self._known.get(change.key, GONE), KnownState(change.new, change.drained)
        if self._listed_at is not None and change.time <= self._listed_at and known == new:
            return  # the list contained it already
        self._known[change.key] = new
        self._print_change(change, known, fields)

    def _print_change(self, change: Change, before: KnownState, fields: Mapping[str, Any]) -> None:
        """Prints a change of an instance that matches before or after it."""
        key, wanted = change.key, self._wanted
        if not wanted.matches_key(key):
            return
        if not (wanted.matches_state(*before) or wanted.matches_state(change.new, drained=change.drained)):
            return
        if self._form is OutputFormat.JSON:
            line: ChangeLine = {
                "version": 1,
                "type": "change",
                "time": change.time.isoformat(),
                **identity_object(key),
                "old": change.old,
                "new": change.new,
                "drained": change.drained,
                "id": fields.get("id"),
                "verb": fields.get("verb"),
                "actor": fields.get("actor"),
                "actor_name": fields.get("actor_name"),
                "address": fields.get("address"),
                "reason": fields.get("reason"),
            }
            print_lines([json_text(line)])
        elif self._form is OutputFormat.NAME:
            print_lines([reference_of(key)])
        else:
            print_lines([line_of(change, self._flaps.add(change), colour=self._colour)])


def _states_in(inventory: Inventory) -> dict[InstanceKey, KnownState]:
    return {instance.key: KnownState(instance.state, instance.drain is not None) for instance in inventory.instances}
