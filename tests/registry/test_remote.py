"""`RemoteModelRegistry` over scripted controllers; the contract of registries holds it over a real one."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.domain.events import OPERATOR, Actor, ActorKind, EventFilter
from dbgpt_ctl.domain.instance import DrainFacts, DrainRequest, InstanceKey, InstanceState
from dbgpt_ctl.errors import (
    ForwardsToItself,
    RegistryError,
    RegistryFull,
    RegistryUnavailable,
    RegistryUnusable,
    UsageError,
    VerbNotSupported,
)
from dbgpt_ctl.registry.remote import NEVER, NINE_KEYS_SECS, RemoteModelRegistry
from tests.client.clients import KEY, OBJECT, SENT, Controllers, good, problem
from tests.client.servers import black_hole, closed_port, working
from tests.client.v1_samples import ANSWERS, DRAIN, EVENT, KNOWN, NOW, TIME
from tests.support.fake_controller import fake_controller
from tests.support.observer import RecordingObserver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dbgpt_ctl.registry.contract import Listing, RegistryHealth
    from tests.client.clients import Handler

    Verb = Callable[[RemoteModelRegistry], Awaitable[Any]]

VERBS: dict[str, Verb] = {
    "register": lambda registry: registry.register(SENT),
    "heartbeat": lambda registry: registry.heartbeat(SENT),
    "deregister": lambda registry: registry.deregister(KEY),
    "list": lambda registry: registry.list(),
}
REFUSED = httpx.ConnectError("Connection refused")


def over(controllers: Controllers) -> RemoteModelRegistry:
    urls = ",".join(f"http://user:secret@{host}" for host in controllers.hosts)
    return RemoteModelRegistry(AsyncControllerClient(urls, transport=httpx.MockTransport(controllers)))


def outcome(controllers: Controllers, verb: Verb) -> Any:
    async def call() -> Any:
        async with over(Controllers(one=good)) as registry:
            registry._client = over(controllers)._client
            return await verb(registry)

    return asyncio.run(call())


def test_verbs_are_forwarded() -> None:
    controllers = Controllers(one=good)

    async def calls() -> list[Any]:
        async with over(controllers) as registry:
            return [await verb(registry) for verb in VERBS.values()][:3]

    assert asyncio.run(calls()) == [None, True, True]
    lines = [f"{request.method} {request.url.path}" for request in controllers.requests]
    assert sorted(lines[:2]) == ["GET /api/controller/models", "GET /api/health"]
    assert lines[2:6] == [
        "POST /api/controller/models",
        "POST /api/controller/heartbeat",
        "DELETE /api/controller/models",
        "GET /api/v1/instances",
    ]
    assert set(lines[6:]) == {"GET /api/controller/models"}


@pytest.mark.parametrize("verb", ["heartbeat", "deregister"])
def test_false_is_passed_on(verb: str) -> None:
    assert outcome(Controllers(one=httpx.Response(200, json=False)), VERBS[verb]) is False


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (REFUSED, RegistryUnavailable, "Connection refused"),
        (httpx.ReadTimeout("x"), RegistryUnavailable, "no answer within"),
        (problem(503, "the database is away", "registry_unavailable"), RegistryUnavailable, "the database is away"),
        (httpx.Response(500), RegistryUnavailable, "500"),
        (httpx.Response(200, html="<html>"), RegistryUnavailable, "not a DB-GPT controller"),
        (problem(429, "no room", "registry_full"), RegistryFull, "no room"),
        (problem(422, "host is wrong", "invalid_instance"), RegistryError, "host is wrong"),
        (httpx.Response(401), RegistryUnusable, "401"),
        (httpx.Response(403), RegistryUnusable, "403"),
    ],
)
def test_errors_of_the_client_become_errors_of_a_registry(
    verb: str, answer: Any, kind: type[RegistryError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        outcome(Controllers(one=answer), VERBS[verb])
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert "http://one" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "failures"),
    [
        (good, []),
        (REFUSED, ["unavailable"]),
        (problem(503, "the database is away", "registry_unavailable"), ["unavailable"]),
        (problem(429, "no room", "registry_full"), []),
        (httpx.Response(401), []),
    ],
)
def test_the_observer_learns_that_the_controller_behind_is_unavailable(answer: Any, failures: list[str]) -> None:
    async def call() -> list[str]:
        observer = RecordingObserver()
        client = AsyncControllerClient("http://one", transport=httpx.MockTransport(Controllers(one=answer)))
        with suppress(RegistryError):
            await RemoteModelRegistry(client, observer=observer).heartbeat(SENT)
        return observer.failures

    assert asyncio.run(call()) == failures


def test_the_observer_learns_it_while_the_registry_opens() -> None:
    async def scenario() -> None:
        observer = RecordingObserver()
        registry = RemoteModelRegistry(closed_port(), observer=observer)
        with pytest.raises(RegistryUnavailable):
            await registry.open()
        assert observer.failures == ["unavailable"]
        await registry.close()
        with pytest.raises(RegistryUnavailable):
            await registry.heartbeat(SENT)
        assert observer.failures == ["unavailable"], "a closed registry does not call"

    asyncio.run(scenario())


def nine_keys(*objects: dict[str, Any], headers: dict[str, str] | None = None) -> Callable[..., httpx.Response]:
    """A controller without /api/v1."""

    def answer(request: httpx.Request) -> httpx.Response:
        if "/api/v1/" in request.url.path:
            return httpx.Response(404, json={"detail": "Not Found"})
        return httpx.Response(200, json=list(objects), headers=headers)

    return answer


def listing(*objects: dict[str, Any], headers: dict[str, str] | None = None, **query: Any) -> Listing:
    controllers = Controllers(one=nine_keys(*objects, headers=headers))
    result: Listing = outcome(controllers, lambda registry: registry.list(**query))
    return result


def test_a_listing_of_all_has_all_facts() -> None:
    deregistered = KNOWN | {
        "port": 8002,
        "healthy": False,
        "enabled": True,
        "state": "deregistered",
        "drain": None,
        "deregistered_at": TIME,
        "refused_at": TIME,
        "held": False,
    }
    body = ANSWERS["instances"] | {"instances": [KNOWN, deregistered], "stale_since": TIME}
    controllers = Controllers(one=httpx.Response(200, json=body))
    answer: Listing = outcome(controllers, lambda registry: registry.list("qwen@llm"))
    assert (answer.time, answer.stale_since, answer.held_until) == (NOW, NOW, NOW)
    drained, gone = answer.entries
    assert (drained.instance.key, drained.state, drained.drain, drained.held) == (KEY, "healthy", DRAIN, True)
    assert (drained.instance.drain, drained.instance.registered_at, drained.instance.flaps) == (DRAIN, NOW, 2)
    assert (gone.state, gone.drain, gone.held) == ("deregistered", None, False)
    assert (gone.instance.deregistered_at, gone.instance.refused_at) == (NOW, NOW)
    assert [str(request.url) for request in controllers.requests] == [
        "http://one/api/v1/instances?model_name=qwen%40llm"
    ]


def test_a_stale_list_of_the_controller_behind_degrades_this_one() -> None:
    async def healths() -> list[RegistryHealth]:
        found = []
        async with over(Controllers(one=good)) as registry:
            for headers in ({"X-Ctl-Stale-Since": TIME}, None):
                registry._client = over(Controllers(one=nine_keys(headers=headers)))._client
                await registry.list("nobody@llm", healthy_only=True)
                found.append(registry.health())
        return found

    stale, fresh = asyncio.run(healths())
    assert stale.ready
    assert stale.reason == "the registry of http://one is away; lists are as of 2026-01-02T03:04:05+00:00"
    assert stale.stale_since == datetime.fromisoformat(TIME)
    assert (fresh.ready, fresh.reason, fresh.stale_since) == (True, None, None)


def test_a_listing_of_routable_ones_is_one_call_for_the_nine_keys() -> None:
    controllers = Controllers(one=good)
    answer: Listing = outcome(controllers, lambda registry: registry.list(healthy_only=True))
    assert [entry.instance.key for entry in answer.entries] == [KEY]
    assert [str(request.url) for request in controllers.requests] == [
        "http://one/api/controller/models?healthy_only=true"
    ]


@pytest.mark.parametrize("status", [404, 403])
def test_a_controller_with_nine_keys_only_is_asked_for_more_once_a_minute(status: int) -> None:
    """DB-GPT's own, or one behind a proxy that allows no more."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status) if "/api/v1/" in request.url.path else good(request)

    now = 1000.0
    controllers = Controllers(one=answer)
    client = AsyncControllerClient("http://one", transport=httpx.MockTransport(controllers))

    def paths() -> list[str]:
        found = [request.url.path for request in controllers.requests]
        controllers.requests.clear()
        return found

    async def life() -> None:
        nonlocal now
        registry = RemoteModelRegistry(client, monotonic=lambda: now)
        await registry.list()
        assert paths().count("/api/v1/instances") == 1
        now += NINE_KEYS_SECS - 0.001
        await registry.list()
        assert paths() == ["/api/controller/models"]
        now += 0.001
        controllers.hosts["one"] = httpx.Response(200, json=ANSWERS["instances"])  # another release serves there now
        for _ in range(2):
            assert (await registry.list()).entries[0].drain == DRAIN
        assert paths() == ["/api/v1/instances"] * 2
        await registry.close()

    asyncio.run(life())


