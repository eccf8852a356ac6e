"""`ctl models deregister`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import Host, ModelType, Port, References, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.references import parse_targets
from dbgpt_ctl.cli.parsing.suggestions import Suggestions
from dbgpt_ctl.errors import NotFound

if TYPE_CHECKING:
    from dbgpt_ctl.domain.instance import InstanceKey

Remove = Annotated[bool, typer.Option("--remove", help="Also remove the instances from every list.")]


@explained(
    "ctl models deregister qwen2.5@llm/10.0.0.4:8001",
    "ctl models list -o name --state unhealthy | xargs ctl models deregister",
    exit_codes={
        4: "The only failures are instances that are not known.",
    },
)
@takes_session
def deregister(
    references: References,
    *,
    model_type: ModelType = None,
    host: Host = None,
    port: Port = None,
    remove: Remove = False,
    output: ResultOutput = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Take instances out of service.

    They get no requests until they register again; heartbeats do not bring them back.
    """
    keys = parse_targets(references, model_type, host, port, creates=False)
    with session.client() as client:
        suggestions = Suggestions(client)

        def action(key: InstanceKey) -> str:
            if not client.deregister(key, remove=remove):
                raise NotFound(f"not known to the controller{suggestions.for_instance(key)}")
            return "removed" if remove else "deregistered"

        return run_for_each(keys, action, output)
