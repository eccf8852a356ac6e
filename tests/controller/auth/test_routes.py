"""Who may call what: every route of the application, for each kind of caller, in each mode, on each way to it.

TABLE is the whole policy, written down a second time on purpose. A route that is not in it fails the test.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from fastapi import FastAPI

from dbgpt_ctl.auth.tokens import Mode, sha256_of
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import ControllerApp, create_app
from dbgpt_ctl.controller.bootstrap import initialize_controller
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping
    from pathlib import Path

NOBODY = ("none", "unknown", "expired", "revoked")
"""Callers without a valid token: 401."""
CALLERS = (*NOBODY, "metrics", "reader", "worker", "elsewhere", "operator")
"""`elsewhere` is a worker whose token is for other models."""
READERS = frozenset({"reader", "worker", "elsewhere", "operator"})
WORKERS = frozenset({"worker", "operator"})
OPERATORS = frozenset({"operator"})
ALL = frozenset(CALLERS)

KEY: dict[str, Any] = {"model_name": "mine@llm", "host": "127.0.0.1", "port": 8001}
QUERY = "model_name=mine%40llm&host=127.0.0.1&port=8001"
MODELS = "/api/controller/models"


@dataclass(frozen=True)
class Rule:
    """Who may call it, and which status these get: `served`, with authentication off `open`, where that is another.
    `body` and `query` make a request that can be served.
    """

    callers: frozenset[str]
    served: int = 200
    open: int | None = None
    body: dict[str, Any] | None = None
    query: str = ""


TABLE = {
    "GET /api/health": Rule(ALL),
    "GET /livez": Rule(ALL),
    "GET /readyz": Rule(ALL),
    f"GET {MODELS}": Rule(READERS),
    f"POST {MODELS}": Rule(WORKERS, body=KEY),
    f"DELETE {MODELS}": Rule(WORKERS, query=QUERY),
    "POST /api/controller/heartbeat": Rule(WORKERS, body=KEY),
    "GET /api/v1/instances": Rule(READERS),
    "GET /api/v1/instance": Rule(READERS, query=QUERY),
    "GET /api/v1/events": Rule(READERS),
    "GET /api/v1/status": Rule(READERS),
    "GET /api/v1/watch": Rule(READERS),
    "GET /api/v1/diagnosis": Rule(READERS),
    "GET /api/v1/settings": Rule(READERS),
    "GET /api/v1/commands": Rule(READERS, query=QUERY),
    "GET /api/v1/auth": Rule(OPERATORS),
    "POST /api/v1/register": Rule(OPERATORS, body={**KEY, "drain": {}}),
    "POST /api/v1/drain": Rule(OPERATORS, body=KEY),
    "POST /api/v1/undrain": Rule(OPERATORS, body=KEY),
    "POST /api/v1/prune": Rule(OPERATORS, body={"older_than_secs": 86400, "dry_run": True}),
    "GET /api/v1/session": Rule(ALL),
    "POST /api/v1/session": Rule(ALL, open=409, body={"token": "reader-secret"}),
    "DELETE /api/v1/session": Rule(ALL),
    "GET /metrics": Rule(READERS | {"metrics"}),
    "GET /openapi.json": Rule(READERS),
    "GET /docs": Rule(READERS),
    "GET /redoc": Rule(READERS),
    "GET /": Rule(ALL, served=404),
    "GET /console": Rule(ALL, served=307),
    "GET /console/{path:path}": Rule(READERS, served=404),
}
"""HEAD is as GET. The root leads only browsers to the console. The files of the console are for everyone, as
tests/controller/console shows; a path below it that is no file is as any other. All else of our own application,
whether it exists or not, is for READERS: see `rule_of`.
"""
OTHER_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
UNKNOWN = (
    *("/metric", "/livez/x", "/readyz/"),
    *("/api", "/api/v1", "/api/v1/nothing", "/api/health/", "/API/health", "/api/v1/auth/x"),
)


class NoRule(AssertionError):
    """The application has a route of which TABLE says nothing."""


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of each route. Raises NoRule."""
    for route in app.routes:
        path = getattr(route, "path", "")
        methods = getattr(route, "methods", None) or OTHER_METHODS
        known = path.removeprefix("/") if path.startswith("//") else path
        if not any(rule.endswith(f" {known}") for rule in TABLE):
            raise NoRule(f"{path}: say in TABLE who may call it")
        is_catch_all = getattr(route, "methods", None) is None
        for method in methods:
            if not is_catch_all and f"{'GET' if method == 'HEAD' else method} {known}" not in TABLE:
                raise NoRule(f"{method} {path}: say in TABLE who may call it")
            yield method, path


def rule_of(method: str, path: str) -> Rule:
    """What is to happen to a request of our own application."""
    known = path.removeprefix("/") if path.startswith("//") else path
    rule = TABLE.get(f"{'GET' if method == 'HEAD' else method} {known}")
    if rule is not None:
        return rule
    exists = any(other.endswith(f" {known}") for other in TABLE)
    return Rule(READERS, served=405 if exists else 404)


