"""`ctl assert`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from dbgpt_ctl.cli.commands.wait import check_instances, print_check
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import AllowStale, ReportOutput, model_argument
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat, say
from dbgpt_ctl.cli.parsing.conditions import Condition
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.instance_filter import ModelFilter
from dbgpt_ctl.errors import ConditionNotMet

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
    itself was away is unknown, and is not counted.
    """
    models, wanted = ModelFilter.parse(name), Condition.parse("--min-healthy", f"healthy>={min_healthy}")
    age = None if max_age is None else timedelta(seconds=parse_duration("--max-age", max_age))
    with session.client() as client:
        check = check_instances(session, client, models, wanted, max_age=age, allow_stale=allow_stale)
    print_check(check, output)
    if not check.met:
        say(f"{check.verdict} {check.condition}{models}: {check.text}")
    return 0 if check.met else ConditionNotMet.exit_code