def test_a_listing_is_in_order_of_identity_with_states() -> None:
    answer = listing(
        OBJECT | {"model_name": "b@llm", "port": 10},
        OBJECT | {"model_name": "b@llm", "port": 9, "healthy": False},
        OBJECT
        | {"model_name": "a@llm", "enabled": False, "prompt_template": "p", "weight": 0.5, "check_healthy": False},
    )
    assert [(entry.instance.key.model_name, entry.instance.key.port, entry.state) for entry in answer.entries] == [
        ("a@llm", 8001, InstanceState.HEALTHY),
        ("b@llm", 9, InstanceState.UNHEALTHY),
        ("b@llm", 10, InstanceState.HEALTHY),
    ]
    assert [entry.drain for entry in answer.entries] == [DrainFacts(), None, None]
    facts = answer.entries[0].instance
    assert (facts.weight, facts.check_healthy, facts.drain, facts.prompt_template) == (0.5, False, DrainFacts(), "p")
    assert facts.last_heartbeat == facts.registered_at == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert facts.last_heartbeat.tzinfo is UTC
    assert answer.stale_since is None


def test_stale_is_passed_on() -> None:
    answer = listing(headers={"X-Ctl-Stale-Since": "2026-01-02T03:04:05.000000+00:00"})
    assert answer.stale_since == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_an_instance_without_a_heartbeat() -> None:
    assert listing(OBJECT | {"last_heartbeat": None}).entries[0].instance.last_heartbeat == NEVER