def expected(rule: Rule, caller: str, mode: Mode) -> int:
    """The status."""
    if mode is Mode.OFF and rule.open is not None:
        return rule.open
    if mode is not Mode.ENFORCE or caller in rule.callers:
        return rule.served
    return 401 if caller in NOBODY else 403


@dataclass
class Answer:
    """Of one request. `has_read`: whether the application asked for the body."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    has_read: bool = False


async def call(
    app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]], rule: Rule | None = None
) -> Answer:
    """One request without a server. The client leaves after the head of the answer, as a watch has no end."""
    answer, body = Answer(), b"" if rule is None or rule.body is None else orjson.dumps(rule.body)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"" if rule is None else rule.query.encode(),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.9", 5),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        answer.has_read = True
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], dict(message["headers"])

    await app(scope, receive, send)
    return answer


def headers_of(caller: str) -> list[tuple[bytes, bytes]]:
    return [] if caller == "none" else [basic(f"{caller}:{caller}-secret")]


def basic(text: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(text.encode())


def own(settings: ControllerSettings) -> FastAPI:
    """As `ctl serve` has it: the endpoints of a cluster go around FastAPI."""
    return create_app(settings, registry())


def routed(settings: ControllerSettings) -> FastAPI:
    """The same, without the short cut."""
    app = create_app(settings, registry())
    assert isinstance(app, ControllerApp)
    app.endpoints = {}
    return app


def foreign(settings: ControllerSettings) -> FastAPI:
    """An application of somebody else, with the API in it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    initialize_controller(app, settings=settings, registry=registry())
    return app


WAYS = (own, routed, foreign)


def registry() -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))


def settings_of(folder: Path, mode: Mode) -> ControllerSettings:
    path = folder / "tokens.toml"
    roles = {"metrics": "metrics", "reader": "reader", "operator": "operator"}
    sections = [f'[token.{name}]\nrole = "{role}"\nsha256 = ["{_sha(name)}"]\n' for name, role in roles.items()]
    sections += [
        f'[token.{name}]\nrole = "worker"\nsha256 = ["{_sha(name)}"]\nmodels = ["{models}"]\n'
        for name, models in (("worker", "mine@*"), ("elsewhere", "other@*"))
    ]
    sections += [
        f'[token.expired]\nrole = "operator"\nsha256 = ["{_sha("expired")}"]\nexpires = 2020-01-01T00:00:00Z\n',
        f'[token.revoked]\nrole = "operator"\nsha256 = []\nrevoked_sha256 = ["{_sha("revoked")}"]\n',
    ]
    path.write_text("\n".join(sections))
    path.chmod(0o600)
    return ControllerSettings(auth=mode.value, tokens_file=str(path))


def _sha(name: str) -> str:
    return sha256_of(f"{name}-secret")


