"""`ctl auth status`: the mode and the tokens of each controller, and the requests that enforce mode refuses."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dbgpt_ctl.auth.tokens import Mode
from dbgpt_ctl.cli.commands.events import parse_since
from dbgpt_ctl.cli.diagnosis.auth import (
    Since,
    collect_auth,
    differences,
    is_refusal,
    unmet_conditions,
    why_nothing_is_counted,
)
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import output_option
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, is_terminal, print_document, print_lines, say, wants_colour
from dbgpt_ctl.cli.output.table import Column, coloured, fitted, plain
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import ConditionNotMet
from dbgpt_ctl.text.escaping import defused, escaped
from dbgpt_ctl.text.times import age_text, duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from dbgpt_ctl.cli.diagnosis.auth import ControllerAuth
    from dbgpt_ctl.cli.documents.reports import AuthCheck, AuthOfController, AuthStatusDocument
    from dbgpt_ctl.client.status import AuthReport
    from dbgpt_ctl.wire.auth import RefusedRequests, Tally, TokenUse

CHECKED = timedelta(minutes=10)
"""What --check looks at without --since. A worker sends a heartbeat every 20 seconds."""
MAX_SHOWN = 50
"""Rows of callers on a terminal; a pipe gets all."""
ACTIONS = {
    "POST /api/controller/heartbeat": "heartbeat",
    "POST /api/controller/models": "register",
    "DELETE /api/controller/models": "deregister",
    "GET /api/controller/models": "list",
}
"""What the endpoints of DB-GPT's API are called everywhere else."""
_MODES: dict[str, str] = {Mode.OFF: "red", Mode.LOG: "yellow", Mode.ENFORCE: "green"}
_CONTROLLERS = (
    Column("CONTROLLER"),
    Column("MODE", colours=_MODES, folds=False),
    Column("SET BY", folds=False),
    Column("TOKENS", folds=False),
    Column("COUNTS SINCE", folds=False),
)
_TOKENS = (
    Column("TOKEN"),
    Column("ROLE", folds=False),
    Column("SCOPE"),
    Column("EXPIRES", folds=False),
    Column("LAST USED", folds=False),
    Column("OLD ONE USED", folds=False),
)
_CALLERS = (
    Column("REASON", folds=False),
    Column("COUNT", folds=False),
    Column("LAST", folds=False),
    Column("FROM"),
    Column("REQUEST"),
    Column("INSTANCE"),
    Column("USER AGENT"),
)

Output = Annotated[OutputFormat, output_option("text", "json", "yaml", help="Format of the report.")]
SinceText = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only callers seen since then: 10m, 2h or 7d ago, or 2026-01-31T12:00:00Z.  [default: all; with --check: "
        "10m]",
    ),
]
Check = Annotated[
    bool, typer.Option("--check", help="Exit with 5 unless it is known that enforce mode refuses nobody.")
]


