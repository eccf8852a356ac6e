"""`ctl models`: register, deregister and heartbeat. The other verbs are in modules of their own."""

from __future__ import annotations

import time
from shlex import quote
from typing import Annotated, Any

import typer

from dbgpt_ctl.cli.commands.models.heartbeat import keep_beating
from dbgpt_ctl.cli.framework.arguments import Host, Kind, Output, Port, References  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import ResultFormat, for_each, reference
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.references import parse_targets
from dbgpt_ctl.cli.parsing.suggestions import Registered, remarks_on_types
from dbgpt_ctl.domain.fields import parse_prompt_template, parse_weight
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import ControllerRefused, NotFound

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


@takes_session
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
    session: Session,
) -> int:
    """Register instances, as their workers do when they start.

    Of a known instance it updates weight, prompt template and heartbeat, and revives it if it was deregistered.
    """
    keys = parse_targets(references, kind, host, port, creates=True)
    for line in remarks_on_types(keys):
        session.say(line)
    facts: dict[str, Any] = {
        "weight": parse_weight(weight),
        "prompt_template": parse_prompt_template(prompt_template),
        "check_healthy": not no_check_healthy,
    }
    with session.client() as client:

        def act(key: InstanceKey) -> str:
            client.register(Registration(key, **facts))
            return "registered"

        return for_each(keys, act, output)


@takes_session
def deregister(
    references: References,
    *,
    kind: Kind = None,
    host: Host = None,
    port: Port = None,
    remove: Remove = False,
    output: Output = ResultFormat.TEXT,
    session: Session,
) -> int:
    """Take instances out of service.

    They get no more requests until they register again; heartbeats do not revive them.

    Exits with 4 if all that failed were not found, else with the code of the first other failure.
    """
    keys = parse_targets(references, kind, host, port, creates=False)
    with session.client() as client:
        registered = Registered(client)

        def act(key: InstanceKey) -> str:
            if not client.deregister(key, remove=remove):
                hint = registered.hint_at_instance(key) or "; ctl models list shows what is"
                raise NotFound(f"not known to the controller{hint}")
            return "removed" if remove else "deregistered"

        return for_each(keys, act, output)


@takes_session
def heartbeat(
    references: References,
    *,
    kind: Kind = None,
    host: Host = None,
    port: Port = None,
    every: Every = None,
    output: Output = ResultFormat.TEXT,
    session: Session,
) -> int:
    """Send a heartbeat for instances.

    One that is not known is registered. Exits with 6 when it is refused: the instance was deregistered.
    """
    keys = parse_targets(references, kind, host, port, creates=True)
    seconds = None if every is None else parse_duration("--every", every)
    with session.client() as client:

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
            keys, act, output, every=seconds, quiet=session.quiet, monotonic=time.monotonic, sleep=time.sleep
        )