def test_rows_that_only_dbgpt_lists_are_left_out() -> None:
    nameless = OBJECT | {"model_name": "qwen"}
    drained = OBJECT | {"host": "b", "enabled": False}
    twin = OBJECT | {"healthy": False, "last_heartbeat": "2026-01-02T03:04:06+00:00"}
    folded = OBJECT | {"model_name": "QWEN@llm"}
    answer = listing(nameless, OBJECT, twin, drained, folded, model_name="qwen@llm", healthy_only=True)
    assert [(entry.instance.key, entry.state) for entry in answer.entries] == [(KEY, InstanceState.HEALTHY)]
    everything = listing(nameless, OBJECT, twin, drained, folded)
    keys = [entry.instance.key for entry in everything.entries]
    assert keys == [InstanceKey("QWEN@llm", *KEY[1:]), KEY, InstanceKey("qwen@llm", "b", 8001)]


def test_health_follows_open_and_list() -> None:
    controllers = Controllers(one=REFUSED)
    observed: list[RegistryHealth] = []

    async def life() -> None:
        registry = over(controllers)
        observed.append(registry.health())
        with pytest.raises(RegistryUnavailable, match="http://one: Connection refused"):
            await registry.open()
        observed.append(registry.health())
        controllers.hosts["one"] = good
        await registry.open()
        observed.append(registry.health())
        controllers.hosts["one"] = httpx.Response(503)
        with pytest.raises(RegistryUnavailable):
            await registry.heartbeat(SENT)
        observed.append(registry.health())
        with pytest.raises(RegistryUnavailable):
            await registry.list()
        observed.append(registry.health())
        controllers.hosts["one"] = good
        await registry.list()
        observed.append(registry.health())
        await registry.close()
        observed.append(registry.health())

    asyncio.run(life())
    assert [health.ready for health in observed] == [False, False, True, True, False, True, False]
    assert [health.reason is None for health in observed] == [False, False, True, True, False, True, False]


