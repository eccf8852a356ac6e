"""`ctl assert`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.commands.wait import check_instances, print_check
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import AllowStale, ReportOutput, model_argument
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, say
from dbgpt_ctl.cli.parsing.conditions import Condition
from dbgpt_ctl.cli.parsing.suggestions import Suggestions
from dbgpt_ctl.domain.events import EventFilter
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.errors import ConditionNotMet, CtlError
from dbgpt_ctl.text.times import parse_duration

if TYPE_CHECKING:
    from dbgpt_ctl.client.sync import ControllerClient

MinHealthy = Annotated[
    str,
    typer.Option(
        "--min-healthy", metavar="NUMBER", help="Minimum number of instances that are healthy and not drained."
    ),
]
MaxAge = Annotated[
    str | None,
    typer.Option("--max-age", metavar="TIME", help="Count only instances with a heartbeat within TIME, as in 30s."),
]


@explained(
    "ctl assert qwen2.5",
    "ctl assert qwen2.5@llm --min-healthy 2 --max-age 30s",
    exit_codes={
        3: "No controller can be reached, or only the last known list.",
        5: "The instances are not enough.",
    },
)
@takes_session
def assert_(
    name: Annotated[str, model_argument()],
    *,
    min_healthy: MinHealthy = "1",
    max_age: MaxAge = None,
    allow_stale: AllowStale = False,
    output: ReportOutput = OutputFormat.TEXT,
    session: Session,
) -> int:
    """Check that enough instances of a model get requests now.

    Prints how many instances there are in each state. An instance that counts as healthy only because the registry
    itself was away is unknown, and is not counted. Neither is one to which not all controllers route because their
    heartbeat timeouts differ.
    """
    models, wanted = ModelFilter.parse(name), Condition.parse("--min-healthy", f"healthy>={min_healthy}")
    age = None if max_age is None else timedelta(seconds=parse_duration("--max-age", max_age))
    with session.client() as client:
        check = check_instances(session, client, models, wanted, max_age=age, allow_stale=allow_stale)
        print_check(check, output)
        if not check.met:
            past = "" if any(check.counts.values()) else _past_of(models, client)
            say(f"{check.verdict} {check.condition}{models}: {check.text}{past}")
    return 0 if check.met else ConditionNotMet.exit_code


def _past_of(models: ModelFilter, client: ControllerClient) -> str:
    """What is known of a model without instances: whether it had any, or which name looks like it."""
    hint = Suggestions(client).for_models(models)
    try:
        report = client.events(where=EventFilter(models.model_name, models.name), after=0, limit=1)
    except CtlError:  # DB-GPT's own controller has none
        return hint
    if report.events:
        return "; it was registered before, and ctl events shows what became of it"
    return f"; it was never registered{' as far as events are kept' if report.missed else ''}{hint}"
