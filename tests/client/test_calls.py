"""The exact bytes of each request; those of DB-GPT's verbs are as DB-GPT's clients send them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, Registration
from dbgpt_ctl.errors import ControllerRefused, NotAllowed, NotSupported
from tests.client.clients import KEY, OBJECT, SENT, VERBS, Controllers, good, problem
from tests.client.v1_samples import CALLS, DRAIN, KNOWN, NOW, TIME, answers

if TYPE_CHECKING:
    from tests.client.clients import Call, MakeCalls


BODY = {
    "model_name": "qwen@llm",
    "host": "10.0.0.4",
    "port": 8001,
    "weight": 1.0,
    "check_healthy": True,
    "healthy": False,
    "enabled": True,
    "prompt_template": None,
    "last_heartbeat": None,
    "remove_from_registry": False,
}
DELETE_QUERY = (
    "model_name=qwen%40llm&host=10.0.0.4&port=8001&weight=1.0&check_healthy=true&healthy=false&enabled=true"
    "&prompt_template=&last_heartbeat=&remove_from_registry="
)
REQUESTS = {
    "instances": ("GET", "/api/v1/instances", {"model_name": "qwen@llm", "host": "10.0.0.4", "state": "drained"}),
    "get": ("GET", "/api/v1/instance", {"model_name": "qwen@llm", "host": "10.0.0.4", "port": "8001"}),
    "drain": ("POST", "/api/v1/drain", KEY._asdict() | {"reason": "why", "for_secs": 3600.0}),
    "undrain": ("POST", "/api/v1/undrain", KEY._asdict()),
    "register": (
        "POST",
        "/api/v1/register",
        KEY._asdict() | {"weight": 2.0, "check_healthy": True, "drain": {"reason": "why", "for_secs": 3600.0}},
    ),
    "prune": ("POST", "/api/v1/prune", {"older_than_secs": 3600.0, "dry_run": True}),
    "events": (
        "GET",
        "/api/v1/events",
        {"after": "3", "since": TIME, "model_name": "qwen@llm", "host": "10.0.0.4", "port": "1", "limit": "9"},
    ),
    "status": ("GET", "/api/v1/status", {}),
    "settings": ("GET", "/api/v1/settings", {}),
}


def sent_by(make_calls: MakeCalls, call: Call, address: str = "http://one:8000") -> httpx.Request:
    controllers = Controllers(one=good)
    (outcome,) = make_calls(address, call, handler=controllers)
    assert not isinstance(outcome, Exception)
    (request,) = controllers.requests
    return request


def test_a_prune_of_unchecked_ones_says_so(make_calls: MakeCalls) -> None:
    """The field is sent only where it is wanted: an older controller rejects it."""

    def prune(client: Any) -> Any:
        return client.prune(timedelta(hours=1), unchecked=True)

    controllers = Controllers(one=answers("prune"))
    assert make_calls("http://one", prune, handler=controllers) == [[KEY]]
    (request,) = controllers.requests
    assert json.loads(request.content) == {"older_than_secs": 3600.0, "dry_run": False, "unchecked": True}


def test_an_older_controller_that_cannot_prune_unchecked_ones_is_named(make_calls: MakeCalls) -> None:
    detail = "'unchecked' is not one of older_than_secs, dry_run"
    refused = httpx.Response(422, json={"detail": detail, "code": "invalid_instance", "field": "unchecked"})

    def prune(client: Any) -> Any:
        return client.prune(timedelta(hours=1), unchecked=True)

    (error,) = make_calls("http://one", prune, handler=Controllers(one=lambda _: refused))
    assert isinstance(error, NotSupported)
    assert "it is an older ctl, which cannot prune unchecked instances" in str(error)


@pytest.mark.parametrize(
    ("path", "call"),
    [("models", lambda client: client.register(SENT)), ("heartbeat", lambda client: client.heartbeat(SENT))],
)
def test_register_and_heartbeat_send_the_ten_keys(make_calls: MakeCalls, path: str, call: Call) -> None:
    request = sent_by(make_calls, call)
    assert (request.method, str(request.url)) == ("POST", f"http://one:8000/api/controller/{path}")
    assert request.headers["content-type"] == "application/json"
    assert list(json.loads(request.content).items()) == list(BODY.items())


def test_facts_are_sent_as_given_in_raw_utf_8(make_calls: MakeCalls) -> None:
    sent = Registration(
        InstanceKey("mödel 模型@llm", "[::1]", 1), 0.5, check_healthy=False, enabled=False, prompt_template="p"
    )
    body = sent_by(make_calls, lambda client: client.register(sent)).content
    assert "mödel 模型@llm".encode() in body
    facts = {
        "weight": 0.5,
        "check_healthy": False,
        "enabled": False,
        "prompt_template": "p",
        "host": "[::1]",
        "port": 1,
    }
    assert json.loads(body) == BODY | facts | {"model_name": "mödel 模型@llm"}


def test_a_name_that_utf_8_cannot_express_ends_no_call(make_calls: MakeCalls) -> None:
    """A hostile controller may list one, and a selector takes what is listed. The controller judges it."""
    key = InstanceKey("\ud800@llm", "h", 1)
    sent = sent_by(make_calls, lambda client: client.heartbeat(Registration(key)))
    assert json.loads(sent.content)["model_name"] == key.model_name
    assert "%ED%A0%80%40llm" in str(sent_by(make_calls, lambda client: client.deregister(key)).url)


@pytest.mark.parametrize("remove", [False, True])
def test_deregister_sends_all_fields_as_query(make_calls: MakeCalls, remove: bool) -> None:
    request = sent_by(make_calls, lambda client: client.deregister(KEY, remove=remove))
    assert request.method == "DELETE"
    assert request.url.raw_path.decode() == f"/api/controller/models?{DELETE_QUERY}{str(remove).lower()}"
    assert request.content == b""
    assert "content-type" not in request.headers


@pytest.mark.parametrize(
    ("call", "query"),
    [
        (lambda client: client.list(), ""),
        (lambda client: client.list("a b/%+&?#ü@llm"), "?model_name=a+b%2F%25%2B%26%3F%23%C3%BC%40llm"),
        (lambda client: client.list(healthy_only=True), "?healthy_only=true"),
        (lambda client: client.list("a@llm", healthy_only=True), "?model_name=a%40llm&healthy_only=true"),
    ],
)
def test_list_sends_only_what_is_given(make_calls: MakeCalls, call: Call, query: str) -> None:
    request = sent_by(make_calls, call)
    assert (request.method, request.url.raw_path.decode()) == ("GET", f"/api/controller/models{query}")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("one", "http://one/api/health"),
        ("http://one:8000/", "http://one:8000/api/health"),
        ("https://one/prefix%20x/", "https://one/prefix%20x/api/health"),
    ],
)
def test_paths_are_under_the_address(make_calls: MakeCalls, address: str, path: str) -> None:
    assert str(sent_by(make_calls, lambda client: client.health(), address).url) == path


def test_credentials_are_sent_as_basic_with_every_call(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=good)
    calls: list[Call] = [
        lambda client: client.register(SENT),
        lambda client: client.deregister(KEY),
        lambda client: client.heartbeat(SENT),
        lambda client: client.list(),
        lambda client: client.health(),
    ]
    outcomes = make_calls("http://us%40er:to:kén@one:8000", *calls, handler=controllers)
    assert [request.headers["authorization"] for request in controllers.requests] == ["Basic dXNAZXI6dG86a8Opbg=="] * 5
    assert all("@one" not in str(request.url) for request in controllers.requests)
    assert "kén" not in repr(outcomes)


def test_without_credentials_none_are_sent(make_calls: MakeCalls) -> None:
    assert "authorization" not in sent_by(make_calls, lambda client: client.list()).headers


def test_a_register_answered_false_is_refused(make_calls: MakeCalls) -> None:
    (outcome,) = make_calls("http://one", VERBS["register"], handler=Controllers(one=httpx.Response(200, json=False)))
    assert type(outcome) is ControllerRefused


@pytest.mark.parametrize("verb", CALLS)
def test_what_the_calls_of_v1_send(make_calls: MakeCalls, verb: str) -> None:
    controllers = Controllers(one=answers(verb))
    make_calls("http://one", CALLS[verb], handler=controllers, actor="operator")
    (request,) = controllers.requests
    sent = json.loads(request.content) if request.method == "POST" else dict(request.url.params)
    assert (request.method, request.url.path, sent) == REQUESTS[verb]
    assert request.headers["x-ctl-actor"] == "operator"


def test_without_an_actor_it_is_a_worker(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=httpx.Response(200, json=True))
    make_calls("http://one", lambda client: client.heartbeat(SENT), handler=controllers)
    assert "x-ctl-actor" not in controllers.requests[0].headers


INVENTORY: Any = lambda client: client.inventory(InstanceFilter(ModelFilter("qwen@llm"), host="10.0.0.4"))  # noqa: E731


def test_an_inventory_of_a_controller_with_v1_is_complete(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=answers("instances"))
    (inventory,) = make_calls("http://one", INVENTORY, handler=controllers)
    (known,) = inventory.instances
    assert (inventory.complete, inventory.controller, inventory.time) == (True, "http://one", NOW)
    assert (inventory.held_until, inventory.stale_since, inventory.objects) == (NOW, None, [KNOWN])
    assert (known.state, known.drain, known.flaps) == (InstanceState.HEALTHY, DRAIN, 2)
    assert [request.url.path for request in controllers.requests] == ["/api/v1/instances"]


def dbgpt(request: httpx.Request) -> httpx.Response:
    """DB-GPT's own controller, which has no /api/v1 and knows no filter by host."""
    if "/api/v1/" in request.url.path:
        return httpx.Response(404, json={"detail": "Not Found"})
    headers = {"Date": "Fri, 02 Jan 2026 03:04:06 GMT"}
    return httpx.Response(200, json=[OBJECT, OBJECT | {"host": "other", "healthy": False}], headers=headers)


