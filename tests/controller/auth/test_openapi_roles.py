"""Requests that are generated from the OpenAPI document, sent by every role in enforce mode: the answers are as the
document says, and nothing happens that the role may not do.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dbgpt_ctl.auth.tokens import Role, new_token, sha256_of
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.database_server import PrivateDatabase
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.registry.contract import ModelRegistry

MODELS = "/api/controller/models"
INSIDE = {"model_name": "qwen3@llm", "host": "10.0.0.4"}
"""Within the scope of the token `inside`, whatever the port is."""
OUTSIDE = {"model_name": "glm@llm", "host": "10.9.0.4", "port": 8001}
"""Registered before, and within the scope of no worker's token."""
Sender = Literal["nobody", "stranger", "metrics", "reader", "inside", "elsewhere", "operator"]
ROLES: dict[Sender, Role | None] = {
    "nobody": None,
    "stranger": None,
    "metrics": Role.METRICS,
    "reader": Role.READER,
    "inside": Role.WORKER,
    "elsewhere": Role.WORKER,
    "operator": Role.OPERATOR,
}
"""By sender; the stranger has a token that is in no file."""
HARMLESS: tuple[Sender, ...] = ("nobody", "stranger", "metrics", "reader", "elsewhere")
"""Whatever they send, nothing may change."""
TOKENS: dict[Sender, str] = {sender: new_token(secrets.token_bytes) for sender in ROLES if sender != "nobody"}
SCOPES = {"inside": 'models = ["qwen*@llm"]\nhosts = ["10.0.0.0/16"]', "elsewhere": 'models = ["bge@text2vec"]'}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SIGN_IN = ("POST", "/api/v1/session")
"""It answers 401 to everybody who sends an unknown token in the body."""
CHANGING = {("POST", MODELS), ("DELETE", MODELS), ("POST", "/api/controller/heartbeat")}
SETTINGS = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RANDOM = settings(SETTINGS, phases=[Phase.generate])
"""Without the examples of the document and the values at its bounds."""


def registry_in_memory() -> ModelRegistry:
    return EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(hours=1), max_instances=60)


DOCUMENT: dict[str, Any] = create_app(ControllerSettings(), registry_in_memory()).openapi()
ENDING = schemathesis.openapi.from_dict(DOCUMENT).exclude(path="/api/v1/watch")


