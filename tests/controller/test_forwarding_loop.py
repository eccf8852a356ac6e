"""A controller that forwards refuses a request with its own id, and passes the ids of any other one on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.forwarding import HEADER
from dbgpt_ctl.registry.remote import RemoteModelRegistry
from tests.client.clients import OBJECT, Controllers, good
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry

OWN = "0123456789abcdef"
PATHS = ["/api/health", "/api/controller/models", "//api/controller/models", "/api/v1/status", "/api/v1/watch"]


@pytest.fixture
def behind() -> Controllers:
    return Controllers(one=good)


@pytest.fixture
def forwarding(behind: Controllers) -> Iterator[httpx.Client]:
    client = AsyncControllerClient("http://one", transport=httpx.MockTransport(behind))
    registry = RemoteModelRegistry(client, forwarder_id=OWN, health_check_secs=600)
    with running_controller(registry) as url, httpx.Client(base_url=url, trust_env=False) as http:
        yield http


@pytest.mark.parametrize("hops", [OWN, f"a, {OWN}", f"{OWN},b", ",".join("abcdefghijklmnopq")])
@pytest.mark.parametrize("path", PATHS)
def test_a_request_that_comes_back_is_refused(forwarding: httpx.Client, path: str, hops: str) -> None:
    answer = forwarding.get(str(forwarding.base_url).removesuffix("/") + path, headers={HEADER: hops})
    assert answer.status_code == 508
    assert answer.json()["code"] == "forwards_to_itself"


def test_a_refused_register_is_not_forwarded(forwarding: httpx.Client, behind: Controllers) -> None:
    before = len(behind.requests)
    assert forwarding.post("/api/controller/models", json=OBJECT, headers={HEADER: OWN}).status_code == 508
    assert len(behind.requests) == before


@pytest.mark.parametrize(
    ("headers", "sent"), [({}, OWN), ({HEADER: "a"}, f"a,{OWN}"), ({HEADER: f"a\tb,{OWN[1:]}"}, f"{OWN[1:]},{OWN}")]
)
def test_each_request_behind_names_the_hops_of_its_own_caller(
    forwarding: httpx.Client, behind: Controllers, headers: dict[str, str], sent: str
) -> None:
    assert forwarding.get("/api/controller/models?healthy_only=true", headers=headers).status_code == 200
    assert behind.requests[-1].headers[HEADER] == sent
    assert forwarding.get("/api/controller/models?healthy_only=true").status_code == 200
    assert behind.requests[-1].headers[HEADER] == OWN


def test_a_registry_of_its_own_ends_the_way(registry: EmbeddedModelRegistry) -> None:
    with running_controller(registry) as url:
        many = ",".join(["a"] * 100)
        assert httpx.get(f"{url}/api/controller/models", headers={HEADER: many}, trust_env=False).status_code == 200
