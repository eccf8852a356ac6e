"""`ctl models get`: everything that is known of an instance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.framework.arguments import Host, Kind, Output, Port, References  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.changes import Flaps, cause, reference_of
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.instances import STATE_COLOURS, span, utc, weight_text
from dbgpt_ctl.cli.output.results import ResultFormat, exit_code_of
from dbgpt_ctl.cli.output.stdout import print_json, print_lines, print_yaml, say, wants_colour
from dbgpt_ctl.cli.output.table import coloured
from dbgpt_ctl.cli.parsing.references import parse_targets
from dbgpt_ctl.cli.parsing.suggestions import Registered
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import CtlError, NotFound, NotSupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.client.models import EventReport, KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey

VERSION = 1
EVENTS_READ = 100
"""Of one instance: enough to see since when it is as it is."""
EVENTS_SHOWN = 5
_ROOM = 17


@dataclass(frozen=True, slots=True)
class Details:
    """An instance and its last events, oldest first."""

    instance: KnownInstance
    events: EventReport

    @property
    def now(self) -> datetime:
        """What ages count against."""
        return self.instance.time or datetime.now(UTC)

    @property
    def since(self) -> datetime | None:
        """From when on it has been as it is; None when that has been forgotten."""
        if self.instance.state is InstanceState.DRAINED and self.instance.drained_at is not None:
            return self.instance.drained_at
        for each in reversed(self.events.events):
            if each.change.old != each.change.new:
                return each.change.time if each.change.new == self.instance.state else None
        return None

    @property
    def is_still_beating(self) -> bool:
        """Whether its worker beats on although it was deregistered."""
        return self.instance.state is InstanceState.DEREGISTERED and self.instance.refused_at is not None

    def as_object(self) -> dict[str, Any]:
        """For json and yaml: the API's own keys, and what follows from the events."""
        return {
            **self.instance.object,
            "since": None if self.since is None else self.since.isoformat(),
            "still_beating": self.is_still_beating,
            "events": self.events.objects[-EVENTS_SHOWN:],
        }


@takes_session
def get(
    references: References,
    *,
    kind: Kind = None,
    host: Host = None,
    port: Port = None,
    output: Output = ResultFormat.TEXT,
    session: Session,
) -> int:
    """Show everything that is known of instances.

    Exits with 4 if all that failed were not found, else with the code of the first other failure.
    """
    keys = parse_targets(references, kind, host, port, creates=False)
    with session.client() as client:
        found, errors = _look(client, keys)
    _print(found, output, time=found[0].now if found else None)
    return exit_code_of(errors)


def _look(client: ControllerClient, keys: list[InstanceKey]) -> tuple[list[Details], list[CtlError]]:
    found: list[Details] = []
    errors: list[CtlError] = []
    registered = Registered(client)
    for key in keys:
        try:
            found.append(details_of(client, key))
        except NotFound as error:
            hint = registered.hint_at_instance(key) or "; ctl models list shows what is"
            say(f"{reference_of(key)}: not known to the controller{hint}")
            errors.append(error)
        except NotSupported as error:
            name = quote(escaped(key.model_name))
            raise error.advised(f"ctl models list {name} -o wide shows what it reports") from error
    return found, errors


def details_of(client: ControllerClient, key: InstanceKey) -> Details:
    """Two calls. Raises NotFound, NotSupported."""
    instance = client.get(key)
    return Details(instance, client.events(model_name=key.model_name, host=key.host, port=key.port, limit=EVENTS_READ))


def _print(found: list[Details], form: ResultFormat, *, time: datetime | None) -> None:
    document = {
        "version": VERSION,
        "time": None if time is None else time.isoformat(),
        "instances": [each.as_object() for each in found],
    }
    match form:
        case ResultFormat.JSON:
            print_json(document)
        case ResultFormat.YAML:
            print_yaml(document)
        case ResultFormat.NAME:
            print_lines(reference_of(each.instance.key) for each in found)
        case ResultFormat.TEXT:
            colour = wants_colour()
            for number, each in enumerate(found):
                print_lines([*([""] if number else []), *_lines(each, colour=colour)])


def _lines(details: Details, *, colour: bool) -> Iterator[str]:
    yield reference_of(details.instance.key)
    for label, text in _facts(details, colour=colour):
        yield f"  {label:<{_ROOM}}{text}"
    yield "  last events" if details.events.events else "  last events      none is remembered"
    flaps = Flaps()
    told = [(each.change, flaps.note(each.change)) for each in details.events.events]
    for change, count in told[-EVENTS_SHOWN:]:
        yield f"    {utc(change.time)}  {escaped(change.old)} -> {escaped(change.new)}, {cause(change, count)}"


def _facts(details: Details, *, colour: bool) -> Iterator[tuple[str, str]]:
    instance, now = details.instance, details.now

    def ago(time: datetime | None) -> str:
        return "-" if time is None else f"{span((now - time).total_seconds())} ago, {utc(time)}"

    state = coloured(instance.state, STATE_COLOURS.get(instance.state)) if colour else instance.state
    since = "" if details.since is None else f" for {span((now - details.since).total_seconds())}"
    yield "state", f"{state}{since}{_of_its_state(instance)}"
    yield "last beat", "never" if instance.last_heartbeat is None else ago(instance.last_heartbeat)
    if not instance.check_healthy:
        yield "checked", "no: never unhealthy, however old its last beat"
    if not instance.enabled:
        at = ago(instance.drained_at) if instance.drained_at else "as it said when it registered first"
        yield "drained", at
        yield "drained by", escaped(str(instance.drained_by or "-"))
        yield "drain reason", escaped(str(instance.drain_reason or "-"))
    if instance.deregistered_at is not None:
        yield "deregistered", ago(instance.deregistered_at)
        beating = (
            "no beat came since" if instance.refused_at is None else f"yes, last refused {ago(instance.refused_at)}"
        )
        yield "still beating", beating
    yield "registered", ago(instance.registered_at)
    yield "flaps", f"{instance.flaps} (how often its beat got too old)"
    yield "weight", weight_text(instance.weight)
    yield "prompt template", escaped(str(instance.prompt_template or "-"))


def _of_its_state(instance: KnownInstance) -> str:
    if instance.removed:
        return ", removed: in no list any more, late beats are refused"
    match instance.state:
        case InstanceState.DRAINED:
            return ": gets no requests until undrained"
        case InstanceState.UNHEALTHY:
            return ": its beat is too old"
        case InstanceState.DEREGISTERED if instance.refused_at is not None:
            return ", still beating"
        case _:
            return ""
