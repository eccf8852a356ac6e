"""What GET /api/v1/auth reports, and the refused workers of the status. Neither holds a secret or a hash."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from dbgpt_ctl.wire import auth

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.auth.tokens_file import TokensFile
    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.auth.refusal_log import RefusedRequest
    from dbgpt_ctl.controller.auth.refusals import RefusalTable, RefusalTally, RefusedWorker
    from dbgpt_ctl.controller.auth.tokens_in_force import LastUse
    from dbgpt_ctl.domain.instance import InstanceKey

EXPIRING = timedelta(days=30)
"""A token that expires within this time, or has expired, is in the status."""


def report(access: Access) -> auth.AuthReportObject:
    """The whole answer."""
    tokens = () if access.in_force.file is None else access.in_force.file.tokens.values()
    return auth.AuthReportObject(
        **asdict(_auth(access)),
        time=access.now(),
        tokens=[token_use(token, access.last_use) for token in tokens],
        refusals=_refusals(access.refusals),
    )


def auth_of_status(access: Access) -> auth.AuthOfStatus:
    """The `auth` of /api/v1/status: with the workers that are refused, because an instance whose heartbeats are refused
    looks like a dead one, and without a name of a token that is not about to expire.
    """
    workers = list(map(_refused_worker, access.refusals.workers()))
    return auth.AuthOfStatus(**asdict(_auth(access)), refused_workers=workers)


def token_use(token: Token, last_use: LastUse) -> auth.TokenUse:
    """One of the `tokens`."""
    newest, *old = map(last_use.of, token.sha256) if token.sha256 else (_last_use_before_revoke(token, last_use),)
    return auth.TokenUse(
        name=token.name,
        role=str(token.role),
        models=list(token.models),
        hosts=list(token.hosts),
        max_instances=token.max_instances,
        expires=token.expires,
        valid=len(token.sha256),
        last_used=newest,
        old_last_used=old[0] if old else None,
    )


def _last_use_before_revoke(token: Token, last_use: LastUse) -> datetime | None:
    """Of a token that leaked and was revoked: when it was accepted last, whichever secret of it that was."""
    return max((used for used in map(last_use.of, token.revoked_sha256) if used is not None), default=None)


def _refusals(refusals: RefusalTable) -> auth.Refusals:
    return auth.Refusals(
        since=refusals.since,
        rows=[_row(request, tally) for request, tally in refusals.rows()],
        other=[auth.Tally(reason=str(reason), **_counted(tally)) for reason, tally in refusals.other.items()],
    )


def _refused_worker(worker: RefusedWorker) -> auth.RefusedWorkerObject:
    """An age needs no clock that agrees with the registry's."""
    return auth.RefusedWorkerObject(
        reason=str(worker.reason),
        source=worker.source,
        token=worker.token,
        **_identity(worker.instance),
        count=worker.count,
        last_secs_ago=round(worker.age.total_seconds(), 3),
    )


def _row(request: RefusedRequest, tally: RefusalTally) -> auth.RefusedRequests:
    return auth.RefusedRequests(
        reason=str(request.reason),
        source=request.source,
        user_agent=request.shown_user_agent,
        label=request.shown_label,
        token=request.token,
        request=request.shown_action,
        **_identity(request.instance),
        **_counted(tally),
    )


def _identity(key: InstanceKey | None) -> dict[str, Any]:
    model_name, host, port = key or (None, None, None)
    return {"model_name": model_name, "host": host, "port": port}


def _counted(tally: RefusalTally) -> dict[str, Any]:
    return {"count": tally.count, "first": tally.first, "last": tally.last, "served": tally.served}


def _auth(access: Access) -> auth.Auth:
    file = access.in_force.file
    return auth.Auth(
        mode=access.mode.value,
        mode_origin="tokens file" if access.in_force.in_file else "setting",
        open=access.is_open,
        tokens_file=None if file is None else _tokens_file(file, access.tokens.problem, access.now() + EXPIRING),
    )


def _tokens_file(file: TokensFile, problem: str | None, soon: datetime) -> auth.AuthTokensFile:
    readable = file.readable_by_others
    return auth.AuthTokensFile(
        digest=file.digest,
        tokens=len(file.tokens),
        problem=problem,
        readable_by_others=None if readable is None else f"{readable:04o}",
        expiring=[
            auth.ExpiringToken(name=token.name, expires=token.expires)
            for token in file.tokens.values()
            if token.sha256 and token.expires is not None and token.expires <= soon
        ],
    )