def test_health_is_checked_in_the_background() -> None:
    """Nobody lists; the controller behind goes away and comes back."""
    controllers = Controllers(one=good)
    client = AsyncControllerClient("http://one", transport=httpx.MockTransport(controllers))

    async def until(registry: RemoteModelRegistry, *, ready: bool) -> RegistryHealth:
        async with asyncio.timeout(20):
            while registry.health().ready is not ready:
                await asyncio.sleep(0.01)
        return registry.health()

    async def life() -> None:
        async with RemoteModelRegistry(client, health_check_secs=0.01) as registry:
            controllers.hosts["one"] = REFUSED
            assert "Connection refused" in str((await until(registry, ready=False)).reason)
            controllers.hosts["one"] = good
            await until(registry, ready=True)
        count = len(controllers.requests)
        await asyncio.sleep(0.05)
        assert len(controllers.requests) == count, "closed"

    asyncio.run(life())
    assert {request.url.params.get("model_name") for request in controllers.requests} == {None, "health-check@ctl"}


def test_open_with_wrong_credentials_needs_a_person() -> None:
    with pytest.raises(RegistryUnusable, match="--remote-token-file"):
        asyncio.run(over(Controllers(one=httpx.Response(401), two=httpx.Response(403))).open())


LOOP = problem(508, "this controller has forwarded the request itself", "forwards_to_itself")


def looping(*paths: str) -> Callable[[httpx.Request], httpx.Response]:
    """A controller that answers so for these paths."""
    return lambda request: LOOP if request.url.path in paths else good(request)


@pytest.mark.parametrize("paths", [("/api/health",), ("/api/controller/models",)], ids=["itself", "a detour"])
def test_open_refuses_an_address_that_leads_back(paths: tuple[str, ...]) -> None:
    registry = over(Controllers(one=looping(*paths)))
    with pytest.raises(RegistryUnusable, match="--remote-addr http://one leads back to this controller") as caught:
        asyncio.run(registry.open())
    assert "CONTROLLER_REMOTE_ADDR" in str(caught.value)
    assert registry.health().reason is not None


def test_one_address_of_two_that_leads_back_is_refused() -> None:
    with pytest.raises(RegistryUnusable, match="leads back"):
        asyncio.run(over(Controllers(one=good, two=looping("/api/health"))).open())


def test_a_loop_that_arises_later_is_passed_on_and_is_in_health() -> None:
    controllers = Controllers(one=good)

    async def life() -> tuple[Exception, RegistryHealth]:
        async with over(controllers) as registry:
            controllers.hosts["one"] = LOOP
            with pytest.raises(ForwardsToItself) as caught:
                await registry.list(healthy_only=True)
            with pytest.raises(ForwardsToItself):
                await registry.heartbeat(SENT)
            return caught.value, registry.health()

    error, health = asyncio.run(life())
    assert not health.ready
    assert health.reason == str(error)


