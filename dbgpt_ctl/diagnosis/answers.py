"""Rules about the answers of controllers: does each of them answer, and if not, why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.diagnosis.facts import (
    ALL_BUT_LIST,
    Evidence,
    Facts,
    Finding,
    Rule,
    Scope,
    Severity,
    controller_rule,
    rule,
)
from dbgpt_ctl.errors import ErrorKind
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from dbgpt_ctl.diagnosis.facts import ControllerFacts

_CHECKS_OF_OTHER_RULES = frozenset({"shutdown", "certificate", "tokens-file", "clock"})


@rule(
    "controller-unreachable",
    fix="start it, or correct --address; ctl health -a URL shows when it is back",
    scope=ALL_BUT_LIST,
)
def unreachable(facts: Facts) -> Iterator[Finding]:
    """A controller does not answer, for a reason that has no line of its own here."""
    yield from _without_answer(facts, {ErrorKind.NO_ANSWER}, "{} not answer", "does", "do")


def _cause_rule(cause: FailureCause, summary: str, symptom: str) -> Rule[Facts]:
    """The rule for controllers that give no answer because of `cause`."""

    def detail(controller: ControllerFacts) -> str:
        return controller.failure.detail if controller.failure and controller.failure.cause is cause else ""

    detail.__doc__ = symptom
    return controller_rule(cause.value, Severity.ERROR, summary, fix=cause.fix, scope=ALL_BUT_LIST)(detail)


refuses = _cause_rule(
    FailureCause.REFUSED,
    "a controller refuses connections",
    "Nothing listens at the address of a controller.",
)


unknown_name = _cause_rule(
    FailureCause.NAME_LOOKUP,
    "the name of a controller is not known here",
    "The host name in the address of a controller cannot be looked up.",
)


no_connection = _cause_rule(
    FailureCause.CONNECT_TIMEOUT,
    "no connection to a controller is made in time",
    "No connection to a controller is made in time: packets are lost, or its host is down.",
)


hangs = _cause_rule(
    FailureCause.ANSWER_TIMEOUT,
    "a controller takes connections and does not answer",
    "A controller takes the connection and does not answer in time.",
)


breaks_off = _cause_rule(
    FailureCause.RESET,
    "the connection to a controller breaks",
    "The connection to a controller breaks before an answer is complete.",
)


untrusted = _cause_rule(
    FailureCause.CERTIFICATE_UNTRUSTED,
    "the certificate of a controller is not trusted here",
    "The certificate of a controller is signed by nobody that this machine trusts.",
)


wrong_name = _cause_rule(
    FailureCause.CERTIFICATE_NAME,
    "the certificate of a controller is for another name",
    "The certificate of a controller is for other names than the one in its address.",
)


wrong_date = _cause_rule(
    FailureCause.CERTIFICATE_DATE,
    "the certificate of a controller is not valid today",
    "The certificate of a controller has expired, or is not valid yet.",
)


needs_http = _cause_rule(
    FailureCause.NEEDS_HTTP,
    "a controller is called by TLS and speaks plain HTTP",
    "The address begins with https, and what answers there speaks plain HTTP.",
)


needs_https = _cause_rule(
    FailureCause.NEEDS_HTTPS,
    "a controller is called by plain HTTP and speaks TLS",
    "The address begins with http, and what answers there speaks TLS.",
)


no_handshake = _cause_rule(
    FailureCause.TLS_FAILED,
    "the TLS handshake with a controller fails",
    "The TLS handshake with a controller fails.",
)


foreign = _cause_rule(
    FailureCause.NOT_A_CONTROLLER,
    "what answers is not a controller",
    "Another server answers at the address of a controller, or a proxy with a page of its own.",
)


gateway = _cause_rule(
    FailureCause.GATEWAY,
    "a proxy answers in place of a controller",
    "A proxy or load balancer answers 502, 503 or 504 itself: the controller behind it gives it no answer.",
)


loops = _cause_rule(
    FailureCause.FORWARDS_TO_ITSELF,
    "a controller forwards to itself",
    "A controller that forwards to others gets its own requests back.",
)


other_host = _cause_rule(
    FailureCause.HOST_NOT_ALLOWED,
    "a controller may not be called by this name",
    "A controller refuses the `Host` of the request (421): a proxy before it passes on a name that it does not know.",
)


too_large = _cause_rule(
    FailureCause.ANSWER_TOO_LARGE,
    "the answer of a controller is too large",
    "The answer of a controller is larger than `ctl` reads: 100 MB, which is about 200,000 instances.",
)


@rule(
    "controller-unavailable",
    fix="wait: ctl health -a URL shows when it is ready; its log says why not",
    scope=ALL_BUT_LIST,
)
def unavailable(facts: Facts) -> Iterator[Finding]:
    """A controller answers 503: it is about to end, or its registry is away."""
    yield from _without_answer(facts, {ErrorKind.UNAVAILABLE}, "{} there, and cannot serve now", "is", "are")


@rule(
    "not-allowed",
    fix="give a token that it takes: CTL_TOKEN, the --token-file of a context, or NAME:TOKEN@ in --address",
    scope=ALL_BUT_LIST,
)
def not_allowed(facts: Facts) -> Iterator[Finding]:
    """A controller, or a proxy before it, answers 401 or 403: it wants a token, or another one."""
    yield from _without_answer(facts, {ErrorKind.NOT_ALLOWED}, "{} not let you in", "does", "do")


@rule("controller-failed", fix="see its log", scope=ALL_BUT_LIST)
def failed(facts: Facts) -> Iterator[Finding]:
    """A controller answers with an error such as 500."""
    yield from _without_answer(
        facts,
        {ErrorKind.FAILED, ErrorKind.REFUSED, ErrorKind.NOT_FOUND, ErrorKind.STREAM_BROKEN},
        "{} with an error",
        "answers",
        "answer",
    )


@controller_rule(
    "controller-leaving",
    Severity.WARNING,
    "a controller is about to end",
    fix="nothing, if it is being restarted; else start ctl serve again",
    scope=ALL_BUT_LIST,
)
def leaving(controller: ControllerFacts) -> str:
    """A controller was stopped, and serves on until its clients have moved to another one."""
    return "it is leaving" if controller.status and controller.status.controller.leaving else ""


@rule("proxy", fix="add the hosts of controllers and workers to no_proxy where API servers and workers run")
def proxied(facts: Facts) -> Iterator[Finding]:
    """DB-GPT's calls to the controller go to a proxy: http_proxy is set, and no_proxy does not name the controller.

    DB-GPT's clients obey these variables; `ctl` does not, so it reaches the controller and an API server does not.
    """
    if facts.proxies:
        evidence = tuple(
            Evidence(f"{found.variable}={found.proxy} takes the calls to {found.controller}") for found in facts.proxies
        )
        hosts = ",".join(dict.fromkeys(found.host for found in facts.proxies))
        fix = f'where API servers and workers run with the same variables: export no_proxy="$no_proxy,{hosts}"'
        yield Finding(Severity.WARNING, "proxy variables redirect DB-GPT's calls (ctl ignores them)", evidence, fix)


def _without_answer(
    facts: Facts, kinds: Collection[ErrorKind], summary: str, verb: str, plural: str
) -> Iterator[Finding]:
    failures = [
        (controller, controller.failure)
        for controller in facts.controllers
        if controller.failure and controller.failure.kind in kinds and controller.failure.cause is None
    ]
    if failures:
        one = f"{failures[0][0].url} {verb}"
        many = f"{len(failures)} of {len(facts.controllers)} controllers {plural}"
        evidence = tuple(Evidence(failure.detail, controller.url) for controller, failure in failures)
        yield Finding(Severity.ERROR, summary.format(one if len(failures) == 1 else many), evidence)


@controller_rule(
    "controller-slow",
    Severity.WARNING,
    "a controller is slow",
    fix="look at the load of its machine and of its database: /readyz?verbose shows when it is over",
    scope=Scope.OVERVIEW,
)
def slow(controller: ControllerFacts) -> str:
    """A check of the controller fails that neither its health nor another rule reports: its event loop is late, or its
    queue is long.
    """
    status = controller.status
    if status is None:
        return ""
    details = (check.detail for check in status.checks if check.name not in _CHECKS_OF_OTHER_RULES)
    return escaped(
        "; ".join(detail for detail in details if detail is not None and detail not in (status.registry.reason or ""))
    )