def test_an_inventory_of_dbgpts_controller_holds_the_nine_keys(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=dbgpt)
    on_host, everywhere = make_calls(
        "http://one",
        INVENTORY,
        lambda client: client.inventory(InstanceFilter(ModelFilter("qwen@llm"))),
        handler=controllers,
    )
    assert (on_host.complete, on_host.controller) == (False, "http://one")
    assert on_host.time == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert on_host.objects == [OBJECT]
    assert [(found.host, found.state) for found in everywhere.instances] == [
        ("10.0.0.4", InstanceState.HEALTHY),
        ("other", InstanceState.UNHEALTHY),
    ]
    facts = ("registered_at", "deregistered_at", "refused_at", "drain")
    assert [getattr(on_host.instances[0], name) for name in facts] == [None] * len(facts)
    paths = [request.url.raw_path.decode() for request in controllers.requests]
    assert paths == [
        "/api/v1/instances?model_name=qwen%40llm&host=10.0.0.4",
        "/api/controller/models?model_name=none%40ctl",
        "/api/controller/models?model_name=qwen%40llm",
        "/api/v1/instances?model_name=qwen%40llm",
        "/api/controller/models?model_name=qwen%40llm",
    ]


def test_dbgpts_controller_may_spell_an_ipv6_address_as_it_likes(make_calls: MakeCalls) -> None:
    """It lists a host as the worker sent it."""

    def bare(request: httpx.Request) -> httpx.Response:
        found = dbgpt(request)
        return found if found.status_code == 404 else httpx.Response(200, json=[OBJECT | {"host": "FE80::1"}, OBJECT])

    (found,) = make_calls(
        "http://one", lambda client: client.inventory(InstanceFilter(host="[fe80::1]")), handler=Controllers(one=bare)
    )
    assert [instance.key.host for instance in found.instances] == ["[fe80::1]"]
    assert [each["host"] for each in found.objects] == ["FE80::1"]


def test_an_inventory_that_has_to_be_complete_is_not_supported_by_dbgpts_controller(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=dbgpt)
    (error,) = make_calls("http://one", lambda client: client.inventory(require_complete=True), handler=controllers)
    assert type(error) is NotSupported


def test_other_errors_of_an_inventory_are_raised(make_calls: MakeCalls) -> None:
    controllers = Controllers(one=problem(403, "no", "forbidden"))
    (error,) = make_calls("http://one", INVENTORY, handler=controllers)
    assert type(error) is NotAllowed
    assert len(controllers.requests) == 1