def test_a_loop_is_not_passed_on_while_another_controller_may_come_back() -> None:
    controllers = Controllers(one=good, two=good)

    async def life() -> None:
        async with over(controllers) as registry:
            controllers.hosts |= {"one": LOOP, "two": httpx.Response(503)}
            with pytest.raises(RegistryUnavailable):
                await registry.list(healthy_only=True)

    asyncio.run(life())


def test_every_request_has_the_id_of_the_registry() -> None:
    controllers = Controllers(one=good)

    async def calls() -> str:
        async with over(controllers) as registry:
            for verb in VERBS.values():
                await verb(registry)
            return registry.forwarder_id

    own_id = asyncio.run(calls())
    assert {request.headers["X-Ctl-Forwarded-By"] for request in controllers.requests} == {own_id}
    assert over(controllers).forwarder_id != own_id


def test_open_is_content_with_one_of_two() -> None:
    async def opened() -> bool:
        async with over(Controllers(one=httpx.Response(401), two=good)) as registry:
            return registry.health().ready

    assert asyncio.run(opened())


@pytest.mark.parametrize("verb", [*VERBS.values(), lambda registry: registry.open()])
def test_a_closed_registry_is_unavailable(verb: Verb) -> None:
    async def life() -> None:
        registry = over(Controllers(one=good))
        await registry.open()
        await registry.close()
        await registry.close()
        with pytest.raises(RegistryUnavailable, match="closed"):
            await verb(registry)

    asyncio.run(life())


def test_by_address_it_keeps_connections_and_survives_silence() -> None:
    with black_hole() as away, working() as here:

        async def life() -> None:
            async with RemoteModelRegistry(f"{away},{here.url}", timeout=10.0, health_check_secs=600) as registry:
                await asyncio.gather(*(registry.heartbeat(SENT) for _ in range(20)))
                for _ in range(20):
                    assert await registry.heartbeat(SENT)

        asyncio.run(life())
        assert len(here.lines) == 42
        assert len(here.connections) <= 1 + 1 + 20  # of the two calls of `open`, and of the calls at once


def test_hundreds_of_calls_at_once_come_through() -> None:
    with working() as here:

        async def life() -> None:
            async with RemoteModelRegistry(here.url, timeout=60, health_check_secs=600) as registry:
                for _ in range(2):
                    assert all(await asyncio.gather(*(registry.heartbeat(SENT) for _ in range(300))))

        asyncio.run(life())
        assert len(here.lines) == 602
        assert len(here.connections) < 1 + 300


def test_by_address_it_names_the_variable() -> None:
    with pytest.raises(UsageError, match="port is 0"):
        RemoteModelRegistry("http://h:0")

    async def life() -> None:
        registry = RemoteModelRegistry(closed_port())
        try:
            with pytest.raises(RegistryUnavailable, match="CONTROLLER_REMOTE_ADDR"):
                await registry.list()
        finally:
            await registry.close()

    asyncio.run(life())


MORE_VERBS: dict[str, Verb] = {
    "get": lambda registry: registry.get(KEY),
    "drain": lambda registry: registry.drain(KEY, reason="why"),
    "undrain": lambda registry: registry.undrain(KEY),
    "register": lambda registry: registry.register(SENT, drain=DrainRequest("why"), actor=OPERATOR),
    "prune": lambda registry: registry.prune(timedelta(hours=1), dry_run=True),
    "events": lambda registry: registry.events(where=EventFilter.of(KEY), after=3, limit=9),
}


def forwarded(verb: Verb, answer: httpx.Response | Handler) -> tuple[Any, httpx.Request]:
    """What the registry makes of the answer, and what it had sent."""
    controllers = Controllers(one=answer)

    async def call() -> Any:
        return await verb(over(controllers))

    return asyncio.run(call()), controllers.requests[-1]


