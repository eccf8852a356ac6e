"""`ctl models list`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.diagnosis.caveats import warn_of_caveats
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import (
    ModelPattern,
    NoHeaders,
    States,
    choice,
    host_option,
    model_argument,
    output_option,
    type_option,
)
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.instances import instance_table
from dbgpt_ctl.cli.output.order import SORT_KEYS
from dbgpt_ctl.cli.output.stdout import (
    OutputFormat,
    is_terminal,
    print_csv,
    print_document,
    print_json,
    print_lines,
    print_table,
    say,
)
from dbgpt_ctl.cli.parsing.suggestions import Suggestions, explain_no_match
from dbgpt_ctl.domain.filters import InstanceFilter
from dbgpt_ctl.domain.instance import DrainFacts
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.domain.texts import AS_LAST_KNOWN
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from dbgpt_ctl.client.results import Inventory, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient

API_KEYS = (
    "model_name",
    "host",
    "port",
    "weight",
    "check_healthy",
    "healthy",
    "enabled",
    "prompt_template",
    "last_heartbeat",
)
"""DB-GPT's nine keys, in its order."""
CSV_KEYS = (
    *API_KEYS,
    "state",
    "routable",
    "held",
    *(f"drain_{fact}" for fact in DrainFacts._fields),
    "registered_at",
    "deregistered_at",
    "refused_at",
    "flaps",
)
"""The columns of csv. Those after the nine keys are empty where the controller does not report them."""
FULL_FORMATS = (OutputFormat.WIDE, OutputFormat.YAML, OutputFormat.CSV)
"""These print all facts of an instance."""
WATCH_SECS = 2.0

