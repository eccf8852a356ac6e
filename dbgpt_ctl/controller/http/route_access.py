"""Which roles may use a route."""

from __future__ import annotations

from enum import Enum

from dbgpt_ctl.auth.tokens import Role


class RouteAccess(Enum):
    """The roles that may use a route; each `Route` has one. The first role of a value is the least one: a refusal
    names it.
    """

    roles: tuple[Role, ...]
    """The value: Python 3.11 makes a call to look up `value`, and each request needs it."""

    def __init__(self, *roles: Role) -> None:
        self.roles = roles

    EVERYONE = ()
    """No token is needed: health checks of DB-GPT's clients and of platforms may carry others than the real calls."""
    METRICS = (Role.METRICS, Role.READER, Role.WORKER, Role.OPERATOR)
    READER = (Role.READER, Role.WORKER, Role.OPERATOR)
    WORKER = (Role.WORKER, Role.OPERATOR)
    """A worker's token is also limited to the instances of its scope."""
    OPERATOR = (Role.OPERATOR,)
