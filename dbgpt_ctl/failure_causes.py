"""Why a controller gave no answer that can be used, and what a person does about each cause."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class FailureCause(StrEnum):
    """Why one controller gave no answer that can be used, where that is known.

    The value is the code of the finding of `ctl why` and `ctl doctor`. `fix` says what a person does about it.
    """

    fix: str

    def __new__(cls, code: str, fix: str) -> Self:
        """A member; its value is the code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.fix = fix
        return member

    REFUSED = "connection-refused", "start `ctl serve` there, or correct the port in the address: nothing listens on it"
    NAME_LOOKUP = "name-lookup", "correct the host name in the address; if it is right, look at the DNS of this machine"
    CONNECT_TIMEOUT = (
        "connect-timeout",
        "see whether its host is up and whether a firewall drops the packets; --request-timeout allows more time",
    )
    ANSWER_TIMEOUT = (
        "answer-timeout",
        "its process hangs, is overloaded or waits for its database: read its log; --request-timeout allows more time",
    )
    RESET = "connection-reset", "read the log of the controller, or of the proxy or firewall before it"
    CERTIFICATE_UNTRUSTED = (
        "certificate-untrusted",
        "let --ca-file (of a controller that forwards: --remote-ca-file) name a PEM file with the CA that signed it",
    )
    CERTIFICATE_NAME = (
        "certificate-name",
        "call it by a name that its certificate has, or give it a certificate with this name",
    )
    CERTIFICATE_DATE = "certificate-date", "renew its certificate; if it is valid today, correct the clock here"
    NEEDS_HTTP = "tls-to-plain-port", "write http:// in the address"
    NEEDS_HTTPS = "plain-to-tls-port", "write https:// in the address"
    TLS_FAILED = "tls-failed", "compare the TLS settings of the server with this machine's; its log says more"
    NOT_A_CONTROLLER = (
        "not-a-controller",
        "correct host, port and path of the address, or the proxy that stands before the controller",
    )
    GATEWAY = (
        "gateway-error",
        "start the controller behind the proxy, or correct its address there: the log of the proxy says what it tried",
    )
    FORWARDS_TO_ITSELF = (
        "forwards-to-itself",
        "correct --remote-addr (CONTROLLER_REMOTE_ADDR): its way has to end at a controller with a registry of its own",
    )
    HOST_NOT_ALLOWED = (
        "host-not-allowed",
        "let the proxy before it send Host: localhost, or restart it with that name in --allowed-hosts",
    )
    ANSWER_TOO_LARGE = (
        "answer-too-large",
        "ask for less: name one model, or filter by --host or --state; if it is no large cluster, correct the address",
    )


CERTIFICATE_CAUSES = frozenset(
    {FailureCause.CERTIFICATE_UNTRUSTED, FailureCause.CERTIFICATE_NAME, FailureCause.CERTIFICATE_DATE}
)
