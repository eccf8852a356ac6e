"""`ctl models get`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.commands.models.selection import Selection, takes_selection
from dbgpt_ctl.cli.diagnosis.caveats import caveat_fields, warn_of_caveats
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import ResultOutput  # noqa: TC001 - Typer reads it
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.changes import Flaps
from dbgpt_ctl.cli.output.instances import STATE_COLOURS, weight_text
from dbgpt_ctl.cli.output.results import exit_code_of
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_document, print_lines, say, wants_colour
from dbgpt_ctl.cli.output.table import coloured
from dbgpt_ctl.cli.parsing.suggestions import Suggestions
from dbgpt_ctl.client.results import state_text
from dbgpt_ctl.diagnosis.refused import refused_text
from dbgpt_ctl.domain.events import EventFilter
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.domain.texts import cause_text, change_text
from dbgpt_ctl.errors import ControllerRefused, CtlError, NotAllowed, NotFound, NotSupported
from dbgpt_ctl.text.escaping import escaped, shell_argument
from dbgpt_ctl.text.times import duration_text, until_text, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from dbgpt_ctl.cli.commands.models.selection import Selected
    from dbgpt_ctl.cli.documents.instances import ModelsGet
    from dbgpt_ctl.client.results import EventReport, Inventory, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.diagnosis.refused import Refused, RefusedHeartbeats
    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import InstanceKey

EVENTS_READ = 100
"""Events of one instance: enough to find when its state began."""
EVENTS_SHOWN = 5
READ_AT_ONCE_FROM = 20
"""For so many instances of a list, the events of all instances are read with one request."""
EVENTS_KEPT = 10_000
"""The newest of all instances, as many as one answer has: in most clusters these are all events that are kept."""
_LABEL_WIDTH = 17


@explained(
    "ctl models get qwen2.5@llm/10.0.0.4:8001",
    "ctl models get qwen2.5 --host 10.0.0.4 --port 8001 -o json",
    "ctl models get --model 'qwen*' --state unhealthy,drained",
    exit_codes={
        4: "The only failures are instances that are not known; a selector matches nothing.",
    },
)
@takes_session
@takes_selection()
def get(
    *,
    output: ResultOutput = OutputFormat.TEXT,
    selection: Selection,
    session: Session,
) -> int:
    """Show all that is known about instances."""
    with session.client() as client:
        selected = selection.resolve(client, session, complete=True)
        found, errors = _read_all(client, selected, session.clock)
    found = _with_refused(session, found)
    answer = selected.answer or _inventory(found)
    if answer is not None:
        warn_of_caveats(session, answer)
    _print(found, answer, output)
    return exit_code_of(errors)


@dataclass(frozen=True, slots=True)
class Details:
    """An instance and its last events, oldest first."""

    instance: KnownInstance
    events: EventReport
    now: datetime
    """The time that ages are relative to."""
    refused: tuple[Refused, ...] = ()
    """The heartbeats that controllers refuse, of an unhealthy instance."""

    @property
    def since(self) -> datetime | None:
        """The time when the current state began; None when the controller has forgotten it."""
        for event in reversed(self.events.events):
            if event.change.old != event.change.new:
                return event.change.time if event.change.new == self.instance.state else None
        return None

    @property
    def is_still_beating(self) -> bool:
        """Whether the worker sends heartbeats although the instance was deregistered."""
        return self.instance.state is InstanceState.DEREGISTERED and self.instance.refused_at is not None

    def as_object(self) -> Any:
        """For json and yaml: the API's own keys, and what follows from the events."""
        from dbgpt_ctl.wire.encoding import plain_object

        return {
            **self.instance.object,
            "since": None if self.since is None else self.since.isoformat(),
            "still_beating": self.is_still_beating,
            "events": self.events.objects[-EVENTS_SHOWN:],
            "refused_heartbeats": [
                {"controller": each.controller, **plain_object(each.worker)} for each in self.refused
            ],
        }


def _read_all(client: ControllerClient, selected: Selected, clock: Clock) -> tuple[list[Details], list[CtlError]]:
    found: list[Details] = []
    errors: list[CtlError] = []
    suggestions = Suggestions(client)
    known = selected.known()
    events_of = _reader_of_events(client, selected)
    for key in selected.keys:
        try:
            instance = known.get(key) or client.get(key)
            found.append(Details(instance, events_of(key), instance.time or clock.now()))
        except NotFound as error:
            say(f"{reference_of(key)}: not known to the controller{suggestions.for_instance(key)}")
            errors.append(error)
        except NotSupported as error:
            name = shell_argument(escaped(key.model_name))
            raise error.advised(f"ctl models list {name} -o wide shows what it reports") from error
        except NotAllowed:
            raise
        except ControllerRefused as error:  # of a name that a controller of another kind let in
            say(f"{reference_of(key)}: {error}")
            errors.append(error)
    return found, errors


def _with_refused(session: Session, found: list[Details]) -> list[Details]:
    """With the heartbeats that the controllers refuse: each of them counts for itself, so all are asked. None is asked
    where no instance is unhealthy.
    """
    if all(details.instance.state is not InstanceState.UNHEALTHY for details in found):
        return found
    from dbgpt_ctl.cli.diagnosis.collect import collect_statuses
    from dbgpt_ctl.diagnosis.refused import RefusedHeartbeats

    heartbeats = RefusedHeartbeats((each.url, each.status) for each in collect_statuses(session) if each.status)
    return [replace(details, refused=_refused(details, heartbeats)) for details in found]


