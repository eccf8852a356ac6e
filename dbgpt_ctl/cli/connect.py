"""What every command that talks to a controller shares: its options, and the client made from them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.candidates import files
from dbgpt_ctl.cli.duration import parse_duration
from dbgpt_ctl.cli.verbose import tell
from dbgpt_ctl.settings import ClientSettings, knobs_of
from dbgpt_ctl.traceparent import TraceContext

if TYPE_CHECKING:
    from dbgpt_ctl.client import ControllerClient

_KNOBS = {knob.name: f"[{knob.variable}; default: {knob.text(knob.default)}]" for knob in knobs_of(ClientSettings)}

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="URL",
        help=f"URL of the controller; several, with commas, are tried in turn. {_KNOBS['address']}",
    ),
]
RequestTimeout = Annotated[
    str | None,
    typer.Option(
        "--request-timeout",
        metavar="TIME",
        help=f"What one request may take, as in 5s or 500ms. {_KNOBS['request_timeout']}",
    ),
]
EnvFile = Annotated[
    str | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        autocompletion=files,
        help="Reads variables from there, not from ./.env; '' reads none.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show on stderr each request, which controller answered, and the trace's id."),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]


def connect(
    address: str | None, request_timeout: str | None, env_file: str | None, *, verbose: bool = False
) -> ControllerClient:
    """The client; nothing is sent yet. Each call starts a trace. Raises UsageError."""
    timeout = None if request_timeout is None else parse_duration("--request-timeout", request_timeout)
    settings = ClientSettings.load({"address": address, "request_timeout": timeout}, os.environ, env_file)
    from dbgpt_ctl.client import ControllerClient

    return ControllerClient(
        settings.address, timeout=settings.request_timeout, watch=tell if verbose else None, trace=TraceContext.new
    )
