"""`-v`: what was asked of which controller, what came of it, and the id under which its traces are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.stdout import say

if TYPE_CHECKING:
    from dbgpt_ctl.client.failover import Outcome, Request


def tell(request: Request, outcome: Outcome, seconds: float) -> None:
    """One line on stderr for each request. The URL never holds credentials."""
    from dbgpt_ctl.client.responses import Response  # imported with the client; only a client calls this

    what = str(outcome.status) if isinstance(outcome, Response) else outcome.detail
    trace = "" if request.trace is None else f", trace {request.trace.trace_id}"
    say(f"{request.method} {request.url}: {what}, {seconds * 1000:.1f} ms{trace}")
