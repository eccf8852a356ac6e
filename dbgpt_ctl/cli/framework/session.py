"""What every command that calls a controller shares: its options, and the client made from them."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.completion.candidates import contexts
from dbgpt_ctl.cli.framework.options import EnvFile, option_of
from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.settings.contexts import load_connection
from dbgpt_ctl.settings.load import knobs_of
from dbgpt_ctl.settings.schema import ClientSettings
from dbgpt_ctl.traceparent import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.client.failover import Outcome, Request
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.clock import Clock

_KNOBS = {knob.name: knob for knob in knobs_of(ClientSettings)}
_TIMEOUT_HELP = "Timeout of one request, as in 5s or 500ms"
_Address = Annotated[str | None, option_of(_KNOBS["address"])]
_RequestTimeout = Annotated[str | None, option_of(_KNOBS["request_timeout"], metavar="TIME", help=_TIMEOUT_HELP)]
_Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        autocompletion=contexts,
        help="Use this context (see ctl context) before CONTROLLER_ variables; '' uses none. [CTL_CONTEXT]",
    ),
]
_Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Show each request on stderr, with the controller that answered and the trace id."
    ),
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")]


@dataclass(frozen=True, slots=True)
class Session:
    """The controllers of a command, and how much it prints on stderr."""

    settings: ClientSettings
    verbose: bool = False
    quiet: bool = False
    env_file: str | None = None
    """The value of --env-file."""
    clock: Clock = field(default_factory=SystemClock)
    _said_once: set[str] = field(default_factory=set)

    def client(self, address: str | None = None) -> ControllerClient:
        """A client of all controllers, or of the one at `address`; it sends nothing yet. Each call starts a trace.

        `address` may lack the user and token of the controller.
        """
        from dbgpt_ctl.client.sync import ControllerClient

        known = {} if address is None else {one.url: one.url_with_credentials for one in self.settings.addresses}
        return ControllerClient(
            self.settings.address if address is None else known.get(address, address),
            timeout=self.settings.request_timeout,
            watch=print_request if self.verbose and not self.quiet else None,
            trace=TraceContext.new,
            actor="operator",
        )

    def say(self, line: str) -> None:
        """Prints a line on stderr, unless --quiet is given."""
        if not self.quiet:
            say(line)

    def say_once(self, line: str) -> None:
        """The same, but only at the first call with that line."""
        if line not in self._said_once:
            self._said_once.add(line)
            self.say(line)


def print_request(request: Request, outcome: Outcome, seconds: float) -> None:
    """Prints one line on stderr for a request: its URL without credentials, the outcome, and the id of its trace."""
    from dbgpt_ctl.client.responses import Response  # the client has imported it

    result = str(outcome.status) if isinstance(outcome, Response) else outcome.detail
    trace = "" if request.trace is None else f", trace {request.trace.trace_id}"
    say(f"{request.method} {request.url}: {result}, {seconds * 1000:.1f} ms{trace}")


def takes_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the shared options to a command and passes it the session that they make, as `session`.

    A wrong option raises UsageError before the command runs. The `obj` with which `ctl` is called may be a clock.
    """
    own = inspect.signature(command, eval_str=True)

    def with_session(
        *args: Any,
        ctx: typer.Context,
        address: _Address = None,
        request_timeout: _RequestTimeout = None,
        env_file: EnvFile = None,
        context: _Context = None,
        verbose: _Verbose = False,
        quiet: _Quiet = False,
        **given: Any,
    ) -> Any:
        timeout = None if request_timeout is None else parse_duration("--request-timeout", request_timeout)
        settings = load_connection({"address": address, "request_timeout": timeout}, os.environ, env_file, context)
        clock = ctx.obj or SystemClock()
        session = Session(settings, verbose=verbose, quiet=quiet, env_file=env_file, clock=clock)
        for line in settings.remarks:
            session.say(f"warning: {line}")
        return command(*args, session=session, **given)

    shared = inspect.signature(with_session, eval_str=True).parameters.values()
    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "session"]
    parameters += [parameter for parameter in shared if parameter.kind is Parameter.KEYWORD_ONLY]
    wraps(command)(with_session)
    vars(with_session)["__signature__"] = own.replace(parameters=parameters)
    with_session.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_session
