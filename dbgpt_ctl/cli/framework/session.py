"""What every command that talks to a controller shares: its options, and the client made from them."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.completion.candidates import contexts, files
from dbgpt_ctl.cli.framework.verbose import tell
from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.settings.contexts import load_connection
from dbgpt_ctl.settings.load import knobs_of
from dbgpt_ctl.settings.schema import ClientSettings
from dbgpt_ctl.traceparent import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.clock import Clock

_KNOBS = {knob.name: f"[{knob.variable}; default: {knob.text(knob.default)}]" for knob in knobs_of(ClientSettings)}

_Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="URL",
        help=f"URL of the controller; several, with commas, are tried in turn. {_KNOBS['address']}",
    ),
]
_RequestTimeout = Annotated[
    str | None,
    typer.Option(
        "--request-timeout",
        metavar="TIME",
        help=f"What one request may take, as in 5s or 500ms. {_KNOBS['request_timeout']}",
    ),
]
_EnvFile = Annotated[
    str | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        autocompletion=files,
        help="Reads variables from there, not from ./.env; '' reads none.",
    ),
]
_Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        autocompletion=contexts,
        help="Use that context (see ctl context), before CONTROLLER_ variables; '' uses none. [CTL_CONTEXT]",
    ),
]
_Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show on stderr each request, which controller answered, and the trace's id."),
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
_OPTIONS = {
    "address": (_Address, None),
    "request_timeout": (_RequestTimeout, None),
    "env_file": (_EnvFile, None),
    "context": (_Context, None),
    "verbose": (_Verbose, False),
    "quiet": (_Quiet, False),
}


@dataclass(frozen=True, slots=True)
class Session:
    """Which controllers a command is about, and how much it says of that."""

    settings: ClientSettings
    verbose: bool = False
    quiet: bool = False
    env_file: str | None = None
    """What --env-file says."""
    clock: Clock = field(default_factory=SystemClock)

    def client(self, address: str | None = None) -> ControllerClient:
        """A client of all controllers, or of that one; nothing is sent yet. Each call starts a trace.

        `address` of one of the controllers may lack its user and token.
        """
        from dbgpt_ctl.client import ControllerClient

        return ControllerClient(
            self.addressed(address),
            timeout=self.settings.request_timeout,
            watch=tell if self.verbose and not self.quiet else None,
            trace=TraceContext.new,
            actor="operator",
        )

    def addressed(self, address: str | None) -> str:
        """The text that a client takes: of all controllers, or of that one with its user and token."""
        if address is None:
            return self.settings.address
        known = (each for each in self.settings.addresses if each.url == address)
        return next((each.url_with_credentials for each in known), address)

    def say(self, line: str) -> None:
        """Talk that --quiet silences."""
        if not self.quiet:
            say(line)


def takes_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """The decorated command gets the options that all share; its argument `session` is what they lead to.

    A wrong one raises UsageError before the command runs. The `obj` with which `ctl` is called may be a clock.
    """
    own = inspect.signature(command, eval_str=True)

    @wraps(command)
    def with_session(
        *args: Any,
        ctx: typer.Context,
        address: str | None,
        request_timeout: str | None,
        env_file: str | None,
        context: str | None,
        verbose: bool,
        quiet: bool,
        **given: Any,
    ) -> Any:
        timeout = None if request_timeout is None else parse_duration("--request-timeout", request_timeout)
        settings = load_connection({"address": address, "request_timeout": timeout}, os.environ, env_file, context)
        clock = ctx.obj or SystemClock()
        session = Session(settings, verbose=verbose, quiet=quiet, env_file=env_file, clock=clock)
        for line in settings.remarks:
            session.say(f"warning: {line}")
        return command(*args, session=session, **given)

    shared = [Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    shared += [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _OPTIONS.items()
    ]
    parameters = [*(each for each in own.parameters.values() if each.name != "session"), *shared]
    vars(with_session)["__signature__"] = own.replace(parameters=parameters)
    with_session.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_session