@explained(
    "ctl auth status",
    "ctl auth status --since 10m -a http://ctl-1:8000,http://ctl-2:8000",
    "ctl auth status --check --since 1h",
    exit_codes={
        3: "No controller answers; with --check: one does not.",
        5: "With --check: enforce mode refuses a caller, or it is not known yet.",
    },
)
@takes_session
def status(
    *,
    since: SinceText = None,
    check: Check = False,
    output: Output = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Show modes, tokens, and who comes without a valid token.

    Each controller of --address counts by itself, since its start. In log mode it serves these callers, and enforce
    mode refuses them: give them tokens first. A caller that sends nothing within --since is not seen, so let --since be
    longer than any caller's pause.
    """
    start, age = parse_since(since)
    wanted = Since(start, CHECKED if check and since is None else age)
    controllers = collect_auth(session, wanted)
    failures = [each.failure for each in controllers if each.failure is not None]
    if len(failures) == len(controllers):
        from dbgpt_ctl.cli.commands.status import error_of

        raise error_of(failures)
    unmet = [*unmet_conditions(controllers, wanted)] if check else []
    print_document(_document(controllers, {"met": not unmet, "unmet": unmet} if check else None), output)
    if output is OutputFormat.TEXT:
        print_lines(_screen(controllers))
    for line in unmet:
        say(line)
    if check and failures:
        return failures[0].exit_code
    return ConditionNotMet.exit_code if unmet else 0


def _document(controllers: Sequence[ControllerAuth], check: AuthCheck | None) -> AuthStatusDocument:
    """The document of -o json and yaml: the API's own objects, with the rows that --since selects."""
    return {
        "version": 1,
        "controllers": [_controller_object(controller) for controller in controllers],
        "differences": differences(controllers),
        "check": check,
    }


def _controller_object(controller: ControllerAuth) -> AuthOfController:
    auth = controller.auth
    if auth is None:
        return {"controller": controller.url, "auth": None, "detail": str(controller.failure)}
    from dbgpt_ctl.wire.encoding import plain_object

    sent = plain_object(auth)
    del sent["answered_by"]
    return {"controller": controller.url, "auth": sent, "detail": None}


def _screen(controllers: Sequence[ControllerAuth]) -> Iterator[str]:
    reports = [controller.auth for controller in controllers if controller.auth is not None]
    colour = wants_colour()
    yield from plain(
        _CONTROLLERS, [_controller_row(controller) for controller in controllers], headers=True, colour=colour
    )
    for controller in controllers:
        if controller.failure is not None:
            yield _warning(str(controller.failure))
        elif controller.auth is not None and controller.auth.problem is not None:
            yield _warning(f"{controller.url}: its tokens file is not in force: {controller.auth.problem}")
    yield from map(_warning, differences(controllers))
    if tokens := _token_rows(reports):
        yield from ("", *plain(_TOKENS, tokens, headers=True, colour=colour))
    yield from _requests_of(reports, several=len(controllers) > 1)


def _requests_of(reports: Sequence[AuthReport], *, several: bool) -> Iterator[str]:
    """The requests that were counted: a section for those that are refused, and one for those with an old token."""
    seen = [Seen(report, row) for report in reports for row in report.counted]
    refused = [each for each in seen if is_refusal(each.row)]
    replaced = [each for each in seen if not is_refusal(each.row)]
    is_over = all(report.mode == Mode.ENFORCE for report in reports)
    served = "{were} served in log mode, which enforce mode refuses" if is_over else "would be refused in enforce mode"
    sections = {
        served: [each for each in refused if each.row.served],
        "{were} refused": [each for each in refused if not each.row.served],
        "came with the old one of a token that was rotated": replaced,
    }
    if not refused:
        only_off = all(report.mode == Mode.OFF for report in reports)
        yield ""
        yield why_nothing_is_counted(reports[0]) if only_off else "no request is refused"
    for title, rows in sections.items():
        if several and is_terminal():  # a column for the controller makes the table too wide for 80 columns
            places = [(f" at {escaped(report.answered_by)}", report) for report in reports]
            parts = [(at, [each for each in rows if each.report is report]) for at, report in places]
        else:
            parts = [("", rows)]
        for at, part in parts:
            if part:
                yield from _section(title, part, at=at, several=several and not at)


class Seen(NamedTuple):
    """A row, and the report that it stands in."""

    report: AuthReport
    row: Tally

    @property
    def age(self) -> str:
        """Of the last of the requests."""
        return age_text(self.row.last, self.report.time)


def _section(title: str, seen: Sequence[Seen], *, several: bool, at: str) -> Iterator[str]:
    """How many requests there were, and a row for each caller: the most frequent first."""
    from dbgpt_ctl.wire.auth import RefusedRequests  # imports msgspec, which other commands do without

    yield ""
    number = sum(each.row.count for each in seen)
    were = "was" if number == 1 else "were"
    yield f"{_requests(number)} {title.format(were=were)}{at}:"
    columns = (*_CALLERS, Column("CONTROLLER")) if several else _CALLERS
    rows = [(each, each.row) for each in seen if isinstance(each.row, RefusedRequests)]
    known = sorted(rows, key=lambda pair: -pair[1].count)
    shown = known[:MAX_SHOWN] if is_terminal() else known
    cells = [
        [*_caller_cells(row, each.age), *([escaped(each.report.answered_by)] if several else [])] for each, row in shown
    ]
    if cells:
        if is_terminal():
            yield from fitted(columns, cells, width=shutil.get_terminal_size().columns, colour=False, headers=True)
        else:
            yield from plain(columns, cells, headers=True)
    if len(shown) < len(known):
        yield f"and {len(known) - len(shown)} more rows; a pipe and -o json get all"
    for report, row in seen:
        if not isinstance(row, RefusedRequests):
            at = f" at {escaped(report.answered_by)}" if several else ""
            last = age_text(row.last, report.time)
            yield f"and {_requests(row.count)} from callers beyond the table's bound{at}: {escaped(row.reason)}, {last}"


def _caller_cells(row: RefusedRequests, age: str) -> list[str]:
    label = row.label if row.label != row.token else None  # DB-GPT's clients send the name that their address has
    names = ", ".join(filter(None, (label and defused(label), row.token and f"token {escaped(row.token)}")))
    source = escaped(row.source or "-")
    request = row.request or "-"
    return [
        escaped(row.reason),
        f"{row.count:,}",
        age,
        f"{source} ({names})" if names else source,
        ACTIONS.get(request, defused(request)),
        "-" if row.key is None else reference_of(row.key),
        defused(row.user_agent or "-"),
    ]


def _controller_row(controller: ControllerAuth) -> list[str]:
    auth = controller.auth
    if auth is None:
        return [escaped(controller.url), "unknown", "-", "-", "-"]
    tokens = f"{len(auth.tokens)}" if auth.digest is None else f"{len(auth.tokens)} ({escaped(auth.digest)})"
    since = "-" if auth.mode == Mode.OFF else age_text(auth.refusals.since, auth.time)
    return [escaped(controller.url), escaped(auth.mode), escaped(auth.mode_origin), tokens, since]


def _token_rows(reports: Sequence[AuthReport]) -> list[list[str]]:
    """A row for each token that any controller knows, with its last use at any of them."""
    known: dict[str, list[tuple[AuthReport, TokenUse]]] = {}
    for report in reports:
        for token in report.tokens:
            known.setdefault(token.name, []).append((report, token))
    return [_token_row(of_name) for of_name in known.values()]


def _token_row(of_name: Sequence[tuple[AuthReport, TokenUse]]) -> list[str]:
    report, token = of_name[0]
    scope = [*token.models, *token.hosts]
    if token.max_instances is not None:
        scope.append(f"at most {token.max_instances}")
    is_rotated = any(other.valid > 1 for _, other in of_name)
    return [
        escaped(token.name),
        escaped(token.role),
        escaped(", ".join(scope)) or "-",
        _expiry(token, report.time),
        _last_text([(at, other.last_used) for at, other in of_name]),
        _last_text([(at, other.old_last_used) for at, other in of_name]) if is_rotated else "-",
    ]


def _expiry(token: TokenUse, now: datetime) -> str:
    if not token.valid:
        return "revoked"
    if token.expires is None:
        return "never"
    left = (token.expires - now).total_seconds()
    return f"in {duration_text(left)}" if left > 0 else f"expired {age_text(token.expires, now)}"


def _last_text(uses: Sequence[tuple[AuthReport, datetime | None]]) -> str:
    """The age of the newest use; each controller's times count against the time of its report."""
    ages = [(report.time - used).total_seconds() for report, used in uses if used is not None]
    return f"{duration_text(min(ages))} ago" if ages else "never"


def _warning(line: str) -> str:
    return f"{coloured('warning:', 'yellow' if wants_colour() else None)} {defused(line)}"


def _requests(number: int) -> str:
    return f"{number:,} {'request' if number == 1 else 'requests'}"
