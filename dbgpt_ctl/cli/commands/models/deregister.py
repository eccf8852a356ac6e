"""`ctl models deregister`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.commands.models.selection import Selection, takes_selection
from dbgpt_ctl.cli.framework.disruption import Confirmation, Force, Yes, refuse_disruption
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import DryRun, ResultOutput  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.results import run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.cli.parsing.suggestions import Suggestions
from dbgpt_ctl.errors import NotFound

if TYPE_CHECKING:
    from dbgpt_ctl.domain.instance import InstanceKey

Remove = Annotated[bool, typer.Option("--remove", help="Also remove the instances from every list.")]


@explained(
    "ctl models deregister qwen2.5@llm/10.0.0.4:8001",
    "ctl models deregister --state unhealthy --dry-run",
    "ctl models deregister --model 'qwen*' --host 10.0.0.4 --remove --yes",
    exit_codes={
        1: "The answer to the question is not yes; nothing was changed.",
        4: "The only failures are instances that are not known; a selector matches nothing.",
    },
)
@takes_session
@takes_selection()
def deregister(
    *,
    remove: Remove = False,
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: ResultOutput = OutputFormat.TEXT,
    selection: Selection,
    session: Session,
) -> int:
    """Take instances out of service.

    They get no requests until they register again; heartbeats do not bring them back.

    With a selector it asks first, and refuses to take the last routable instance of a model, or more than half of them,
    unless --force is given.
    """
    verb, done = ("deregister and remove", "removed") if remove else ("deregister", "deregistered")
    confirmation = Confirmation.needed(verb, yes=yes or not selection.by_selector, dry_run=dry_run)
    with session.client() as client:
        selected = selection.resolve(client, session, changes=True, lists=selection.by_selector or dry_run)
        if selection.by_selector and not force:
            refuse_disruption(selected.keys, selected.known().values(), done, by_selector=True)
        confirmation.confirm(selected.keys)
        known, suggestions = selected.known(), Suggestions(client)

        def action(key: InstanceKey) -> str:
            if not (key in known if dry_run else client.deregister(key, remove=remove)):
                raise NotFound(f"not known to the controller{suggestions.for_instance(key)}")
            return f"would be {done}" if dry_run else done

        return run_for_each(selected.keys, action, output)