def test_verbs_of_operators_are_forwarded() -> None:
    results, sent = {}, {}
    for name, verb in MORE_VERBS.items():
        results[name], sent[name] = forwarded(verb, httpx.Response(200, json=ANSWERS[name]))
    assert [results[name].entry.instance.key for name in ("get", "drain", "undrain", "register")] == [KEY] * 4
    assert results["prune"] == (KEY,)
    assert [results[name].held_until for name in ("get", "drain", "undrain", "register")] == [NOW] * 4
    entry = results["get"].entry
    assert (entry.state, entry.drain) == (InstanceState.HEALTHY, DRAIN)
    facts = entry.instance
    assert (facts.key, facts.drain, facts.flaps, facts.registered_at) == (KEY, DRAIN, 2, NOW)
    assert (results["events"].stream, results["events"].last_id, results["events"].missed) == ("s", 7, True)
    assert [event.id for event in results["events"].events] == [EVENT["id"]]
    assert {name: request.headers.get("x-ctl-actor") for name, request in sent.items()} == {
        "get": None,
        "drain": "operator",
        "undrain": "operator",
        "register": "operator",
        "prune": "operator",
        "events": None,
    }
    assert dict(sent["events"].url.params) == {
        "after": "3",
        "model_name": "qwen@llm",
        "host": "10.0.0.4",
        "port": "8001",
        "limit": "9",
    }


@pytest.mark.parametrize(("kind", "header"), [(ActorKind.WORKER, None), (ActorKind.OPERATOR, "operator")])
def test_the_kind_of_the_actor_is_passed_on(kind: ActorKind, header: str | None) -> None:
    actor = Actor(kind, "10.0.0.9")
    for verb in (
        lambda registry: registry.register(SENT, actor=actor),
        lambda registry: registry.heartbeat(SENT, actor=actor),
        lambda registry: registry.deregister(KEY, actor=actor),
    ):
        assert forwarded(verb, httpx.Response(200, json=True))[1].headers.get("x-ctl-actor") == header


@pytest.mark.parametrize("name", ["get", "drain", "undrain"])
def test_what_is_unknown_behind_is_unknown_here(name: str) -> None:
    body = {"status": 404, "detail": "it is not known", "code": "not_found", "instance_key": KEY._asdict()}
    assert forwarded(MORE_VERBS[name], httpx.Response(404, json=body))[0] is None


@pytest.mark.parametrize("name", MORE_VERBS)
def test_verbs_that_dbgpt_does_not_know_are_not_supported(name: str) -> None:
    with pytest.raises(
        VerbNotSupported, match="the controller behind this one: http://one does not support this: it has no /api/v1"
    ) as raised:
        forwarded(MORE_VERBS[name], good)
    assert raised.value.http_status == 501


def test_the_time_of_a_registry_with_another_clock_is_passed_on() -> None:
    assert listing(headers={"X-Ctl-Time": NOW.isoformat()}).time == NOW
    assert listing(headers={"Date": "Fri, 02 Jan 2026 12:00:00 GMT"}).time is None


def test_it_describes_itself_without_secrets() -> None:
    info = over(Controllers(one=good, two=good)).describe()
    assert (info.kind, info.place, info.durable) == ("remote", "http://one,http://two", True)


def wants(token: str, status: int = 401, reason: str = "unknown") -> Handler:
    """A controller that knows one token; its health is open to all."""

    def answer(request: httpx.Request) -> httpx.Response:
        sent = b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if sent.partition(":")[2] == token or request.url.path.endswith("/api/health"):
            return good(request)
        code = "not_authenticated" if status == 401 else "not_permitted"
        return httpx.Response(
            status, json={"detail": "write one into http://NAME:TOKEN@", "code": code, "reason": reason}
        )

    return answer


