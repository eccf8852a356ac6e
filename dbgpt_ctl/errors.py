"""The one error tree: every error that this package raises, with its meaning for HTTP and for a shell.

    CtlError
    ├── UsageError               the arguments are wrong; no request was made
    │   └── InvalidInstance      a field of an instance is wrong, in arguments, a body or a query
    ├── CannotListen
    ├── BodyTooLarge, UnsupportedMediaType
    ├── HostNotAllowed, ForeignOrigin, ReadOnlyPage
    ├── AuthenticationIsOff      nobody can sign in
    ├── AccessRefused            the check of who may do what
    │   ├── NotAuthenticated     no token, or none that is valid
    │   └── NotPermitted         a valid token whose rights do not go so far
    ├── RegistryError
    │   ├── RegistryFull         no capacity for a new instance; registered ones can still send heartbeats
    │   ├── RegistryUnavailable  temporary: the database is away
    │   │   ├── TooManyWatchers
    │   │   ├── StatesHeld       after an outage of the registry; nothing is removed then
    │   │   └── ControllerLeaving
    │   ├── RegistryUnusable     permanent until a person acts: wrong password, newer schema
    │   ├── VerbNotSupported     the controller behind this one is DB-GPT's own
    │   └── ForwardsToItself     the request has passed this controller before
    ├── ConditionNotMet          a condition that a script requires does not hold
    └── ControllerError          a call of a client failed
        ├── ControllerUnreachable
        │   └── StaleList        a command does not rest on the last known list
        ├── ControllerRefused
        │   ├── NotAllowed
        │   └── NotSupported     DB-GPT's own controller does not have this call
        ├── ControllerFailed
        └── NotFound

`code` is stable and stands in the problem details (RFC 9457), `http_status` is the controller's answer, `exit_code` the
CLI's (rule 13). A message is one line: what is wrong, with which value, and what to do.
"""

from __future__ import annotations

from copy import copy
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dbgpt_ctl.failure_causes import FailureCause as FailureCause  # noqa: PLC0414 - a name of the public API

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


class CtlError(Exception):
    """Base of every error that this package raises on purpose."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Error"
    """The words of `code`, where a class does not set another one."""
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        if "title" not in vars(cls):
            cls.title = cls.code.replace("_", " ").capitalize()


class UsageError(CtlError):
    """The arguments, the environment or a file are wrong; nothing was sent."""

    code = "usage"
    title = "Wrong usage"
    http_status = 422
    exit_code = 2


class InvalidInstance(UsageError):
    """A field of an instance or of a query is missing or wrong. `field` is its name in the API."""

    code = "invalid_instance"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class CannotListen(CtlError):
    """The address to serve on is in use, not allowed, or not an address of this machine."""

    code = "cannot_listen"


class BodyTooLarge(CtlError):
    """The body of a request exceeds the limit."""

    code = "body_too_large"
    http_status = 413
    exit_code = 6


class UnsupportedMediaType(CtlError):
    """The declared media type of the body is not JSON."""

    code = "unsupported_media_type"
    http_status = 415
    exit_code = 6


class HostNotAllowed(CtlError):
    """The request names a host by which this controller may not be called; see `--allowed-hosts`."""

    code = "host_not_allowed"
    http_status = 421
    exit_code = 6

    @classmethod
    def refusing(cls, header: str, host: str | None) -> HostNotAllowed:
        """The refusal of the header `Host`, which is quoted; `host` is the host in it, None where it has none."""
        if host is None:
            return cls(f"the header Host {header} is no host name or address; send the host and port of the controller")
        return cls(
            f"host {header} is not allowed here; if it is a name of this controller, add {host} to its "
            "--allowed-hosts (CONTROLLER_ALLOWED_HOSTS)"
        )


class ForeignOrigin(CtlError):
    """A web page of another site sent this request, and it would change something."""

    code = "foreign_origin"
    http_status = 403
    exit_code = 7


class ReadOnlyPage(CtlError):
    """A page of this controller sent a change, but its pages only read: it checks nothing, and others reach it."""

    code = "read_only_page"
    title = "Read-only page"
    http_status = 403
    exit_code = 7


class AuthenticationIsOff(CtlError):
    """The controller checks no tokens, so there is nothing to sign in to."""

    code = "authentication_is_off"
    http_status = 409
    exit_code = 6


class AccessRefused(CtlError):
    """The controller does not do this for the one who asks. `reason` is one of `auth.reasons.Reason`."""

    code = "access_refused"
    http_status = 403
    exit_code = 7

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotAuthenticated(AccessRefused):
    """The request has no token, or one that is not valid."""

    code = "not_authenticated"
    http_status = 401


class NotPermitted(AccessRefused):
    """The token is valid, and its role or its scope does not allow this."""

    code = "not_permitted"


class RegistryError(CtlError):
    """The registry could not do what the call requires."""

    code = "registry_error"


class RegistryFull(RegistryError):
    """The registry already holds `max_instances`, and this would be one more."""

    code = "registry_full"
    http_status = 429
    exit_code = 6

    @classmethod
    def refusing(cls, key: object, max_instances: int) -> RegistryFull:
        """The refusal of a new instance."""
        return cls(
            f"{key} refused: it would be one more than the {max_instances} that --max-instances allows; "
            "deregister some with --remove or raise it"
        )


class RegistryUnavailable(RegistryError):
    """The registry cannot be reached now; the same call may succeed later."""

    code = "registry_unavailable"
    http_status = 503
    exit_code = 3
    retry_after: ClassVar[int] = 5
    """In seconds."""


class TooManyWatchers(RegistryUnavailable):
    """This controller has reached its limit of watchers; another controller may accept one."""

    code = "too_many_watchers"


class StatesHeld(RegistryUnavailable):
    """The registry itself was away, and removes nothing while states are held."""

    code = "states_held"


class ControllerLeaving(RegistryUnavailable):
    """This controller ends soon, and only serves on until its clients use another one."""

    code = "controller_leaving"


class RegistryUnusable(RegistryError):
    """The registry answers, and waiting does not help: a wrong password, a schema of a newer release."""

    code = "registry_unusable"
    http_status = 503


class VerbNotSupported(RegistryError):
    """DB-GPT's own controller, to which this one forwards, does not have this call."""

    code = "not_supported"
    http_status = 501
    exit_code = 6


