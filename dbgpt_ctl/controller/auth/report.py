"""The JSON objects of GET /api/v1/auth, and the refused workers of the status. They hold no secret and no hash."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.http.serializers import iso

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.auth.last_use import LastUse
    from dbgpt_ctl.controller.auth.refusals import Refusals, RefusedWorker, Tally
    from dbgpt_ctl.controller.auth.refused_request import RefusedRequest

EXPIRING = timedelta(days=30)
"""A token that expires within this time, or has expired, is in the status."""


def report_object(access: Access) -> dict[str, Any]:
    """The whole answer, without its version."""
    tokens = () if access.in_force.file is None else access.in_force.file.tokens.values()
    return {
        "time": iso(access.now()),
        **auth_object(access),
        "tokens": [token_object(token, access.last_use) for token in tokens],
        "refusals": refusals_object(access.refusals),
    }


def token_object(token: Token, last_use: LastUse) -> dict[str, Any]:
    """One of the `tokens`."""
    newest, *old = map(last_use.of, token.sha256) if token.sha256 else (_last_use_before_revoke(token, last_use),)
    return {
        "name": token.name,
        "role": str(token.role),
        "models": token.models,
        "hosts": token.hosts,
        "max_instances": token.max_instances,
        "expires": iso(token.expires),
        "valid": len(token.sha256),
        "last_used": iso(newest),
        "old_last_used": iso(old[0]) if old else None,
    }


def _last_use_before_revoke(token: Token, last_use: LastUse) -> datetime | None:
    """Of a token that leaked and was revoked: when it was accepted last, whichever secret of it that was."""
    return max((used for used in map(last_use.of, token.revoked_sha256) if used is not None), default=None)


def refusals_object(refusals: Refusals) -> dict[str, Any]:
    """The `refusals`."""
    return {
        "since": iso(refusals.since),
        "rows": [_row_object(request, tally) for request, tally in refusals.rows()],
        "other": [{"reason": str(reason), **_tally_object(tally)} for reason, tally in refusals.other.items()],
    }


def refused_worker_object(worker: RefusedWorker) -> dict[str, Any]:
    """One of the `refused_workers` of /api/v1/status. An age needs no clock that agrees with the registry's."""
    model_name, host, port = worker.instance or (None, None, None)
    return {
        "reason": str(worker.reason),
        "source": worker.source,
        "token": worker.token,
        "model_name": model_name,
        "host": host,
        "port": port,
        "count": worker.count,
        "last_secs_ago": round(worker.age.total_seconds(), 3),
    }


def _row_object(request: RefusedRequest, tally: Tally) -> dict[str, Any]:
    model_name, host, port = request.instance or (None, None, None)
    return {
        "reason": str(request.reason),
        "source": request.source,
        "user_agent": request.shown_user_agent,
        "label": request.shown_label,
        "token": request.token,
        "request": request.shown_action,
        "model_name": model_name,
        "host": host,
        "port": port,
        **_tally_object(tally),
    }


def _tally_object(tally: Tally) -> dict[str, Any]:
    return {"count": tally.count, "first": iso(tally.first), "last": iso(tally.last), "served": tally.served}


def auth_object(access: Access) -> dict[str, Any]:
    """The `auth` of /api/v1/status, without a name of a token that is not about to expire."""
    soon = access.now() + EXPIRING
    file, in_file = access.in_force.file, access.in_force.in_file
    of_file = None
    if file is not None:
        readable = file.readable_by_others
        of_file = {
            "digest": file.digest,
            "tokens": len(file.tokens),
            "problem": access.tokens.problem,
            "readable_by_others": None if readable is None else f"{readable:04o}",
            "expiring": [
                {"name": token.name, "expires": iso(token.expires)}
                for token in file.tokens.values()
                if token.sha256 and token.expires is not None and token.expires <= soon
            ],
        }
    return {
        "mode": access.mode.value,
        "mode_origin": "tokens file" if in_file else "setting",
        "open": access.is_open,
        "tokens_file": of_file,
    }
