"""`ctl models register`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.commands.models.selection import Selection, takes_selection
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import DryRun, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import Outcome, run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.suggestions import warn_of_types
from dbgpt_ctl.client.results import state_text
from dbgpt_ctl.domain.fields import parse_operator_weight, parse_prompt_template
from dbgpt_ctl.domain.instance import Registration

if TYPE_CHECKING:
    from dbgpt_ctl.domain.instance import InstanceKey

Weight = Annotated[
    str | None, typer.Option("--weight", metavar="NUMBER", help="Weight of the instance.  [default: 1.0]")
]
PromptTemplate = Annotated[
    str | None, typer.Option("--prompt-template", metavar="NAME", help="Name of the prompt template.")
]
NoCheckHealthy = Annotated[
    bool, typer.Option("--no-check-healthy", help="Count as healthy however old the last heartbeat is.")
]


@explained(
    "ctl models register qwen2.5@llm/10.0.0.4:8001",
    "ctl models register qwen2.5 --host 10.0.0.4 --port 8001 --weight 2",
)
@takes_session
@takes_selection(selectors=False, creates=True)
def register(
    *,
    weight: Weight = None,
    prompt_template: PromptTemplate = None,
    no_check_healthy: NoCheckHealthy = False,
    dry_run: DryRun = False,
    output: ResultOutput = OutputFormat.TEXT,
    selection: Selection,
    session: Session,
) -> int:
    """Register instances, as their workers do at start.

    For a known instance this updates weight, prompt template and heartbeat. A deregistered instance returns to service.
    """
    facts: dict[str, Any] = {
        "weight": parse_operator_weight(weight),
        "prompt_template": parse_prompt_template(prompt_template),
        "check_healthy": not no_check_healthy,
    }
    with session.client() as client:
        selected = selection.resolve(client, session, lists=dry_run)
        for line in warn_of_types(selected.keys):
            session.say(line)
        known = selected.known()

        def action(key: InstanceKey) -> str | Outcome:
            if dry_run:
                before = f"it is known, {state_text(known[key])}" if key in known else "it is new"
                return Outcome(key, "would be registered", line=f"would be registered; {before}")
            client.register(Registration(key, **facts))
            return "registered"

        return run_for_each(selected.keys, action, output)
