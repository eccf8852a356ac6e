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
from dbgpt_ctl.cli.framework.options import ClientEnvFile, option_of
from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.settings.contexts import load_connection, unread_address
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ClientSettings
from dbgpt_ctl.text.times import parse_duration
from dbgpt_ctl.traceparent import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.client.failover import Outcome, Request
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.errors import Attempt

_SETTINGS = {setting.name: setting for setting in declared_settings(ClientSettings)}
_TIMEOUT_HELP = "Timeout of one request, as in 5s or 500ms"
_ADDRESS_HELP = "URL of the controller; several are tried in turn: repeat it or use commas"
_Context = typer.Option(
    "--context",
    metavar="NAME",
    autocompletion=contexts,
    help="Context to use before CONTROLLER_ variables; '' uses none.  [CTL_CONTEXT]",
)
_Verbose = typer.Option(
    "--verbose", "-v", help="Show each request on stderr, with the controller that answered and the trace id."
)
_Quiet = typer.Option("--quiet", "-q", help="Print only errors on stderr.")


def _option(name: str, annotation: Any, default: Any = None) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


SHARED = (
    _option("address", Annotated[list[str] | None, option_of(_SETTINGS["address"], help=_ADDRESS_HELP)]),
    _option(
        "request_timeout",
        Annotated[str | None, option_of(_SETTINGS["request_timeout"], metavar="TIME", unit="s", help=_TIMEOUT_HELP)],
    ),
    _option("ca_file", Annotated[str | None, option_of(_SETTINGS["ca_file"])]),
    _option("env_file", ClientEnvFile),
    _option("context", Annotated[str | None, _Context]),
    _option("verbose", Annotated[bool, _Verbose], default=False),
    _option("quiet", Annotated[bool, _Quiet], default=False),
)
"""The options of every command that calls a controller. They may stand before the verb too (see `framework.lazy`)."""


@dataclass(frozen=True, slots=True)
class Session:
    """The controllers of a command, and how much it prints on stderr."""

    settings: ClientSettings
    verbose: bool = False
    quiet: bool = False
    env_file: str | None = None
    """The value of --env-file."""
    clock: Clock = field(default_factory=SystemClock)
    print_message: Callable[[str], None] = say
    _said_once: dict[str, object] = field(default_factory=dict)

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
            ca_file=self.settings.ca_file,
            on_refusal=self._warn_of_refusals,
        )

    def _warn_of_refusals(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self.say_once(f"warning: {attempt}; another controller served the call", about=attempt.controller)

    def say(self, line: str) -> None:
        """Prints a line on stderr, unless --quiet is given."""
        if not self.quiet:
            self.print_message(line)

    def say_once(self, line: str, *, about: str | None = None) -> None:
        """The same, but only at the first call with that line, or with that subject if there is one; of calls by
        several threads at one of them.
        """
        this_call = object()
        if self._said_once.setdefault(about or line, this_call) is this_call:
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

    @wraps(command)
    def with_session(*args: Any, ctx: typer.Context, **given: Any) -> Any:
        options = {option.name: given.pop(option.name) for option in SHARED}
        return command(*args, session=_session(ctx.obj or SystemClock(), **options), **given)

    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "session"]
    parameters += [Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context), *SHARED]
    vars(with_session)["__signature__"] = own.replace(parameters=parameters)
    with_session.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_session


def _session(
    clock: Clock,
    *,
    address: list[str] | None,
    request_timeout: str | None,
    ca_file: str | None,
    env_file: str | None,
    context: str | None,
    verbose: bool,
    quiet: bool,
) -> Session:
    """The session that the shared options make. Prints what the settings warn of."""
    timeout = None if request_timeout is None else parse_duration("--request-timeout", request_timeout)
    flags = {"address": ",".join(address) if address else None, "request_timeout": timeout, "ca_file": ca_file}
    settings = load_connection(flags, os.environ, env_file, context)
    session = Session(settings, verbose=verbose, quiet=quiet, env_file=env_file, clock=clock)
    for line in settings.remarks:
        session.say(f"warning: {line}")
    if not quiet and (unread := unread_address(settings, env_file)):
        session.say(unread)
    return session
