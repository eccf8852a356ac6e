"""Who may use a route, who sent a request, as far as that is proven, and the scope of what it may change.

scope[IDENTITY]   absent    authentication is off: nothing is known, all is allowed
                  Identity  a valid token whose role may use the route
                  Unproven  log mode: enforce would refuse this request, which is served and counted
                  Anonymous enforce, on a route that is for everyone: no valid token came
"""

from __future__ import annotations

import base64
import binascii
import time
from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dbgpt_ctl.auth.scope import TokenScope
from dbgpt_ctl.auth.tokens import Reason, Role

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.domain.instance import InstanceKey

    HttpScope = MutableMapping[str, Any]
    Refuse = Callable[[Reason, HttpScope, Token | None, InstanceKey | None], None]
    "Counts a request. Raises AccessRefused in enforce mode."


IDENTITY = "dbgpt_ctl.identity"
"""Key in a request's scope."""
ROUTE_ACCESS = "dbgpt_ctl.route_access"
"""Key in a request's scope: the RouteAccess for which it was checked, where it has an Identity."""


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


class Caller(Protocol):
    """What the endpoints need to know of the sender of a request. `name` and `role` are those of a valid token."""

    @property
    def name(self) -> str | None: ...
    @property
    def role(self) -> Role | None: ...
    def check_instance(self, scope: HttpScope, key: InstanceKey) -> None:
        """Raises NotPermitted if the token may not register or deregister this instance."""


