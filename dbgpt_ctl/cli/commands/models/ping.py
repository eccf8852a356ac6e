"""`ctl models ping`."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from dbgpt_ctl.cli.commands.models.selection import Selected, Selection, takes_selection
from dbgpt_ctl.cli.diagnosis.probe import means_caller
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import NoHeaders, choice, output_option
from dbgpt_ctl.cli.framework.session import Session, print_request, takes_session
from dbgpt_ctl.cli.output.signals import end_by, raises_on_interrupt
from dbgpt_ctl.cli.output.status_line import status_line
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_document, print_lines
from dbgpt_ctl.cli.parsing.suggestions import Suggestions
from dbgpt_ctl.cli.ping.report import PingedInstance, print_pings, summary
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.ping_results import Ping, PingResult
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import ConditionNotMet, ControllerFailed, ControllerUnreachable, NotFound, UsageError
from dbgpt_ctl.ping.worker import MAX_TOKENS, PROMPT, Level, PingOptions
from dbgpt_ctl.text.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.domain.instance import InstanceKey

MOST_TOKENS = 1000
"""The longest text that a ping may ask for: its records have to fit into the bound of an answer."""
_ELSEWHERE = "its host means the machine of its worker, and that is not this one: run ctl on the machine of the worker"

HowFar = Annotated[
    Level,
    typer.Option(
        "--level",
        help="How far to go: is it a worker; has it loaded the model; does the model answer.",
        **choice(Level, Level),
    ),
]
MaxTokens = Annotated[
    int,
    typer.Option(
        "--max-tokens",
        metavar="COUNT",
        min=1,
        max=MOST_TOKENS,
        show_default=False,
        help="Longest text to ask a model of type llm for.  [default: 16]",
    ),
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="Timeout of each instance, as in 20s or 2m.")]
Prompt = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What to ask the model.")]
Output = Annotated[
    OutputFormat,
    output_option(
        *("table", "json", "yaml", "name"),
        help="Format of the results; name prints the references of those that failed, for other commands.",
    ),
]


@explained(
    "ctl models ping qwen2.5",
    "ctl models ping --all --level metadata",
    "ctl models ping --all -o name | ctl models drain - --reason ping --for 15m",
    exit_codes={
        0: "Every instance answered.",
        5: "An instance did not answer; a busy one counts, though -o name leaves it out.",
    },
)
@takes_session
@takes_selection(names=True)
def ping(
    *,
    selection: Selection,
    level: HowFar = Level.GENERATE,
    max_tokens: MaxTokens = MAX_TOKENS,
    timeout: Timeout = "20s",
    prompt: Prompt = PROMPT,
    output: Output = OutputFormat.TABLE,
    no_headers: NoHeaders = False,
    session: Session,
) -> None:
    """Ask workers themselves whether they answer.

    A worker sends heartbeats on while its model is dead: it is healthy, and each chat fails. A ping asks the model for
    a short text, or for a vector or score of types text2vec and reranker. That may cost money at a paid backend;
    --level metadata does not ask the backend. A ping sends no credentials.

    Run it where API servers run: a firewall may let them through and not you. A selector or a NAME leaves deregistered
    instances out, unless --state names them. busy means that all slots are taken: nothing is known of the backend, and
    that is no reason to drain the instance. `-o name` prints the others that did not answer.
    """
    options = PingOptions(
        level=level,
        max_tokens=max_tokens,
        timeout=parse_duration("--timeout", timeout),
        prompt=prompt,
    )
    if not prompt.strip():
        raise UsageError("--prompt is empty: give a text, or leave the option out")
    selected, controller_host = _select(selection, session)
    known = selected.known()
    elsewhere = {key for key in selected.keys if means_caller(key.host, controller_host)}
    asked = [key for key in selected.keys if key not in elsewhere]
    pings = {key: Ping(key, PingResult.NOT_ASKED, _ELSEWHERE) for key in elsewhere}
    interrupted = _ping(asked, options, session, pings)
    pinged = [PingedInstance(pings[key], known.get(key)) for key in selected.keys if key in pings]
    _print(pinged, output, headers=not no_headers)
    if interrupted:
        session.say(f"interrupted: {len(selected.keys) - len(pings)} of {len(selected.keys)} have no result yet")
        end_by(signal.SIGINT)
    if failures := summary(pings.values()):
        raise ConditionNotMet(failures)


def _select(selection: Selection, session: Session) -> tuple[Selected, str]:
    """The instances, and the host of the controller that knows them.

    A selector or a NAME leaves deregistered instances out, unless it names states. References need no controller:
    without an answer only their states are unknown.
    """
    with session.client() as client:
        try:
            selected = selection.resolve(client, session, lists=True)
        except (ControllerUnreachable, ControllerFailed) as error:
            if selection.by_selector or not selection.keys or selection.reads_stdin:
                raise
            session.say(f"{error}; the states of the instances are not known")
            return Selected(list(dict.fromkeys(selection.keys))), _host_of(session.settings.addresses[0].url)
        known = selected.known()
        for key in selected.keys:
            if key not in known:
                session.say(f"{reference_of(key)}: not registered{Suggestions(client).for_instance(key)}")
    if selection.selector is not None and not selection.selector.states:
        keys = [key for key in selected.keys if known[key].state is not InstanceState.DEREGISTERED]
        if not keys:
            raise NotFound("all instances that match are deregistered: --state deregistered pings them all the same")
        selected = replace(selected, keys=keys)
    answer = selected.answer
    return selected, _host_of(session.settings.addresses[0].url if answer is None else answer.controller)


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def _ping(keys: Sequence[InstanceKey], options: PingOptions, session: Session, pings: dict[InstanceKey, Ping]) -> bool:
    """Adds the results as they come, and says on a terminal how many there are. Whether Ctrl-C ended that."""
    from dbgpt_ctl.ping.run import ping_all

    counts: Counter[str] = Counter()

    def add(ping: Ping) -> None:
        pings[ping.key] = ping
        counts[ping.result] += 1
        draw(f"pinged {counts.total()} of {len(keys)}: {', '.join(f'{counts[each]} {each}' for each in counts)}")

    observe = print_request if session.verbose and not session.quiet else None
    with status_line(wanted=not session.quiet and observe is None) as draw, raises_on_interrupt():
        draw(f"pinging {len(keys)} {'instance' if len(keys) == 1 else 'instances'}")
        try:
            ping_all(keys, options, on_result=add, observe=observe)
        except KeyboardInterrupt:
            return True
    return False


def _print(pinged: Sequence[PingedInstance], form: OutputFormat, *, headers: bool) -> None:
    match form:
        case OutputFormat.JSON | OutputFormat.YAML:
            print_document([each.as_object() for each in pinged], form)
        case OutputFormat.NAME:
            print_lines(reference_of(ping.key) for ping, _ in pinged if ping.failed)
        case _ if pinged:
            print_pings(pinged, headers=headers)
