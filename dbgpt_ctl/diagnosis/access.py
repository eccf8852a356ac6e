"""Rules about who may call the controllers: the mode of the check, the tokens, and TLS.

DB-GPT's own controller does not report these: no rule takes it for `off`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.diagnosis.facts import Evidence, Facts, Finding, Scope, Severity, controller_rule, rule
from dbgpt_ctl.domain.controllers import EXPIRES_SOON
from dbgpt_ctl.text.escaping import escaped, shell_argument
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from dbgpt_ctl.diagnosis.facts import ControllerFacts
    from dbgpt_ctl.wire.auth import Auth, AuthTokensFile
    from dbgpt_ctl.wire.status import Status

_WORLD_CAN_READ = frozenset("4567")
"""The last octal digits of such a mode."""
_CLUSTER_AND_OVERVIEW = Scope.CLUSTER | Scope.OVERVIEW


@controller_rule(
    "auth-off",
    Severity.WARNING,
    "whoever reaches a controller can register a worker of their own and read prompts: auth is off",
    fix="ctl serve --tokens-file FILE --auth log, and then the steps of docs/security.md; or --host 127.0.0.1",
    scope=_CLUSTER_AND_OVERVIEW,
)
def auth_off(controller: ControllerFacts) -> str:
    """A controller asks nobody for a token, and other machines can reach it: anyone may register, drain and remove."""
    auth = _auth(controller)
    return "auth is off, and it listens elsewhere than on loopback" if auth and auth.open else ""


@rule(
    "auth-differs",
    fix="give all of them the same tokens file and the same --auth; a changed file is read within seconds",
    scope=_CLUSTER_AND_OVERVIEW,
)
def auth_differs(facts: Facts) -> Iterator[Finding]:
    """The controllers of one registry check their callers differently: a token, or none, is refused at some of them
    only.
    """
    for group in _of_one_registry(facts):
        checks = {controller.url: _check(status.auth) for controller, status in group if status.auth}
        if len(set(checks.values())) > 1:
            places = ", ".join(f"{check} at {url}" for url, check in checks.items())
            evidence = (Evidence(f"the checks of callers differ: {places}"),)
            yield Finding(Severity.WARNING, "the controllers of one registry check their callers differently", evidence)


@controller_rule(
    "tokens-file-unreadable",
    Severity.ERROR,
    "a tokens file cannot be used: no change of it counts, and a controller that starts may end",
    fix="correct the file; on the controller's machine `ctl serve --check` says whether it can be used",
    scope=_CLUSTER_AND_OVERVIEW,
)
def tokens_file_unreadable(controller: ControllerFacts) -> str:
    """A tokens file is missing or wrong: the controller goes on with the tokens that it read before, so one that was
    revoked since is still valid.
    """
    tokens_file = _tokens_file(controller)
    if tokens_file is None or not tokens_file.problem:
        return ""
    return f"it goes on with the tokens that it read before: {escaped(tokens_file.problem)}"


@controller_rule(
    "tokens-file-open",
    Severity.WARNING,
    "everybody on the controller's machine can read a tokens file: it has no tokens, but says who may do what",
    fix="on the controller's machine: chmod 600 FILE",
    scope=Scope.CLUSTER,
)
def tokens_file_open(controller: ControllerFacts) -> str:
    """All users of a controller's machine can read its tokens file. In Kubernetes its group must be able to."""
    tokens_file = _tokens_file(controller)
    mode = tokens_file.readable_by_others if tokens_file else None
    return f"mode {escaped(mode)}" if mode and mode[-1:] in _WORLD_CAN_READ else ""


@rule(
    "token-expires",
    fix="ctl token rotate NAME --expires 90d renews it; one that nobody needs: ctl token revoke NAME",
    scope=_CLUSTER_AND_OVERVIEW,
)
def token_expires(facts: Facts) -> Iterator[Finding]:
    """A token expires within 14 days, or has expired: its clients are refused then, and a DB-GPT worker whose register
    is refused ends.
    """
    ends: dict[str, str] = {}  # all controllers report the same
    for controller, _ in facts.reporting:
        tokens_file = _tokens_file(controller)
        for token in tokens_file.expiring if tokens_file else ():
            if end := _end(controller, token.expires, "expires", "expired"):
                ends[token.name] = end
    if ends:
        noun = "1 token expires" if len(ends) == 1 else f"{len(ends)} tokens expire"
        evidence = tuple(Evidence(end, f"token {escaped(name)}") for name, end in ends.items())
        name = shell_argument(escaped(next(iter(ends)))) if len(ends) == 1 else "NAME"
        fix = f"ctl token rotate {name} --expires 90d renews it; if nobody needs it: ctl token revoke {name}"
        yield Finding(Severity.WARNING, f"{noun} soon, or did already", evidence, fix)