@dataclass
class Cluster:
    """A controller in enforce mode."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.send("operator", "POST", MODELS, json=OUTSIDE)
        self.send("operator", "POST", MODELS, json={**INSIDE, "port": 8001})

    def send(self, sender: Sender, method: str, path: str, **what: Any) -> Any:
        reply = httpx.request(method, self.url + path, headers=headers_of(sender), trust_env=False, **what)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def instances(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """All facts of each instance by its identity."""
        listed = self.send("operator", "GET", "/api/v1/instances")["instances"]
        return {(each["model_name"], each["host"], each["port"]): each for each in listed}

    def last_event(self) -> int:
        return int(self.send("operator", "GET", "/api/v1/status")["last_event_id"])

    def events(self, after: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.send("operator", "GET", f"/api/v1/events?after={after}")["events"]
        return events

    def call(self, sender: Sender, case: schemathesis.Case[Any]) -> None:
        """Validates the answer; its status says whether the sender may use the route."""
        for name in [name for name in case.headers if name.lower() == "authorization"]:
            del case.headers[name]
        reply = case.call_and_validate(
            base_url=self.url, session=self.session, headers=headers_of(sender), checks=CHECKS
        )
        where = f"{sender}: {case.method} {case.path} {reply.status_code} {reply.text}"
        is_other_method = case.method.upper() != case.operation.method.upper()
        if may(sender, NO_OPERATION if is_other_method else case.operation.definition.raw):
            signs_in = (case.method, case.path) == SIGN_IN
            assert reply.status_code != 401 or signs_in, where
            may_be_out_of_scope = sender in SCOPES and (case.method, case.path) in CHANGING
            assert reply.status_code != 403 or may_be_out_of_scope, where
        else:
            assert reply.status_code == (401 if ROLES[sender] is None else 403), where


NO_OPERATION = {"security": [{"basic": ["reader"]}, {"bearer": ["reader"]}]}
"""What holds for all that is no operation: a method that a path does not have, too."""


def headers_of(sender: Sender) -> dict[str, str]:
    return {} if sender == "nobody" else {"Authorization": f"Bearer {TOKENS[sender]}"}


def may(sender: Sender, operation: dict[str, Any]) -> bool:
    """What the document says: it names the least role, and the roles after it may do the same."""
    (basic, _), role = operation["security"] or (None, None), ROLES[sender]
    order = list(map(str, (Role.METRICS, Role.READER, Role.WORKER, Role.OPERATOR)))
    return basic is None or (role is not None and order.index(role) >= order.index(*basic["basic"]))


@pytest.fixture(scope="module", params=["embedded", "mariadb"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    file = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    file.write_text("\n".join(_table(sender) for sender in TOKENS if sender != "stranger"))
    file.chmod(0o600)
    settings = {"auth": "enforce", "tokens_file": str(file)}
    if request.param == "embedded":
        with running_controller(registry_in_memory(), **settings) as url:
            yield Cluster(url)
        return
    database = PrivateDatabase(request.getfixturevalue("mariadb_server"), "openapi_roles")
    database.create()
    stored = DatabaseModelRegistry(database.url, heartbeat_timeout=timedelta(hours=1), max_instances=60)
    with running_controller(stored, **settings) as url:
        yield Cluster(url)
    database.drop()


def _table(sender: Sender) -> str:
    hashed = sha256_of(TOKENS[sender])
    return f'[token.{sender}]\nrole = "{ROLES[sender]}"\nsha256 = ["{hashed}"]\n{SCOPES.get(sender, "")}\n'


@pytest.fixture
def unchanged(cluster: Cluster) -> Iterator[None]:
    """The registry is afterwards as it was before."""
    instances, event = cluster.instances(), cluster.last_event()
    yield
    assert cluster.instances() == instances
    assert cluster.events(event) == []


@ENDING.parametrize()
@SETTINGS
@pytest.mark.usefixtures("unchanged")
def test_who_may_not_change_anything_changes_nothing(case: schemathesis.Case[Any], cluster: Cluster) -> None:
    aim(case, OUTSIDE)
    for sender in HARMLESS:
        cluster.call(sender, case)


@pytest.fixture
def unchanged_outside(cluster: Cluster) -> Iterator[None]:
    """Afterwards only instances within the scope are others than before, and the events name the token."""
    instances, event = cluster.instances(), cluster.last_event()
    yield
    after = cluster.instances()
    for key in instances.keys() | after.keys():
        assert instances.get(key) == after.get(key) or key[:2] == tuple(INSIDE.values()), key
    for change in cluster.events(event):
        assert (change["model_name"], change["host"]) == tuple(INSIDE.values())
        assert (change["actor"], change["actor_name"]) == ("worker", "inside")


@ENDING.parametrize()
@RANDOM
@pytest.mark.usefixtures("unchanged_outside")
def test_a_worker_changes_instances_within_its_scope_only(case: schemathesis.Case[Any], cluster: Cluster) -> None:
    for target in (OUTSIDE, INSIDE):
        aim(case, target)
        cluster.call("inside", case)


@ENDING.parametrize()
@RANDOM
def test_an_operator_is_answered_as_documented(case: schemathesis.Case[Any], cluster: Cluster) -> None:
    cluster.call("operator", case)


def aim(case: schemathesis.Case[Any], target: dict[str, Any]) -> None:
    """Gives the case the identity of `target`, where it has one: a random one is nearly never registered."""
    for fields in (case.body, case.query):
        if isinstance(fields, dict):
            fields |= {name: value for name, value in target.items() if name in fields}


def test_a_watch_and_the_documents_need_a_reader(cluster: Cluster) -> None:
    for path in ("/api/v1/watch", "/openapi.json", "/docs", "/redoc", "/nowhere"):
        for sender in ("nobody", "stranger", "metrics"):
            reply = httpx.get(cluster.url + path, headers=headers_of(sender), trust_env=False)
            assert reply.status_code == (403 if sender == "metrics" else 401), path
    assert httpx.get(f"{cluster.url}/docs", auth=("me", TOKENS["reader"]), trust_env=False).status_code == 200
    assert httpx.get(f"{cluster.url}/openapi.json", auth=(TOKENS["reader"], ""), trust_env=False).status_code == 200
