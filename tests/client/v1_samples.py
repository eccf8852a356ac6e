"""Answers of /api/v1, and the calls that get them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from dbgpt_ctl.domain.events import EventFilter
from dbgpt_ctl.domain.instance import DrainFacts, DrainRequest
from tests.client.clients import KEY, OBJECT, SENT, problem

TIME = "2026-01-02T03:04:05.678901+00:00"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
DRAIN = DrainFacts(NOW, "10.0.0.9", "why", NOW + timedelta(hours=1))
KNOWN = OBJECT | {
    "enabled": False,
    "state": "healthy",
    "routable": False,
    "drain": {"since": TIME, "by": "10.0.0.9", "reason": "why", "until": "2026-01-02T04:04:05.678901+00:00"},
    "registered_at": TIME,
    "deregistered_at": None,
    "refused_at": None,
    "held": True,
    "flaps": 2,
    "removed": False,
    "of a newer release": 1,
}
EVENT = {
    "id": 7,
    "time": TIME,
    **KEY._asdict(),
    "old": "healthy",
    "new": "healthy",
    "drained": True,
    "verb": "drain",
    "actor": "operator",
    "actor_name": "anna",
    "address": "10.0.0.9",
    "reason": "why",
}
STATUS = {
    "version": 1,
    "time": TIME,
    "controller": {"version": "1.2", "started_at": TIME, "leaving": False},
    "registry": {"kind": "mariadb", "place": "db1/dbgpt", "durable": True, "ready": True, "reason": None},
    "settings": {"heartbeat_interval_secs": 20, "heartbeat_timeout_secs": 60, "max_instances": 9},
    "controllers": [
        {
            "id": "a1",
            "version": "1.2",
            "address": "http://ctl-1:8000",
            "heartbeat_timeout_secs": 60,
            "heartbeat_interval_secs": 20.5,
            "started_at": TIME,
            "seen_at": TIME,
        }
    ],
    "stale_since": None,
    "held_until": TIME,
    "models": [
        {
            "model_name": "qwen@llm",
            "healthy": 1,
            "unhealthy": 2,
            "deregistered": 4,
            "routable": 1,
            "drained": 3,
            "unhealthy_drained": 2,
            "held": 1,
            "unchecked": 0,
        }
    ],
    "auth": None,
    "connections": None,
    "tls": None,
    "readers_dropped": 0,
    "outages": [{"gone_at": TIME, "back_at": TIME, "held_until": TIME}],
    "watchers": 5,
    "last_event_id": 7,
}
DISABLED = SENT._replace(weight=2.0, enabled=False)
ANSWERS: dict[str, Any] = {
    "instances": {"version": 1, "time": TIME, "stale_since": None, "held_until": TIME, "instances": [KNOWN]},
    "get": {"version": 1, "time": TIME, "held_until": TIME, "instance": KNOWN},
    "drain": {"version": 1, "time": TIME, "held_until": TIME, "instance": KNOWN, "durable": True},
    "undrain": {"version": 1, "time": TIME, "held_until": TIME, "instance": KNOWN, "durable": True},
    "register": {"version": 1, "time": TIME, "held_until": TIME, "instance": KNOWN, "durable": True},
    "prune": {"version": 1, "dry_run": True, "instances": [KEY._asdict()]},
    "events": {
        "version": 1,
        "stream": "s",
        "last_id": 7,
        "missed": True,
        "next_after": 7,
        "complete_since": TIME,
        "operator_complete_since": None,
        "events": [EVENT],
    },
    "status": STATUS,
    "settings": {
        "version": 1,
        "settings": [
            {"name": "no_console", "variable": "CONTROLLER_NO_CONSOLE", "value": True, "origin": "flag --no-console"}
        ],
    },
}
CALLS: dict[str, Any] = {
    "instances": lambda client: client.instances("qwen@llm", host="10.0.0.4", state="drained"),
    "get": lambda client: client.get(KEY),
    "drain": lambda client: client.drain(KEY, reason="why", duration=timedelta(hours=1)),
    "undrain": lambda client: client.undrain(KEY),
    "register": lambda client: client.register(DISABLED, drain=DrainRequest("why", timedelta(hours=1))),
    "prune": lambda client: client.prune(timedelta(hours=1), dry_run=True),
    "events": lambda client: client.events(
        where=EventFilter("qwen@llm", host="10.0.0.4", port=1, since=NOW), after=3, limit=9
    ),
    "status": lambda client: client.status(),
    "settings": lambda client: client.settings(),
}


def answers(verb: str) -> httpx.Response:
    return httpx.Response(200, json=ANSWERS[verb])


NOWHERE = [
    httpx.Response(404, json={"detail": "Not Found"}),
    httpx.Response(404, text="<html>"),
    httpx.Response(405, json={"detail": "Method Not Allowed"}),
    problem(404, "GET '/api/v1/drain': Not Found", "not_found"),
]
