"""`ctl models`: list, register, deregister and heartbeat."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli import candidates
from dbgpt_ctl.cli.beating import keep_beating
from dbgpt_ctl.cli.connect import Link, takes_link
from dbgpt_ctl.cli.duration import parse_duration
from dbgpt_ctl.cli.funnel import Command, Group
from dbgpt_ctl.cli.listing import age_of, print_instances
from dbgpt_ctl.cli.output import Format, say
from dbgpt_ctl.cli.references import ModelFilter, parse_targets
from dbgpt_ctl.cli.results import ResultFormat, for_each, reference
from dbgpt_ctl.cli.suggest import Registered, remarks_on_types
from dbgpt_ctl.errors import ControllerRefused, NotFound
from dbgpt_ctl.fields import parse_prompt_template, parse_weight
from dbgpt_ctl.instance import InstanceKey, Registration

if TYPE_CHECKING:
    from dbgpt_ctl.client import InstanceList

app = typer.Typer(cls=Group, help="See and change which model instances are registered.")

References = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME[@TYPE]/HOST:PORT",
        autocompletion=candidates.references,
        show_default=False,
        help="Instances as `ctl models list -o name` prints them; or one NAME with --host and --port.",
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--type", metavar="TYPE", autocompletion=candidates.types, help="Type of a NAME that has none. [default: llm]"
    ),
]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Host of NAME, as it is registered.")]
Port = Annotated[str | None, typer.Option("--port", metavar="PORT", help="Port of NAME.")]
Output = Annotated[ResultFormat, typer.Option("--output", "-o", help="How to print the results.")]
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
ListOutput = Annotated[
    Format,
    typer.Option("--output", "-o", help="How to print them; name prints references, which the other verbs take."),
]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Leave out the header of table, wide and csv.")]
Weight = Annotated[str | None, typer.Option("--weight", metavar="NUMBER", help="Its weight. [default: 1.0]")]
PromptTemplate = Annotated[
    str | None, typer.Option("--prompt-template", metavar="NAME", help="Name of its prompt template.")
]
NoCheckHealthy = Annotated[
    bool, typer.Option("--no-check-healthy", help="Never unhealthy, however old its last heartbeat.")
]
Remove = Annotated[bool, typer.Option("--remove", help="Take it out of every list, not only out of service.")]
Every = Annotated[
    str | None,
    typer.Option("--every", metavar="TIME", help="Go on, as in 10s, until Ctrl-C; over an outage too."),
]


@app.command("list", cls=Command)
@takes_link
def list_(
    name: Name = None,
    *,
    kind: OnlyKind = None,
    healthy_only: HealthyOnly = False,
    output: ListOutput = Format.TABLE,
    no_headers: NoHeaders = False,
    link: Link,
) -> None:
    """List the registered instances.

    An empty list is no error. json and yaml hold the API's own objects.
    """
    wanted = ModelFilter.parse(name, kind)
    with link.client() as client:
        answer = client.list(wanted.model_name, healthy_only=healthy_only)
        now = answer.date or datetime.now(UTC)
        pairs = [
            each for each in zip(answer.objects, answer.instances, strict=True) if wanted.matches(each[1].model_name)
        ]
        if not link.quiet:
            _warn(answer, now)
        if not pairs and not link.quiet:
            say(_none(wanted, answer.controller, Registered(client), healthy_only=healthy_only))
    objects, instances = [each for each, _ in pairs], [each for _, each in pairs]
    print_instances(objects, instances, output, now=now, headers=not no_headers)


def _warn(answer: InstanceList, now: datetime) -> None:
    if answer.stale_since:
        say(
            f"warning: the registry of {answer.controller} is away; "
            f"this is what it held {age_of(answer.stale_since, now)}"
        )
    if answer.held_until:
        left = max(0, round((answer.held_until - now).total_seconds()))
        say(
            f"warning: the registry of {answer.controller} was away; "
            f"for {left}s more some are shown as they were then, to give them the time to beat again"
        )


def _none(wanted: ModelFilter, controller: str, registered: Registered, *, healthy_only: bool) -> str:
    """Why the list is empty, and what may have been meant."""
    others = sum(wanted.matches(each.model_name) for each in registered.instances) if healthy_only else 0
    if others:
        return f"none of the {others} instances{wanted} at {controller} gets requests: all are unhealthy or drained"
    healthy = "healthy " if healthy_only else ""
    hint = registered.hint_at_model(wanted) if str(wanted) else ""
    return f"no {healthy}instances{wanted} registered at {controller}{hint}"


@app.command(cls=Command)
@takes_link
def register(
    references: References,
    *,
    kind: Kind = None,
    host: Host = None,
    port: Port = None,
    weight: Weight = None,
    prompt_template: PromptTemplate = None,
    no_check_healthy: NoCheckHealthy = False,
    output: Output = ResultFormat.TEXT,
    link: Link,
) -> int:
    """Register instances, as their workers do when they start.

    Of a known instance it updates weight, prompt template and heartbeat, and revives it if it was deregistered.
    """
    keys = parse_targets(references, kind, host, port, creates=True)
    for line in remarks_on_types(keys):
        link.say(line)
    facts: dict[str, Any] = {
        "weight": parse_weight(weight),
        "prompt_template": parse_prompt_template(prompt_template),
        "check_healthy": not no_check_healthy,
    }
    with link.client() as client:

        def act(key: InstanceKey) -> str:
            client.register(Registration(key, **facts))
            return "registered"

        return for_each(keys, act, output)


@app.command(cls=Command)
@takes_link
def deregister(
    references: References,
    *,
    kind: Kind = None,
    host: Host = None,
    port: Port = None,
    remove: Remove = False,
    output: Output = ResultFormat.TEXT,
    link: Link,
) -> int:
    """Take instances out of service.

    They get no more requests until they register again; heartbeats do not revive them.

    Exits with 4 if all that failed were not found, else with the code of the first other failure.
    """
    keys = parse_targets(references, kind, host, port, creates=False)
    with link.client() as client:
        registered = Registered(client)

        def act(key: InstanceKey) -> str:
            if not client.deregister(key, remove=remove):
                hint = registered.hint_at_instance(key) or "; ctl models list shows what is"
                raise NotFound(f"not known to the controller{hint}")
            return "removed" if remove else "deregistered"

        return for_each(keys, act, output)


@app.command(cls=Command)
@takes_link
def heartbeat(
    references: References,
    *,
    kind: Kind = None,
    host: Host = None,
    port: Port = None,
    every: Every = None,
    output: Output = ResultFormat.TEXT,
    link: Link,
) -> int:
    """Send a heartbeat for instances.

    One that is not known is registered. Exits with 6 when it is refused: the instance was deregistered.
    """
    keys = parse_targets(references, kind, host, port, creates=True)
    seconds = None if every is None else parse_duration("--every", every)
    with link.client() as client:

        def act(key: InstanceKey) -> str:
            if not client.heartbeat(Registration(key)):
                again = f"ctl models register {quote(reference(key))}"
                raise ControllerRefused(
                    f"heartbeat refused: the instance was deregistered; register it again with: {again}"
                )
            return "heartbeat accepted"

        if seconds is None:
            return for_each(keys, act, output)
        return keep_beating(
            keys, act, output, every=seconds, quiet=link.quiet, monotonic=time.monotonic, sleep=time.sleep
        )
