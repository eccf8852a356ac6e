"""`ctl status`: the controllers, their registry, and what is registered, on one screen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, is_terminal, print_document, print_lines, wants_colour
from dbgpt_ctl.cli.output.table import Column, coloured, plain
from dbgpt_ctl.client.results import counted_text
from dbgpt_ctl.domain.texts import AS_LAST_KNOWN, drained_text
from dbgpt_ctl.errors import ControllerError, ControllerUnreachable, CtlError, ErrorKind, NotAllowed, NotSupported
from dbgpt_ctl.text.escaping import escaped
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.documents.reports import StatusDocument, StatusFinding, StatusOfController
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.diagnosis.facts import ControllerFacts, Finding
    from dbgpt_ctl.wire.status import ModelCounts, Status

T = TypeVar("T")

Output = Annotated[OutputFormat, output_option("text", "json", "yaml", help="Format of the overview.")]
_DOWN = {ErrorKind.NO_ANSWER, ErrorKind.UNAVAILABLE}
CAVEATS = frozenset({"registry-stale", "states-held"})
"""Facts of the registry, which all of its controllers report."""
_WORDS = {"up": "green", "leaving": "yellow", "not ready": "yellow", "unknown": "yellow", "down": "red"}
"""What the table says of a controller, and in which colour; the best comes first."""
_CONTROLLERS = (
    Column("CONTROLLER"),
    Column("STATUS", colours=_WORDS),
    Column("VERSION"),
    Column("UP FOR"),
    Column("LATENCY"),
)
_OTHER_COUNTS = ("unhealthy", "drained", "deregistered")
_PROMPT_LINES = 2
"""Lines of the shell below the screen."""
_MIN_ROWS = 3
_MOST_LINES = 10
"""Of one finding."""


@explained(
    "ctl status",
    "ctl status -a http://ctl-1:8000 -a http://ctl-2:8000",
    "ctl status -o json",
    exit_codes={
        3: "No controller answers.",
    },
)
@takes_session
def status(
    *,
    output: Output = OutputFormat.TEXT,
    session: Session,
) -> None:
    """Show the controllers, registry, models and warnings.

    `ctl doctor` examines more, and names a fix for each finding.
    """
    from dbgpt_ctl.cli.diagnosis.caveats import caveats_of, warn_of
    from dbgpt_ctl.cli.diagnosis.collect import collect_statuses
    from dbgpt_ctl.diagnosis.examine import overview

    controllers = collect_statuses(session)
    # The report of the controller in the best state counts for the cluster: of several, one that is not stale.
    best = min(controllers, key=lambda each: (list(_WORDS).index(_word(each)), each.stale_since is not None))
    first = best.status
    if first is None:
        raise error_of([controller.failure for controller in controllers if controller.failure])
    instances = _examined(session, best.url, first)
    controllers = [
        replace(controller, instances=instances) if controller.status is first else controller
        for controller in controllers
    ]
    findings = overview(controllers, first)
    if output is not OutputFormat.TEXT:  # the text has them among its warnings
        warn_of(session, caveats_of(best))
    print_document(_document(controllers, first, findings), output)
    if output is OutputFormat.TEXT:
        print_lines(_screen(controllers, first, findings))


def _word(controller: ControllerFacts) -> str:
    """`up`, `leaving`, `not ready`, `down`, or `unknown` where something answers, and not with a status."""
    if controller.status is None:
        is_down = controller.failure is not None and controller.failure.kind in _DOWN
        return "down" if is_down else "unknown"
    if controller.status.controller.leaving:
        return "leaving"
    return "up" if controller.status.registry.ready else "not ready"


def error_of(errors: Sequence[ControllerError]) -> ControllerError:
    """One error for all controllers: that of one that answers, if any does."""
    for kind in (NotAllowed, NotSupported, ControllerError):
        for error in errors:
            if isinstance(error, kind) and not isinstance(error, ControllerUnreachable):
                advice = "ctl health and ctl models list show what it reports"
                return error.advised(advice) if kind is NotSupported else error
    gravest = next((error for error in errors if error.kind is ErrorKind.NO_ANSWER), errors[0])
    attempts = [attempt for error in errors for attempt in error.attempts]
    return ControllerUnreachable.of_attempts(attempts, gravest.kind, gravest.advice)


def _examined(session: Session, url: str, first: Status) -> tuple[KnownInstance, ...]:
    """The drained and the deregistered instances with all their facts; listed only where there are some. If a list
    fails, the rest is still shown.
    """
    from dbgpt_ctl.diagnosis.examine import EXAMINED_STATES

    found: list[KnownInstance] = []
    with session.client(url) as client:
        for state in EXAMINED_STATES:
            if any(getattr(counts, state) for counts in first.models or ()):
                try:
                    found += client.instances(state=state).instances
                except CtlError:
                    continue
    return tuple(found)


def _document(controllers: Sequence[ControllerFacts], first: Status, findings: Sequence[Finding]) -> StatusDocument:
    """The document of -o json and yaml."""
    from dbgpt_ctl.wire.encoding import plain_object

    sent = plain_object(first)
    return {
        "version": 1,
        "time": first.time.isoformat(),
        "controllers": [_controller_object(controller) for controller in controllers],
        "registry": sent["registry"],
        "settings": sent["settings"],
        "living_controllers": sent["controllers"],
        "stale_since": sent["stale_since"],
        "held_until": sent["held_until"],
        "outages": sent["outages"],
        "models": sent["models"],
        "warnings": _finding_objects(findings, are_info=False),
        "info": _finding_objects(findings, are_info=True),
    }


def _finding_objects(findings: Sequence[Finding], *, are_info: bool) -> list[StatusFinding]:
    return [
        {"code": finding.code, "subject": evidence.subject, "detail": evidence.detail}
        for finding in findings
        if finding.is_info == are_info
        for evidence in finding.evidence
    ]


def _controller_object(controller: ControllerFacts) -> StatusOfController:
    from dbgpt_ctl.wire.encoding import plain_object

    status = controller.status
    sent = plain_object(status) if status else {}
    return {
        "controller": controller.url,
        "status": _word(controller),
        "latency_secs": None if controller.latency is None else round(controller.latency, 6),
        "version": status.controller.version if status else None,
        "started_at": status.controller.started_at.isoformat() if status else None,
        "registry": sent.get("registry"),
        "checks": sent.get("checks"),
        "connections": sent.get("connections"),
        "readers_dropped": status.readers_dropped if status and status.connections else None,
        "auth": sent.get("auth"),
        "tls": sent.get("tls"),
        "detail": str(controller.failure) if controller.failure else None,
    }


def _screen(controllers: Sequence[ControllerFacts], first: Status, findings: Sequence[Finding]) -> list[str]:
    """The lines for people: all of them in a pipe; a terminal gets as many as fit, at least some of each kind."""
    colour, size = wants_colour(), shutil.get_terminal_size()
    rows = [_controller_row(controller) for controller in controllers]
    head = [*plain(_CONTROLLERS, rows, headers=True, colour=colour), "", _registry_line(first), auth_line(first)]
    head += [*filter(None, (_connections_line(each) for each in controllers)), ""]
    lines = size.lines - _PROMPT_LINES if is_terminal() else None
    warnings = [line for finding in findings for line in _finding_lines(finding, colour=colour)]
    shown = _cut(warnings, None if lines is None else max(_MIN_ROWS, lines // 4))
    more = [f"and {len(warnings) - len(shown)} more (-o json shows all)"] if len(shown) < len(warnings) else []
    tail = ["", *shown, *more] if shown else []
    left = None if lines is None else max(_MIN_ROWS, lines - len(head) - _height(tail, size.columns) - 2)
    return [*head, *_model_lines(first, left, colour=colour), *tail]


def _finding_lines(finding: Finding, *, colour: bool) -> list[str]:
    """Warnings, and what operators wanted: at most _MOST_LINES, the last of which counts the rest."""
    word, name = ("info:", "cyan") if finding.is_info else ("warning:", "yellow")
    lines = (_joined(finding) if finding.code in CAVEATS else finding).lines
    shown = _cut(lines, _MOST_LINES)
    more = [f"and {len(lines) - len(shown)} more [{finding.code}] (-o json shows all)"] if shown != lines else []
    return [f"{coloured(word, name if colour else None)} {line}" for line in (*shown, *more)]


def _joined(finding: Finding) -> Finding:
    """With one piece of evidence for all controllers that report the same."""
    subjects: dict[str, list[str]] = {}
    for evidence in finding.evidence:
        subjects.setdefault(evidence.detail, []).append(evidence.subject)
    first = finding.evidence[0]
    joined = (first._replace(detail=detail, subject=", ".join(urls)) for detail, urls in subjects.items())
    return replace(finding, evidence=tuple(joined))


def _controller_row(controller: ControllerFacts) -> list[str]:
    status, uptime = controller.status, "-"
    if status:
        uptime = duration_text((status.time - status.controller.started_at).total_seconds())
    latency = "-" if controller.latency is None else f"{controller.latency * 1000:.1f}ms"
    version = escaped(status.controller.version) if status else "-"
    return [escaped(controller.url), _word(controller), version, uptime, latency]


def _registry_line(first: Status) -> str:
    place = f" at {escaped(first.registry.place)}" if first.registry.place else ""
    kept = "kept over restarts" if first.registry.durable else "in memory only: gone when the controller ends"
    timeout = first.heartbeat_timeout_secs
    shown = "" if timeout is None else f"; heartbeat timeout {timeout:g}s"
    return f"registry: {escaped(first.registry.kind)}{place}, {kept}{shown}"


def auth_line(first: Status) -> str:
    """The mode of the check of callers, the tokens, and https, of the controller that counts for the cluster."""
    auth, tls = first.auth, first.tls
    served = "; no https" if tls is None else f"; https at port {tls.port}"
    if auth is None:
        return f"auth: this controller does not check its callers{served}"
    tokens = auth.tokens_file
    noun = "token" if tokens and tokens.tokens == 1 else "tokens"
    checked = f"{tokens.tokens} {noun} (digest {escaped(tokens.digest)})" if tokens else "no tokens file"
    return f"auth: {escaped(auth.mode)} (from the {escaped(auth.mode_origin)}), {checked}{served}"


def _connections_line(controller: ControllerFacts) -> str:
    """How many connections a controller has, and what their bounds did; empty where it does not report them."""
    status = controller.status
    if status is None or status.connections is None:
        return ""
    counts = status.connections
    deeds = {
        "closed to make room": counts.closed,
        "refused": counts.refused,
        "dropped because the peer did not read": status.readers_dropped,
    }
    shown = "".join(f"; {number} {deed}" for deed, number in deeds.items() if number)
    return f"connections at {escaped(controller.url)}: {counts.open} of at most {counts.limit}{shown}"


def _model_lines(first: Status, limit: int | None, *, colour: bool) -> list[str]:
    """A row for each model and a sum; where they do not fit, those without a healthy instance come first."""
    if first.models is None:
        return ["which instances are registered is unknown: the registry cannot be read"]
    models = first.counts
    if not models:
        return [f"no instances are registered{AS_LAST_KNOWN if first.stale_since else ''}"]
    from dbgpt_ctl.client.status import total

    names = list(models) if limit is None else sorted(models, key=lambda name: models[name].routable > 0)
    shown = _cut(names, limit)
    others = (*_OTHER_COUNTS, "unchecked") if any(counts.unchecked for counts in models.values()) else _OTHER_COUNTS
    columns = (
        Column("MODEL"),
        Column("ROUTABLE", colours={"0": "red"}),
        *(Column(name.upper()) for name in others),
    )
    cells = [[escaped(name), *_count_cells(models[name], others)] for name in shown]
    sum_text = counted_text(total(models.values()))
    sum_text += AS_LAST_KNOWN if first.stale_since else ""
    more = [f"and {len(models) - len(shown)} more models"] if len(shown) < len(models) else []
    noun = "model" if len(models) == 1 else "models"
    return [*plain(columns, cells, headers=True, colour=colour), *more, f"{len(models)} {noun}: {sum_text}"]


def _count_cells(counts: ModelCounts, others: Sequence[str]) -> list[str]:
    """The numbers, with the unhealthy ones whose drain makes them planned: `2 (2 drained)`."""
    cells = {name: str(getattr(counts, name) or "-") for name in others}
    cells["unhealthy"] += drained_text(counts.unhealthy_drained)
    return [str(counts.routable), *cells.values()]


def _cut(items: Sequence[T], limit: int | None) -> Sequence[T]:
    """At most `limit`, one of which is left for the line that counts the rest."""
    return items if limit is None or len(items) <= limit else items[: limit - 1]


def _height(lines: Sequence[str], width: int) -> int:
    return sum(max(1, -(-len(line) // width)) for line in lines)