Name = Annotated[str | None, model_argument("Only this model; without a type: all types of this name.")]
ModelType = Annotated[str | None, type_option("Only this type, such as llm, text2vec, reranker or service.")]
HealthyOnly = Annotated[
    bool, typer.Option("--healthy-only", help="Only instances that get requests: healthy and not drained.")
]
Host = Annotated[str | None, host_option("Only this host, as it is registered.")]
SortBy = Annotated[
    str | None,
    typer.Option(
        "--sort-by",
        help="Order of the list; beat: oldest heartbeat first, state: worst state first.  [default: name]",
        **choice(SORT_KEYS),
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Follow changes until Ctrl-C; on a terminal as a live table, see above.")
]
Every = Annotated[
    str | None, typer.Option("--every", metavar="TIME", help="With --watch: refresh interval.  [default: 2s]")
]
Output = Annotated[
    OutputFormat,
    output_option(
        *("table", "wide", "json", "yaml", "csv", "name"),
        help="Format of the list; name prints references for other commands.",
    ),
]
Full = Annotated[
    bool, typer.Option("--full", help="With -o json: all facts of each instance; wide, yaml and csv have them anyway.")
]


@explained(
    "ctl models list",
    "ctl models list qwen2.5 --healthy-only -o wide",
    "ctl models list --state unhealthy -o name",
    "ctl models list --watch",
)
@takes_session
def list_(
    name: Name = None,
    *,
    model: ModelPattern = None,
    model_type: ModelType = None,
    healthy_only: HealthyOnly = False,
    states: States = None,
    host: Host = None,
    sort_by: SortBy = None,
    watch: Watch = False,
    every: Every = None,
    output: Output = OutputFormat.TABLE,
    full: Full = False,
    no_headers: NoHeaders = False,
    session: Session,
) -> None:
    """List the registered instances.

    An empty list is no error. json contains DB-GPT's nine keys of each instance, which show a deregistered one as
    unhealthy. wide, yaml, csv and json with --full contain all facts: state, drain and times.

    With --watch, a terminal with -o table or wide shows a live table. In a pipe, or with -o json or name, there is a
    line for each instance and then a line for each change. With -o json, a line is an object whose "type" is
    "instance", "synced" (after the last instance) or "change".
    """
    wanted = InstanceFilter.parse(name, model_type, states, host, model)
    if full and (watch or output not in (OutputFormat.JSON, *FULL_FORMATS)):
        raise UsageError("--full goes with -o json, without --watch; wide, yaml, csv and a watch have all facts anyway")
    interval = None if every is None else parse_duration("--every", every)
    if watch:
        wanted = replace(wanted, routable=True) if healthy_only else wanted
        return _watch(session, wanted, output, interval or WATCH_SECS, sort_by, headers=not no_headers)
    if interval is not None:
        raise UsageError("--every goes with --watch only")
    has_facts = full or output in FULL_FORMATS
    with session.client() as client:
        shows_states = output is OutputFormat.TABLE or sort_by == "state"
        answer = _read(client, wanted, healthy_only=healthy_only, has_facts=has_facts, shows_states=shows_states)
        now = answer.time or session.clock.now()
        matching = replace(wanted, routable=True) if healthy_only else wanted
        instances = [instance for instance in answer.instances if matching.matches(instance)]
        if full and not answer.complete:
            session.say(
                f"{answer.controller} reports only DB-GPT's nine keys, because it is DB-GPT's own controller or an "
                "older ctl; a deregistered instance looks unhealthy"
            )
        warn_of_caveats(session, answer)
        if not instances and not session.quiet:
            reason = explain_no_match(Suggestions(client), wanted, answer.controller, healthy_only=healthy_only)
            say(reason + (AS_LAST_KNOWN if answer.stale_since else ""))
    if sort_by is not None:
        instances.sort(key=SORT_KEYS[sort_by])
    return _print(answer, instances, output, now=now, headers=not no_headers, has_facts=has_facts)


def _watch(
    session: Session,
    wanted: InstanceFilter,
    form: OutputFormat,
    interval: float,
    sort_by: str | None,
    *,
    headers: bool,
) -> None:
    """Ends with Ctrl-C, PipeClosed, or an error that waiting does not help."""
    if form in (OutputFormat.YAML, OutputFormat.CSV):
        raise UsageError(f"--watch goes with -o table, wide, json or name, not with {form}")
    if is_terminal() and form in (OutputFormat.TABLE, OutputFormat.WIDE):
        from dbgpt_ctl.cli.watch.screen import watch_on_screen

        key = None if sort_by is None else SORT_KEYS[sort_by]
        wide = form is OutputFormat.WIDE
        return watch_on_screen(session, wanted, wide=wide, sort=key, interval=interval, headers=headers)
    from dbgpt_ctl.cli.output.signals import ends_with_reader
    from dbgpt_ctl.cli.watch.lines import LineWatch

    with session.client() as client, ends_with_reader():
        return LineWatch(session, client, wanted, form).run(interval)


def _read(
    client: ControllerClient, wanted: InstanceFilter, *, healthy_only: bool, has_facts: bool, shows_states: bool
) -> Inventory:
    """All facts where the output, its order or the filter needs them; else DB-GPT's list, which is cheaper.

    A state needs them because the nine keys show a deregistered instance as unhealthy; but none of those is routable.
    Raises NotSupported when the wanted states include deregistered and the controller does not report that.
    """
    if has_facts or ((shows_states or wanted.needs_facts) and not healthy_only):
        return client.inventory(wanted)
    return client.list(wanted.models.model_name, healthy_only=healthy_only)


def _print(
    answer: Inventory,
    instances: Sequence[KnownInstance],
    form: OutputFormat,
    *,
    now: datetime,
    headers: bool,
    has_facts: bool,
) -> None:
    """Prints these instances of the answer. Ages are relative to `now`."""
    objects = [instance.object for instance in instances]
    match form:
        case OutputFormat.JSON if answer.complete and not has_facts:
            print_json([{key: fields[key] for key in API_KEYS} for fields in objects])
        case OutputFormat.JSON | OutputFormat.YAML:
            print_document(objects, form)
        case OutputFormat.CSV:
            print_csv(CSV_KEYS, map(_flat, objects), headers=headers)
        case OutputFormat.NAME:
            print_lines(reference_of(instance.key) for instance in instances)
        case _ if instances:
            columns, rows = instance_table(instances, wide=form is OutputFormat.WIDE, now=now)
            print_table(columns, rows, headers=headers)


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the drain as columns of their own."""
    drain = fields.get("drain") or {}
    return {**fields, **{f"drain_{fact}": drain.get(fact) for fact in DrainFacts._fields}}