class ForwardsToItself(RegistryError):
    """The request has passed this controller before: it forwards to itself, directly or over others."""

    code = "forwards_to_itself"
    http_status = 508


class ConditionNotMet(CtlError):
    """A condition that was waited for did not come true in time, or a required condition does not hold."""

    code = "condition_not_met"
    exit_code = 5


class NotConfirmed(CtlError):
    """A command asked before a change, and the answer was not yes; nothing was changed."""

    code = "not_confirmed"


class WouldDisrupt(UsageError):
    """A model would lose too many routable instances at once; nothing was changed."""

    code = "would_disrupt"


class ErrorKind(StrEnum):
    """Why a call to a controller failed."""

    NO_ANSWER = "no_answer"
    """At least one controller did not answer: no connection, or no complete response in time."""
    UNAVAILABLE = "unavailable"
    """No controller serves the call, and at least one answers that it cannot now (502, 503, 504)."""
    STREAM_BROKEN = "stream_broken"
    """A watch was established and then lost."""
    FAILED = "failed"
    """The controller answered another 5xx."""
    NOT_A_CONTROLLER = "not_a_controller"
    """What answers at the address sends what no controller sends."""
    NOT_ALLOWED = "not_allowed"
    REFUSED = "refused"
    NOT_SUPPORTED = "not_supported"
    NOT_FOUND = "not_found"


class Attempt(NamedTuple):
    """One controller that could not serve a call, and why. `controller` is its URL without secrets."""

    controller: str
    detail: str
    cause: FailureCause | None = None

    def __str__(self) -> str:
        return f"{self.controller}: {self.detail}"


def _advice_for(causes: set[FailureCause | None]) -> str | None:
    """What to do about the causes; None where the advice of the client says it better."""
    if causes <= {FailureCause.REFUSED, None}:
        return None
    only, *others = causes
    return "ctl doctor says what to do about each" if others or only is None else only.fix


_MESSAGES = {
    ErrorKind.NO_ANSWER: "no controller answers: {attempts}",
    ErrorKind.UNAVAILABLE: "no controller can serve now: {attempts}",
    ErrorKind.STREAM_BROKEN: "{controller}: {detail}",
    ErrorKind.FAILED: "the controller failed: {attempts}",
    ErrorKind.NOT_A_CONTROLLER: "no controller is there: {attempts}",
    ErrorKind.NOT_ALLOWED: "{controller} does not allow it: {detail}",
    ErrorKind.REFUSED: "{controller} refused: {detail}",
    ErrorKind.NOT_SUPPORTED: "{controller} does not support this: {detail}",
    ErrorKind.NOT_FOUND: "{detail}",
}
_OF_SEVERAL = {ErrorKind.NOT_ALLOWED: "no controller serves it: {attempts}"}
"""Where the message of an error of several controllers differs."""