def with_token(controllers: Controllers, *read: str | UsageError, **options: Any) -> RemoteModelRegistry:
    """A registry whose token file has these contents, one after the other; the last one stays."""
    contents = [*read]

    def read_token() -> tuple[str, str]:
        content = contents.pop(0) if len(contents) > 1 else contents[0]
        if isinstance(content, UsageError):
            raise content
        return "front", content

    urls = ",".join(f"http://{host}" for host in controllers.hosts)
    client = AsyncControllerClient(urls, transport=httpx.MockTransport(controllers))
    return RemoteModelRegistry(client, read_token=read_token, **options)


def test_the_token_of_the_file_goes_to_each_address() -> None:
    controllers = Controllers(one=httpx.Response(503), two=wants("good"))

    async def life() -> None:
        async with with_token(controllers, "good") as registry:
            for verb in VERBS.values():
                await verb(registry)

    asyncio.run(life())
    sent = {request.headers["Authorization"] for request in controllers.requests}
    assert sent == {"Basic " + b64encode(b"front:good").decode()}
    assert set(controllers.tried) == {"one", "two"}


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        (401, "unknown", "the token of this controller is not known there"),
        (401, "revoked", "the token of this controller is revoked"),
        (403, "role", "the role of this controller's token does not allow it"),
    ],
)
def test_a_refused_token_of_the_forwarder_is_no_refusal_of_its_callers(status: int, reason: str, says: str) -> None:
    """At the start it ends the controller, and later a worker whose own token is good gets no 401 for it."""
    controllers = Controllers(one=wants("good", status, reason))

    async def life() -> RegistryHealth:
        async with with_token(controllers, "good") as registry:
            controllers.hosts["one"] = wants("another", status, reason)
            for verb in VERBS.values():
                with pytest.raises(RegistryUnusable) as caught:
                    await verb(registry)
                assert caught.value.http_status == 503
                assert str(caught.value).startswith(f"the controller behind this one, http://one, refuses it: {says}")
                assert str(caught.value).endswith("--remote-token-file (CONTROLLER_REMOTE_TOKEN_FILE)")
                assert "NAME:TOKEN@" not in str(caught.value)
            return registry.health()

    assert not asyncio.run(life()).ready
    with pytest.raises(RegistryUnusable, match=says):
        asyncio.run(with_token(controllers, "bad").open())


def test_a_controller_that_refuses_the_token_is_named_while_another_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problem = {"detail": "no such token", "code": "not_authenticated", "reason": "unknown"}

    async def life(urls: str) -> RegistryHealth:
        async with RemoteModelRegistry(urls, read_token=lambda: ("front", "good")) as registry:
            for _ in range(3):
                await registry.list("qwen@llm", healthy_only=True)
            return registry.health()

    with fake_controller(status=401, body=problem) as one, fake_controller() as two:
        assert asyncio.run(life(f"{one.url},{two.url}")).ready
    lines = [record.getMessage() for record in caplog.records if record.name == "dbgpt_ctl.registry.remote"]
    assert [line.partition(" ")[0] for line in lines] == [f"{one.url}:"]
    assert "another controller serves the calls" in lines[0]
    assert "--remote-token-file" in lines[0]
    assert "good" not in lines[0].replace("is good there", "")


def test_a_token_can_be_exchanged_without_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    controllers = Controllers(one=wants("old"))
    broken = UsageError("remote_token_file t: no such file")

    async def life() -> None:
        registry = with_token(controllers, "old", "old", broken, broken, "new", health_check_secs=0.001)
        async with registry:
            while "no such file" not in caplog.text:
                await asyncio.sleep(0)
            await registry.heartbeat(SENT)
            controllers.hosts["one"] = wants("new")
            while "another token" not in caplog.text:
                await asyncio.sleep(0)
            await registry.heartbeat(SENT)

    asyncio.run(asyncio.wait_for(life(), 30))
    lines = [record.getMessage() for record in caplog.records if record.name == "dbgpt_ctl.registry.remote"]
    assert lines == [
        "remote_token_file t: no such file; the token that was read before is used on",
        "another token is sent to http://one from now on: its file has changed",
    ]
    assert "old" not in caplog.text
    assert "new" not in caplog.text.replace("newer", "")