def in_lifespan(app: FastAPI, scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with app.router.lifespan_context(app):
            await call(app, "POST", MODELS, headers_of("operator"), TABLE[f"POST {MODELS}"])
            await scenario()

    asyncio.run(run())


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("way", WAYS)
def test_every_route_for_each_caller(way: Callable[[ControllerSettings], FastAPI], mode: Mode, tmp_path: Path) -> None:
    app = way(settings_of(tmp_path, mode))
    todo = dict.fromkeys(operations(app))
    if way is not foreign:  # what is not of the API is the other application's there
        todo |= dict.fromkeys((method, path) for path in UNKNOWN for method in OTHER_METHODS)
    wrong: list[str] = []

    async def scenario() -> None:
        for method, path in todo:
            rule = rule_of(method, path)
            if way is foreign and rule.served == 405:
                rule = Rule(ALL, served=405)
            for caller in CALLERS:
                answer = await call(app, method, path, headers_of(caller), rule)
                wrong.extend(f"{method} {path} as {caller}: {line}" for line in faults(answer, rule, caller, mode))

    in_lifespan(app, scenario)
    assert wrong == []
    assert len(todo) > 100


@pytest.mark.parametrize("mode", [Mode.LOG, Mode.ENFORCE])
@pytest.mark.parametrize("way", [own, routed])
def test_a_page_may_do_what_the_token_of_its_session_may(
    way: Callable[[ControllerSettings], FastAPI], mode: Mode, tmp_path: Path
) -> None:
    app = way(settings_of(tmp_path, mode))
    assert isinstance(app, ControllerApp)
    sessions = app.access.sessions
    wrong: list[str] = []

    async def scenario() -> None:
        for caller in CALLERS[1:]:
            for method, path in dict.fromkeys(operations(app)):
                cookie = f"ctl_session_80={sessions.begin(_sha(caller))[0]}".encode()
                rule = rule_of(method, path)
                answer = await call(app, method, path, [(b"origin", b"http://localhost"), (b"cookie", cookie)], rule)
                wrong.extend(f"{method} {path} as {caller}: {line}" for line in faults(answer, rule, caller, mode))

    in_lifespan(app, scenario)
    assert wrong == []


def faults(answer: Answer, rule: Rule, caller: str, mode: Mode) -> Iterator[str]:
    """What is wrong with an answer."""
    status = expected(rule, caller, mode)
    if answer.status != status:
        yield f"{answer.status}, not {status}"
    out_of_scope = caller == "elsewhere" and rule.callers == WORKERS
    if answer.status in {401, 403} and answer.has_read and not out_of_scope:
        yield "the body was read"
    if (answer.status == 401) != (b"www-authenticate" in answer.headers):
        yield f"{answer.status} and WWW-Authenticate"


def test_a_route_without_a_rule_is_noticed(tmp_path: Path) -> None:
    app = own(settings_of(tmp_path, Mode.ENFORCE))

    async def secret() -> str:
        return "secret"

    app.add_api_route("/api/v1/secret", secret)
    with pytest.raises(NoRule, match="/api/v1/secret: say in TABLE"):
        dict.fromkeys(operations(app))
    app = own(settings_of(tmp_path, Mode.ENFORCE))
    app.add_api_route("/api/v1/auth", secret, methods=["DELETE"])
    with pytest.raises(NoRule, match="DELETE /api/v1/auth: say in TABLE"):
        dict.fromkeys(operations(app))


def test_a_route_that_somebody_adds_to_our_application_needs_a_reader(tmp_path: Path) -> None:
    """What has no rule of its own is never open."""
    app = own(settings_of(tmp_path, Mode.ENFORCE))

    async def added() -> str:
        return "added"

    app.add_api_route("/added", added)

    async def scenario() -> None:
        answers = {caller: (await call(app, "GET", "/added", headers_of(caller))).status for caller in CALLERS}
        assert answers == {**dict.fromkeys(NOBODY, 401), "metrics": 403, **dict.fromkeys(READERS, 200)}

    in_lifespan(app, scenario)


def b64(text: bytes) -> bytes:
    return base64.b64encode(text)


SECRET = b"reader-secret"
FORMS: dict[str, tuple[list[bytes], int]] = {
    "user and token": ([b"Basic " + b64(b"me:" + SECRET)], 200),
    "the token as password": ([b"Basic " + b64(b":" + SECRET)], 200),
    "the token as user": ([b"Basic " + b64(SECRET + b":")], 200),
    "the token without a colon": ([b"Basic " + b64(SECRET)], 401),
    "a colon alone": ([b"Basic " + b64(b":")], 401),
    "a token that has a colon": ([b"Basic " + b64(b"me:" + SECRET + b":x")], 401),
    "bearer": ([b"Bearer " + SECRET], 200),
    "schemes in small letters": ([b"bearer " + SECRET], 200),
    "schemes in small letters, basic": ([b"basic " + b64(b"me:" + SECRET)], 200),
    "schemes in capital letters": ([b"BASIC " + b64(b"me:" + SECRET)], 200),
    "two blanks after the scheme": ([b"Bearer   " + SECRET + b" "], 200),
    "blanks around a token of Basic": ([b"Basic " + b64(b"me: " + SECRET + b" ")], 401),
    "another scheme": ([b"Digest " + SECRET], 401),
    "the token alone": ([SECRET], 401),
    "empty": ([b""], 401),
    "a scheme alone": ([b"Bearer"], 401),
    "a scheme and a blank": ([b"Basic "], 401),
    "not Base64": ([b"Basic !!!"], 401),
    "Base64 of no UTF-8": ([b"Basic " + b64(b"\xff\xfe:" + SECRET)], 200),
    "a token of no UTF-8": ([b"Bearer \xff\xfe"], 401),
    "very long": ([b"Bearer " + b"x" * 60_000], 401),
    "a very long name": ([b"Basic " + b64(b"n" * 60_000 + b":" + SECRET)], 401),
    "two headers, the last is valid": ([b"Bearer no", b"Bearer " + SECRET], 200),
    "two headers, the last is not": ([b"Bearer " + SECRET, b"Bearer no"], 401),
    "the hash of a token": ([b"Bearer " + _sha("reader").encode()], 401),
}
"""Values of the header Authorization, and the status in enforce mode."""


@pytest.mark.parametrize("way", WAYS)
def test_how_a_token_may_be_sent(way: Callable[[ControllerSettings], FastAPI], tmp_path: Path) -> None:
    app = way(settings_of(tmp_path, Mode.ENFORCE))

    async def scenario() -> None:
        found = {
            (name, path): (await call(app, "GET", path, [(b"authorization", value) for value in values])).status
            for name, (values, _) in FORMS.items()
            for path in ("/api/v1/status", MODELS)
        }
        assert found == {(name, path): FORMS[name][1] for name, path in found}

    in_lifespan(app, scenario)
