"""Answers to GET /api/v1/auth, for tests of what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def at(seconds_ago: float) -> str:
    """A time before NOON, the time of the answers."""
    return (NOON - timedelta(seconds=seconds_ago)).isoformat(timespec="microseconds")


def token(name: str, role: str = "worker", **facts: Any) -> dict[str, Any]:
    """One of the `tokens`."""
    return {
        "name": name,
        "role": role,
        "models": [],
        "hosts": [],
        "max_instances": None,
        "expires": None,
        "valid": 1,
        "last_used": None,
        "old_last_used": None,
        **facts,
    }


def row(reason: str = "none", *, count: int = 3, ago: float = 12, **facts: Any) -> dict[str, Any]:
    """One of the rows: heartbeats of one worker."""
    return {
        "reason": reason,
        "source": "10.0.0.4",
        "user_agent": "python-httpx/0.27.0",
        "label": None,
        "token": None,
        "request": "POST /api/controller/heartbeat",
        "model_name": "qwen3@llm",
        "host": "10.0.0.4",
        "port": 8001,
        "count": count,
        "first": at(3600),
        "last": at(ago),
        "served": True,
        **facts,
    }


def other(reason: str = "none", *, count: int = 7, ago: float = 30) -> dict[str, Any]:
    """What has no row."""
    return {"reason": reason, "count": count, "first": at(3600), "last": at(ago), "served": False}


def report(
    *rows: dict[str, Any],
    mode: str = "log",
    tokens: tuple[dict[str, Any], ...] = (),
    others: tuple[dict[str, Any], ...] = (),
    since: float = 7200,
    **file: Any,
) -> dict[str, Any]:
    """The answer of a controller that has counted for `since` seconds; `file` are facts of its tokens file."""
    return {
        "version": 1,
        "time": at(0),
        "mode": mode,
        "mode_origin": "tokens file",
        "open": False,
        "tokens_file": {
            "digest": "1a2b3c4d5e6f",
            "tokens": len(tokens),
            "problem": None,
            "readable_by_others": None,
            "expiring": [],
            **file,
        },
        "tokens": list(tokens),
        "refusals": {"since": at(since), "rows": list(rows), "other": list(others)},
    }