@controller_rule(
    "auth-log-mode",
    Severity.INFO,
    "auth is in log mode: what enforce mode would refuse is served and counted",
    fix="ctl auth status shows what is counted; when nothing is left: ctl auth mode enforce",
    scope=_CLUSTER_AND_OVERVIEW,
)
def log_mode(controller: ControllerFacts) -> str:
    """A controller is in log mode: it serves also those who have no token, and counts them."""
    auth = _auth(controller)
    return "auth is in log mode, so callers without a valid token are served too" if auth and auth.mode == "log" else ""


@controller_rule(
    "certificate-problem",
    Severity.ERROR,
    "clients do not accept the certificate of a controller, or its files cannot be used",
    fix="put a valid certificate and its key in place; a pair that matches is read without a restart",
    scope=_CLUSTER_AND_OVERVIEW,
)
def certificate_problem(controller: ControllerFacts) -> str:
    """The certificate of a controller is not valid, or the files of --tls-cert and --tls-key have changed and cannot be
    used: the controller keeps the pair that it read before.
    """
    tls = controller.status.tls if controller.status else None
    return escaped(tls.problem) if tls and tls.problem else ""


@rule(
    "certificate-expires",
    fix="renew the certificate, and put it and its key in place: a pair that matches is read without a restart",
    scope=_CLUSTER_AND_OVERVIEW,
)
def certificate_expires(facts: Facts) -> Iterator[Finding]:
    """The certificate of a controller expires within 14 days, or has expired: then no client calls it over https."""
    evidence: dict[Severity, list[Evidence]] = {}
    for controller, status in facts.reporting:
        not_after = status.tls.not_after if status.tls else None
        if not_after and (end := _end(controller, not_after, "its certificate expires", "its certificate expired")):
            is_over = controller.time is not None and not_after <= controller.time
            evidence.setdefault(Severity.ERROR if is_over else Severity.WARNING, []).append(
                Evidence(end, controller.url)
            )
    for severity, found in evidence.items():
        summary = "a certificate has expired" if severity is Severity.ERROR else "a certificate expires soon"
        yield Finding(severity, summary, tuple(found))


@rule("tls-differs", fix="give all of them --tls-port, or none (docs/operating.md)", scope=Scope.CLUSTER)
def tls_differs(facts: Facts) -> Iterator[Finding]:
    """Of the controllers of one registry only some serve https, or at another port: a client that changes from one to
    another needs another address.
    """
    for group in _of_one_registry(facts):
        ports = [(controller, status.tls and status.tls.port) for controller, status in group]
        if len({port is None for _, port in ports}) > 1:
            evidence = tuple(
                Evidence("no https" if port is None else f"https at port {port}", controller.url)
                for controller, port in ports
            )
            yield Finding(Severity.WARNING, "only some controllers of one registry serve https", evidence)


def _auth(controller: ControllerFacts) -> Auth | None:
    return controller.status.auth if controller.status else None


def _tokens_file(controller: ControllerFacts) -> AuthTokensFile | None:
    auth = _auth(controller)
    return auth.tokens_file if auth else None


def _of_one_registry(facts: Facts) -> Iterator[list[tuple[ControllerFacts, Status]]]:
    """The controllers that report, by their registry. One in memory has no second controller."""
    groups: dict[str | None, list[tuple[ControllerFacts, Status]]] = {}
    for controller, status in facts.reporting:
        if status.registry.kind != "embedded":
            groups.setdefault(status.registry.place, []).append((controller, status))
    yield from groups.values()


def _check(auth: Auth) -> str:
    tokens = f"tokens {escaped(auth.tokens_file.digest)}" if auth.tokens_file else "no tokens file"
    return f"mode {escaped(auth.mode)} with {tokens}"


def _end(controller: ControllerFacts, end: datetime, will: str, did: str) -> str:
    """When it ends, or did; "" for an end that is far away."""
    if controller.time is None or end - controller.time > EXPIRES_SOON:
        return ""
    left = (end - controller.time).total_seconds()
    when = f"{did} {duration_text(-left)} ago" if left <= 0 else f"{will} in {duration_text(left)}"
    return f"{when}, at {end:%Y-%m-%d %H:%M} UTC"