class ControllerError(CtlError):
    """A call to a controller failed.

    `detail` is the reason without the URL and without `advice`, which says what to do. `controller` is the URL without
    secrets; None where several controllers were tried, or where the error does not come from one controller. `attempts`
    are the controllers that were tried in turn. `str()` composes the message from these fields, on one line.
    """

    code = "controller_error"
    http_status = 502
    kind: ErrorKind = ErrorKind.FAILED

    def __init__(
        self,
        detail: str,
        *,
        controller: str | None = None,
        attempts: Sequence[Attempt] = (),
        kind: ErrorKind | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.controller = controller
        self.attempts = tuple(attempts)
        self.kind = kind or self.kind
        self.advice = advice

    @classmethod
    def of_attempts(cls, attempts: Sequence[Attempt], kind: ErrorKind, advice: str | None = None) -> Self:
        """The error of a call that no controller served. `advice` is for attempts without a cause of their own."""
        if len(attempts) == 1:
            controller, detail, _ = attempts[0]
        else:
            controller, detail = None, "; ".join(map(str, attempts))
        advice = _advice_for({attempt.cause for attempt in attempts}) or advice
        return cls(detail, controller=controller, attempts=attempts, kind=kind, advice=advice)

    @property
    def cause(self) -> FailureCause | None:
        """Why the controller gave no answer; None where several were tried, or where the cause is not known."""
        return self.attempts[0].cause if len(self.attempts) == 1 else None

    def advised(self, advice: str) -> Self:
        """The same error with other advice."""
        other = copy(self)
        other.advice = advice
        return other

    def __str__(self) -> str:
        message = self.detail
        if self.controller is not None or self.attempts:
            attempts = self.attempts or (Attempt(str(self.controller), self.detail),)
            template = _MESSAGES[self.kind] if self.controller is not None else _OF_SEVERAL.get(self.kind)
            message = (template or _MESSAGES[self.kind]).format(
                attempts="; ".join(map(str, attempts)), controller=self.controller, detail=self.detail
            )
        return message if self.advice is None else f"{message}; {self.advice}"


class ControllerUnreachable(ControllerError):
    """No controller answered in time, none that answered could serve (502, 503, 504), or another server answers."""

    code = "controller_unreachable"
    exit_code = 3
    kind = ErrorKind.NO_ANSWER


class StaleList(ControllerUnreachable):
    """The registry is away, and the command does not rest on its last known list."""

    code = "stale_list"


class ControllerRefused(ControllerError):
    """The controller understood the call and declined it. `problem_code` is the code of its problem details, if any."""

    code = "controller_refused"
    title = "Refused by the controller"
    exit_code = 6
    kind = ErrorKind.REFUSED

    def __init__(self, detail: str, *, problem_code: str | None = None, **fields: Any) -> None:
        super().__init__(detail, **fields)
        self.problem_code = problem_code


class NotAllowed(ControllerRefused):
    """The controller wants other credentials (401) or forbids it (403). `reason` is that of its AccessRefused."""

    code = "not_allowed"
    exit_code = 7
    kind = ErrorKind.NOT_ALLOWED

    def __init__(self, detail: str, *, reason: str | None = None, **fields: Any) -> None:
        super().__init__(detail, **fields)
        self.reason = reason

    def among(self, attempts: Sequence[Attempt]) -> Self:
        """The same error, when none of several controllers served the call."""
        other = self.of_attempts(attempts, self.kind, self.advice)
        other.problem_code, other.reason = self.problem_code, self.reason
        return other


class NotSupported(ControllerRefused):
    """The controller has no /api/v1: it is DB-GPT's own, forwards to one, or is an older ctl."""

    code = VerbNotSupported.code
    http_status = 501
    kind = ErrorKind.NOT_SUPPORTED


class ControllerFailed(ControllerError):
    """The controller failed (500)."""

    code = "controller_failed"


class NotFound(ControllerError):
    """The instance or object that the call names does not exist."""

    code = "not_found"
    http_status = 404
    exit_code = 4
    kind = ErrorKind.NOT_FOUND
