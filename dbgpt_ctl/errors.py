"""The one error tree: what may go wrong, and what it means to a client of HTTP and to a shell.

    CtlError
    ├── UsageError               the arguments are wrong; no request was made
    │   └── InvalidInstance      ... or a body or query is: the same rules judge both
    ├── CannotListen
    ├── BodyTooLarge, UnsupportedMediaType
    ├── RegistryError
    │   ├── RegistryFull         no room for a new instance; known ones still beat
    │   ├── RegistryUnavailable  passes by itself: the database is away
    │   │   └── TooManyWatchers
    │   ├── RegistryUnusable     needs a person: wrong password, newer schema
    │   └── VerbNotSupported     the controller behind this one is DB-GPT's own
    ├── ConditionNotMet          what a script insisted on is not so
    └── ControllerError          what a client meets
        ├── ControllerUnreachable
        ├── ControllerRefused
        │   ├── NotAllowed
        │   └── NotSupported     it is DB-GPT's own controller, which does not know this verb
        ├── ControllerFailed
        └── NotFound

`code` is stable and stands in the problem details (RFC 9457), `http_status` is the controller's answer, `exit_code` the
CLI's (rule 13). A message is one line: what is wrong, with what value, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class CtlError(Exception):
    """Base of all that this package raises on purpose."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class UsageError(CtlError):
    """Something in the arguments, the environment or a file is wrong; nothing was sent."""

    code = "usage"
    title = "Wrong usage"
    http_status = 422
    exit_code = 2


class InvalidInstance(UsageError):
    """A field of an instance or of a query is missing or wrong. `field` names it as the wire does."""

    code = "invalid_instance"
    title = "Invalid instance"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class CannotListen(CtlError):
    """The address to serve on is taken, not allowed, or not of this machine."""

    code = "cannot_listen"
    title = "Cannot listen"


class BodyTooLarge(CtlError):
    """The body of a request is over the limit."""

    code = "body_too_large"
    title = "Body too large"
    http_status = 413
    exit_code = 6


class UnsupportedMediaType(CtlError):
    """The body is declared to be something else than JSON."""

    code = "unsupported_media_type"
    title = "Unsupported media type"
    http_status = 415
    exit_code = 6


class RegistryError(CtlError):
    """The registry could not do what it was asked."""

    code = "registry_error"
    title = "Registry error"


class RegistryFull(RegistryError):
    """`max_instances` are stored, and this would be one more."""

    code = "registry_full"
    title = "Registry full"
    http_status = 429
    exit_code = 6


class RegistryUnavailable(RegistryError):
    """The registry cannot be reached now; the same call may succeed later. `retry_after` is in seconds."""

    code = "registry_unavailable"
    title = "Registry unavailable"
    http_status = 503
    exit_code = 3

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyWatchers(RegistryUnavailable):
    """This controller has as many watchers as it takes; another may have room."""

    code = "too_many_watchers"
    title = "Too many watchers"


class RegistryUnusable(RegistryError):
    """The registry answers, and waiting will not help: a wrong password, a schema from a newer release."""

    code = "registry_unusable"
    title = "Registry unusable"


class VerbNotSupported(RegistryError):
    """What keeps the instances, DB-GPT's own controller behind this one, does not know this verb."""

    code = "not_supported"
    title = "Not supported"
    http_status = 501
    exit_code = 6


class ConditionNotMet(CtlError):
    """What was waited for did not come in time, or what was insisted on is not so."""

    code = "condition_not_met"
    title = "Condition not met"
    exit_code = 5


class ControllerError(CtlError):
    """A call to a controller did not do what it was meant to."""

    code = "controller_error"
    title = "Controller error"
    http_status = 502


class ControllerUnreachable(ControllerError):
    """No controller answered in time, or none that did could serve (502, 503, 504)."""

    code = "controller_unreachable"
    title = "Controller unreachable"
    exit_code = 3


class ControllerRefused(ControllerError):
    """The controller understood the call and declined it. `reason`: the code of its problem details, if any."""

    code = "controller_refused"
    title = "Refused by the controller"
    exit_code = 6

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class NotAllowed(ControllerRefused):
    """The controller wants other credentials (401) or forbids it (403)."""

    code = "not_allowed"
    title = "Not allowed"
    exit_code = 7


class NotSupported(ControllerRefused):
    """The controller has no /api/v1: it is DB-GPT's own, forwards to one, or is an older ctl."""

    code = VerbNotSupported.code
    title = VerbNotSupported.title
    http_status = 501


class ControllerFailed(ControllerError):
    """The controller failed (500), or what answered is not a controller."""

    code = "controller_failed"
    title = "Controller failed"


class NotFound(ControllerError):
    """What the call names is not known to the controller."""

    code = "not_found"
    title = "Not found"
    http_status = 404
    exit_code = 4
