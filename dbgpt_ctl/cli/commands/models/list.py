"""`ctl models list`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.diagnosis.report import list_warnings
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.instances import print_instances
from dbgpt_ctl.cli.output.stdout import Format, say
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.instance_filter import STATES, Selection, SortKey, sort_key
from dbgpt_ctl.cli.parsing.suggestions import Registered
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from dbgpt_ctl.client import ControllerClient, InstanceList, Inventory

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME[@TYPE]",
        show_default=False,
        autocompletion=candidates.models,
        help="Only this model; without a type: of all types.",
    ),
]
OnlyKind = Annotated[
    str | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        autocompletion=candidates.types,
        help="Only this type: llm, text2vec, reranker, service ...",
    ),
]
HealthyOnly = Annotated[
    bool, typer.Option("--healthy-only", help="Only those that get requests: healthy and not drained.")
]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        autocompletion=lambda incomplete: [each.value for each in STATES if each.startswith(incomplete)],
        help="Only those in this state: healthy, unhealthy, drained or deregistered; several times, or with commas.",
    ),
]
OnlyHost = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Only those on this host, as registered.")]
SortBy = Annotated[
    SortKey | None,
    typer.Option("--sort-by", help="Sort them: beat puts the longest silent first, state the worst. [default: name]"),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", "-w", help="Go on and show changes, until Ctrl-C: a terminal is drawn anew; see above."),
]
Every = Annotated[
    str | None,
    typer.Option("--every", metavar="TIME", help="With --watch: how often it lists them anew. [default: 2s]"),
]
ListOutput = Annotated[
    Format,
    typer.Option("--output", "-o", help="How to print them; name prints references, which the other verbs take."),
]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Leave out the header of table, wide and csv.")]


@takes_session
def list_(
    name: Name = None,
    *,
    kind: OnlyKind = None,
    healthy_only: HealthyOnly = False,
    states: States = None,
    host: OnlyHost = None,
    sort_by: SortBy = None,
    watch: Watch = False,
    every: Every = None,
    output: ListOutput = Format.TABLE,
    no_headers: NoHeaders = False,
    session: Session,
) -> None:
    """List the registered instances.

    An empty list is no error. json and yaml hold the API's own objects.

    With --watch in a pipe, or with -o json or name, there is a line for each instance, then one for each change. With
    -o json a line is an object whose "type" is "instance", "synced" (all that were there have been told) or "change".
    """
    wanted = Selection.parse(name, kind, states, host)
    seconds = None if every is None else parse_duration("--every", every)
    if watch:
        from dbgpt_ctl.cli.watch.lines import watch_instances

        selection = wanted.only_routable() if healthy_only else wanted
        return watch_instances(session, selection, form=output, sort_by=sort_by, every=seconds, headers=not no_headers)
    if seconds is not None:
        raise UsageError("--every goes with --watch only")
    with session.client() as client:
        answer = ask(client, wanted, healthy_only=healthy_only)
        pairs = [each for each in zip(answer.objects, answer.instances, strict=True) if wanted.matches(each[1])]
        now = time_of(answer)
        if not session.quiet:
            for line in list_warnings(answer, now):
                say(line)
        if not pairs and not session.quiet:
            say(_none(wanted, answer.controller, Registered(client), healthy_only=healthy_only))
    if sort_by is not None:
        key = sort_key(sort_by)
        pairs.sort(key=lambda pair: key(pair[1]))
    objects, instances = [each for each, _ in pairs], [each for _, each in pairs]
    return print_instances(objects, instances, output, now=now, headers=not no_headers)


def ask(client: ControllerClient, wanted: Selection, *, healthy_only: bool = False) -> InstanceList | Inventory:
    """One list from DB-GPT's endpoint; from /api/v1 where the states that are wanted need more than its nine keys.

    Raises NotSupported when what is deregistered is wanted of a controller that cannot tell.
    """
    if wanted.needs_facts and not healthy_only:
        return inventory(client, wanted)
    return client.list(wanted.models.model_name, healthy_only=healthy_only)


def inventory(client: ControllerClient, wanted: Selection) -> Inventory:
    """All facts of the instances. Raises NotSupported as `ask`."""
    return client.inventory(
        wanted.models.model_name, host=wanted.host, require_complete=InstanceState.DEREGISTERED in wanted.states
    )


def time_of(answer: InstanceList | Inventory) -> datetime:
    """What its ages count against."""
    return answer.time or datetime.now(UTC)


def _none(wanted: Selection, controller: str, registered: Registered, *, healthy_only: bool) -> str:
    """Why the list is empty, and what may have been meant."""
    narrowed = healthy_only or bool(wanted.states)
    about = [each for each in registered.instances if wanted.is_about(each.model_name, each.host)] if narrowed else []
    if about and wanted.states:
        among = Selection(wanted.models, host=wanted.host)
        return f"none of the {len(about)} instances{among} at {controller} is {' or '.join(sorted(wanted.states))}"
    if about:
        return f"none of the {len(about)} instances{wanted} at {controller} gets requests: all are unhealthy or drained"
    healthy = "healthy " if healthy_only else ""
    hint = registered.hint_at_model(wanted.models) if str(wanted.models) else ""
    return f"no {healthy}instances{wanted} registered at {controller}{hint}"