class InstanceCount:
    """The instances that a token has registered at this controller, and that are alive. It is kept when the tokens are
    read again, and lost at a restart: living workers are counted again with their next heartbeat.
    """

    def __init__(self, timeout_secs: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._timeout_secs = timeout_secs
        self._monotonic = monotonic
        self._seen: OrderedDict[InstanceKey, float] = OrderedDict()
        """The one that was not seen for the longest time is the first: to forget those that are not alive any more, or
        to find that there is none, costs no look at all of them.
        """

    def __len__(self) -> int:
        return len(self._seen)

    def has_room(self, key: InstanceKey, most: int) -> bool:
        """Counts the instance; False if it would be one more than `most`."""
        now, seen = self._monotonic(), self._seen
        if key not in seen:
            while seen and now - next(iter(seen.values())) >= self._timeout_secs:
                seen.popitem(last=False)
            if len(seen) >= most:
                return False
        seen[key] = now
        seen.move_to_end(key)
        return True

    def forget(self, key: InstanceKey) -> None:
        """The instance is not registered, or not any more."""
        self._seen.pop(key, None)


class ValidToken:
    """A valid token. One object serves all requests that bring it, until the tokens are read again.

    `is_old`: a newer token of the same name replaces it (`ctl token rotate`).
    """

    __slots__ = (
        *(
            "_instances",
            "_is_limited",
            "_refuse",
            "_scope",
            "check_again",
            "expires",
            "is_old",
            "name",
            "role",
            "token",
            "uses",
        ),
    )

    def __init__(self, token: Token, refuse: Refuse, instances: InstanceCount, *, is_old: bool) -> None:
        self.token = token
        self.name = token.name
        self.role = token.role
        self.is_old = is_old
        self.expires = token.expires
        self.uses = 0
        """How many requests brought it since `LastUse` looked: a plain number, because each request changes it."""
        self.check_again: Callable[[HttpScope], None] | None = None
        """Set when the token may not be valid any more: checks a request of it anew, as `Access.check`."""
        self._refuse = refuse
        self._is_limited = token.role is Role.WORKER
        self._scope: TokenScope | None = None
        """Made when it is needed first: to read 6,000 tokens again would stop all requests for 0.7 s otherwise."""
        self._instances = instances

    def check_instance(self, scope: HttpScope, key: InstanceKey) -> None:
        """Raises NotPermitted in enforce mode; in log mode the request is counted."""
        if not self._is_limited:
            return
        limits = self._scope
        if limits is None:
            limits = self._scope = TokenScope(self.token.models, self.token.hosts)
        if not limits.allows_model(key.model_name):
            self._refuse(Reason.MODELS, scope, self.token, key)
        elif not limits.allows_host(key.host):
            self._refuse(Reason.HOSTS, scope, self.token, key)
        elif self.token.max_instances is not None:
            self._check_count(scope, key, self.token.max_instances)

    def forget_instance(self, key: InstanceKey) -> None:
        """The registry does not take it: it has no place in `max_instances`."""
        self._instances.forget(key)

    def _check_count(self, scope: HttpScope, key: InstanceKey, most: int) -> None:
        if scope["method"] == "DELETE":
            self._instances.forget(key)
        elif not self._instances.has_room(key, most):
            self._refuse(Reason.MAX_INSTANCES, scope, self.token, key)


class Anonymous:
    """The sender of a request without a valid token, on a route that is for everyone."""

    name: str | None = None
    role: Role | None = None

    def check_instance(self, scope: HttpScope, key: InstanceKey) -> None:
        """No route for everyone changes an instance."""
        raise NotImplementedError


class Unproven:
    """The sender of a request that enforce would refuse, and that log mode serves. One object for each such request.

    It has a name and a role if its token is valid and only the role may not use the route.
    """

    def __init__(self, refuse: Refuse, reason: Reason, token: Token | None, *, is_counted: bool = False) -> None:
        valid = token if reason is Reason.ROLE else None
        self.name = None if valid is None else valid.name
        self.role = None if valid is None else valid.role
        self._refuse = refuse
        self._reason = reason
        self._token = token
        self._is_counted = is_counted

    def check_instance(self, scope: HttpScope, key: InstanceKey | None) -> None:
        """Counts the request once, now that its instance is known, or that it has none that can be read."""
        if not self._is_counted:
            self._is_counted = True
            self._refuse(self._reason, scope, self._token, key)


def check_instance(scope: HttpScope, key: InstanceKey) -> None:
    """Raises NotPermitted if the sender may not register, or deregister, this instance."""
    caller: Caller | None = scope.get(IDENTITY)
    if caller is not None:
        caller.check_instance(scope, key)


def check_again(scope: HttpScope) -> None:
    """Call it when the body is read, for which a request may wait long: raises AccessRefused if the token was revoked,
    or is expired, since the request was checked.
    """
    caller = scope.get(IDENTITY)
    if isinstance(caller, ValidToken) and caller.check_again is not None:
        caller.check_again(scope)


def forget_instance(scope: HttpScope, key: InstanceKey) -> None:
    """The registry did not take the instance that `check_instance` has counted for the `max_instances` of a token."""
    caller = scope.get(IDENTITY)
    if isinstance(caller, ValidToken):
        caller.forget_instance(key)


def count_without_instance(scope: HttpScope) -> None:
    """Counts a request that failed before its instance was known, and that enforce would have refused before that."""
    caller = scope.get(IDENTITY)
    if isinstance(caller, Unproven):
        caller.check_instance(scope, None)


def may_read(scope: HttpScope) -> bool:
    """Whether the sender may see what needs a reader, such as the reason in an answer that is for everyone."""
    caller: Caller | None = scope.get(IDENTITY)
    return caller is None or isinstance(caller, Unproven) or caller.role in RouteAccess.READER.roles


MAX_HEADER_BYTES = 1024
"""A longer one holds no token of ours, and is not decoded."""


class Credentials(NamedTuple):
    """`label` is the user of Basic: a claim, no proof. None where the user is the token, and with Bearer."""

    token: str
    label: str | None = None


def credentials_of(header: bytes) -> Credentials | None:
    """The credentials in the value of the header; None if it holds none that this controller knows how to read."""
    if len(header) > MAX_HEADER_BYTES:
        return None
    scheme, _, value = header.strip().partition(b" ")
    match scheme.lower():
        case b"bearer":
            token = value.strip().decode("latin-1")
            return Credentials(token) if token else None
        case b"basic":
            return _basic(value.strip())
    return None


def _basic(value: bytes) -> Credentials | None:
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return None
    if not colon:
        return None
    if password:
        return Credentials(password, user or None)
    return Credentials(user) if user else None