def _refused(details: Details, heartbeats: RefusedHeartbeats) -> tuple[Refused, ...]:
    instance = details.instance
    if instance.state is not InstanceState.UNHEALTHY:
        return ()
    last = instance.last_heartbeat
    return tuple(heartbeats.of(instance.key, None if last is None else details.now - last))


def _reader_of_events(client: ControllerClient, selected: Selected) -> Callable[[InstanceKey], EventReport]:
    """Reads the events of one instance: by a request of its own, or of many instances from one answer."""
    if selected.answer is None or len(selected.keys) < READ_AT_ONCE_FROM:
        return lambda key: client.events(where=EventFilter.of(key), limit=EVENTS_READ)
    everything = client.events(limit=EVENTS_KEPT)
    by_key: defaultdict[InstanceKey, list[tuple[Event, Mapping[str, Any]]]] = defaultdict(list)
    for event, found in everything.items:
        by_key[event.change.key].append((event, found))

    def read(key: InstanceKey) -> EventReport:
        last = by_key[key][-EVENTS_READ:]
        return replace(everything, events=tuple(event for event, _ in last), objects=[found for _, found in last])

    return read


def _inventory(found: list[Details]) -> Inventory | None:
    """The answers as one list, for what is to be known before they are trusted. They are never stale: one instance is
    read from the registry, or not at all.
    """
    if not found:
        return None
    from dbgpt_ctl.client.results import Inventory

    instances = [details.instance for details in found]
    return Inventory(
        [instance.object for instance in instances],
        complete=True,
        controller=instances[0].answered_by,
        time=found[0].now,
        held_until=next((instance.held_until for instance in instances if instance.held_until), None),
        heartbeat_timeouts_secs=instances[0].heartbeat_timeouts_secs,
    )


def _print(found: list[Details], answer: Inventory | None, form: OutputFormat) -> None:
    document: ModelsGet = {
        "version": 1,
        "time": found[0].now.isoformat() if answer else None,
        "held_until": caveat_fields(answer)["held_until"] if answer else None,
        "instances": [details.as_object() for details in found],
    }
    match form:
        case OutputFormat.JSON | OutputFormat.YAML:
            print_document(document, form)
        case OutputFormat.NAME:
            print_lines(reference_of(details.instance.key) for details in found)
        case _:
            colour = wants_colour()
            for number, details in enumerate(found):
                print_lines([*([""] if number else []), *_lines(details, colour=colour)])


def _lines(details: Details, *, colour: bool) -> Iterator[str]:
    yield reference_of(details.instance.key)
    for label, text in _facts(details, colour=colour):
        yield f"  {label:<{_LABEL_WIDTH}}{text}"
    yield "  last events" if details.events.events else "  last events      none is kept"
    flaps = Flaps()
    counted = [(event.change, flaps.add(event.change)) for event in details.events.events]
    for change, count in counted[-EVENTS_SHOWN:]:
        yield f"    {utc_text(change.time)}  {change_text(change)}, {cause_text(change, count)}"


def _facts(details: Details, *, colour: bool) -> Iterator[tuple[str, str]]:
    """A label and a text for each fact."""
    instance, now = details.instance, details.now

    def ago(time: datetime | None) -> str:
        return "-" if time is None else f"{duration_text((now - time).total_seconds())} ago, {utc_text(time)}"

    duration = "" if details.since is None else f" for {duration_text((now - details.since).total_seconds())}"
    yield "state", f"{_coloured_state(instance) if colour else instance.state}{duration}{_explain_state(instance)}"
    yield "last beat", "never" if instance.last_heartbeat is None else ago(instance.last_heartbeat)
    if details.refused:
        yield "refused", refused_text(details.refused)
    if not instance.check_healthy:
        yield "checked", "no: never unhealthy, however old its last heartbeat"
    if (drain := instance.drain) is not None:
        yield "drained", ago(drain.since) if drain.since else "since its first register, which had enabled: false"
        yield "drained by", escaped(str(drain.by or "-"))
        yield "drain reason", escaped(str(drain.reason or "-"))
        yield "drained until", "an undrain ends it" if drain.until is None else until_text(drain.until, now)
    if instance.deregistered_at is not None:
        yield "deregistered", ago(instance.deregistered_at)
        refused = instance.refused_at
        yield "still beating", "no heartbeat since" if refused is None else f"yes, last refused {ago(refused)}"
    yield "registered", ago(instance.registered_at)
    yield "flaps", f"{instance.flaps} (times that it became unhealthy)"
    yield "weight", weight_text(instance.weight)
    yield "prompt template", escaped(str(instance.prompt_template or "-"))


def _explain_state(instance: KnownInstance) -> str:
    if instance.removed:
        return ", removed: in no list, late heartbeats are refused"
    drained = "" if instance.drain is None else ", drained"
    match instance.state:
        case InstanceState.HEALTHY if instance.held:
            return f"{drained}, held: its own last heartbeat is too old, and the registry itself was away"
        case InstanceState.HEALTHY if drained:
            return ", drained: gets no requests"
        case InstanceState.UNHEALTHY:
            return f"{drained}: its last heartbeat is too old"
        case InstanceState.DEREGISTERED if instance.refused_at is not None:
            return f"{drained}, still beating"
        case _:
            return drained


def _coloured_state(instance: KnownInstance) -> str:
    return coloured(instance.state, STATE_COLOURS[state_text(instance)])
