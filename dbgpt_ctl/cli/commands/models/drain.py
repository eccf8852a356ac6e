"""`ctl models drain`, `undrain` and `prune`: what an operator does to instances that their workers know nothing of."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.arguments import Kind, Output  # noqa: TC001 - Typer reads them
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.escaping import unescaped
from dbgpt_ctl.cli.output.results import Done, ResultFormat, for_each
from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.cli.parsing.suggestions import Registered
from dbgpt_ctl.domain.fields import parse_reason
from dbgpt_ctl.errors import InvalidInstance, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.client.models import Drained
    from dbgpt_ctl.domain.instance import InstanceKey

LONGEST_AGE_DAYS = 3650

References = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME[@TYPE]/HOST:PORT",
        autocompletion=candidates.references,
        show_default=False,
        help="Instances as `ctl models list -o name` prints them; or --host.",
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host", metavar="HOST", help="All instances registered with this host, but for those of type service."
    ),
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; lists and events show it.")]
Force = Annotated[
    bool, typer.Option("--force", help="Also of type service: DB-GPT cannot stop or start models there then.")
]
ForceBack = Annotated[bool, typer.Option("--force", help="With --host: also those of type service.")]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Return when no controller of --address hands it out any more."),
]
WaitBack = Annotated[bool, typer.Option("--wait", help="Return when every controller of --address hands it out again.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait for each, as in 2m.")]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="TIME", help="Required: for so long, as in 7d or 12h.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")]


@takes_session
def drain(
    references: References = None,
    *,
    kind: Kind = None,
    host: Host = None,
    reason: Reason = None,
    wait: Wait = False,
    timeout: Timeout = "30s",
    force: Force = False,
    output: Output = ResultFormat.TEXT,
    session: Session,
) -> int:
    """Keep requests from instances, whatever their workers do, until undrain.

    API servers ask before each request, so new ones go elsewhere at once. Requests under way are the worker's own:
    no controller sees them, --wait does not wait for them. Exits with 5 when the --timeout of --wait is over.
    """
    from dbgpt_ctl.cli.commands.models.draining import Durability, Patience, await_drain, named

    patience = Patience(parse_duration("--timeout", timeout), time.monotonic, time.sleep) if wait else None
    why = _reason(reason)
    with session.client() as client:
        keys = named(client, session, references or [], kind, host, force=force, verb="drain")
        act = partial(_act, client, lambda key: client.drain(key, reason=why), "drained", Durability(session))
        return for_each(keys, act if patience is None else _then(act, partial(await_drain, session, patience)), output)


@takes_session
def undrain(
    references: References = None,
    *,
    kind: Kind = None,
    host: Host = None,
    wait: WaitBack = False,
    timeout: Timeout = "30s",
    force: ForceBack = False,
    output: Output = ResultFormat.TEXT,
    session: Session,
) -> int:
    """Let drained instances get requests again.

    With --wait, exits with 5 for one that gets none for another reason, or when --timeout is over.
    """
    from dbgpt_ctl.cli.commands.models.draining import Patience, await_undrain, named

    patience = Patience(parse_duration("--timeout", timeout), time.monotonic, time.sleep) if wait else None
    with session.client() as client:
        keys = named(client, session, references or [], kind, host, force=force, verb="undrain")
        act = partial(_act, client, client.undrain, "undrained", lambda _drained: None)
        return for_each(
            keys, act if patience is None else _then(act, partial(await_undrain, session, patience)), output
        )


@takes_session
def prune(
    *,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    output: Output = ResultFormat.TEXT,
    session: Session,
) -> int:
    """Forget instances that have been unhealthy or deregistered for long.

    Drained ones stay. A worker that comes back registers itself again.
    """
    if older_than is None:
        raise UsageError("give --older-than, as in --older-than 7d: what was gone for less stays")
    age = timedelta(seconds=parse_duration("--older-than", older_than, longest_days=LONGEST_AGE_DAYS))
    with session.client() as client:
        gone = client.prune(age, dry_run=dry_run)
    if not gone:
        session.say(f"nothing has been unhealthy or deregistered for longer than {older_than.strip()}")
    result = "would be removed" if dry_run else "removed"
    return for_each(gone, lambda _key: result, output)


def _act(
    client: ControllerClient,
    call: Callable[[InstanceKey], Drained],
    result: str,
    remark: Callable[[Drained], None],
    key: InstanceKey,
) -> Done:
    """One call. Who names nothing that is there is told what may have been meant."""
    try:
        drained = call(key)
    except NotFound:
        hint = Registered(client).hint_at_instance(key) or "; ctl models list shows what is"
        raise NotFound(f"not registered{hint}") from None
    remark(drained)
    return Done(result, facts={"state": drained.instance.state.value, "durable": drained.durable})


def _then(
    act: Callable[[InstanceKey], Done], wait: Callable[[InstanceKey, Done], Done]
) -> Callable[[InstanceKey], Done]:
    return lambda key: wait(key, act(key))


def _reason(text: str | None) -> str | None:
    """The rule is the controller's: what is wrong is told before anything is sent."""
    try:
        reason = None if text is None else parse_reason(unescaped(text))
    except InvalidInstance as error:
        raise UsageError(f"--reason: {error}") from None
    if text is not None and reason is None:
        raise UsageError("--reason is empty: leave it out, or say why")
    return reason
