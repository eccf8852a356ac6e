"""The endpoints of /api/v1 over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from dbgpt_ctl.controller.api.status import counts_of, encoded_counts
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.service.large_lists import INSTANCES_PER_PIECE
from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
from dbgpt_ctl.domain.lifecycle import listed
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.model_counts import COUNTED_PER_TURN, COUNTS
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.clock import START
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import ManualClock

ONE: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
TWO = ONE | {"host": "10.0.0.5"}
OTHER = ONE | {"model_name": "bge@text2vec"}
NINE = {*ONE, "weight", "check_healthy", "healthy", "enabled", "prompt_template", "last_heartbeat"}
MORE = {"state", "routable", "drain", "registered_at", "deregistered_at", "refused_at", "flaps", "removed", "held"}
CAVEATS = {"time", "held_until", "heartbeat_timeouts_secs"}
OPERATOR = {"X-Ctl-Actor": "operator"}


@pytest.fixture(params=["/api/v1", "//api/v1"])
def prefix(request: pytest.FixtureRequest) -> str:
    prefix: str = request.param
    return prefix


def register(http: httpx.Client, *instances: dict[str, Any], **options: Any) -> None:
    for instance in instances:
        assert http.post("/api/controller/models", json=instance, **options).json() is True


def identity(instance: dict[str, Any]) -> dict[str, Any]:
    return {name: instance[name] for name in ONE}


def test_an_instance_has_all_its_facts(http: httpx.Client, clock: ManualClock, prefix: str) -> None:
    register(http, ONE)
    base = str(http.base_url).rstrip("/")
    answer = httpx.get(f"{base}{prefix}/instances", trust_env=False).json()
    assert set(answer) == {"version", *CAVEATS, "stale_since", "instances"}
    assert answer["version"] == 1
    (instance,) = answer["instances"]
    assert set(instance) == NINE | MORE
    assert instance | {"last_heartbeat": None} == instance | ONE | {
        "state": "healthy",
        "routable": True,
        "drain": None,
        "flaps": 0,
        "last_heartbeat": None,
    }
    assert instance["registered_at"] == clock.now().isoformat(timespec="microseconds")
    one = httpx.get(f"{base}{prefix}/instance", params=ONE, trust_env=False).json()
    assert one["instance"] == instance
    assert set(one) == {"version", *CAVEATS, "instance"}
    assert datetime.fromisoformat(one["time"]).tzinfo is not None
    assert one["held_until"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [OTHER, ONE, TWO]),
        ({"model_name": "", "host": "", "state": ""}, [OTHER, ONE, TWO]),
        ({"model_name": "qwen@llm"}, [ONE, TWO]),
        ({"host": "10.0.0.4"}, [OTHER, ONE]),
        ({"model_name": "qwen@llm", "host": "10.0.0.4"}, [ONE]),
        ({"state": "drained"}, [TWO]),
        ({"state": " Drained "}, [TWO]),
        ({"state": "drained", "host": "10.0.0.4"}, []),
        ({"state": "healthy"}, [OTHER, ONE, TWO]),
        ({"state": "healthy", "host": "10.0.0.5"}, [TWO]),
        ({"state": "unhealthy", "host": "10.0.0.5"}, []),
    ],
)
def test_instances_are_those_that_match_all_that_is_given(
    http: httpx.Client, query: dict[str, str], expected: list[dict[str, Any]]
) -> None:
    register(http, ONE, TWO, OTHER)
    http.post("/api/v1/drain", json=TWO)
    listed = http.get("/api/v1/instances", params=query).json()["instances"]
    assert [identity(each) for each in listed] == expected


def test_a_drain_takes_an_instance_out_of_the_routable_and_an_undrain_brings_it_back(
    http: httpx.Client, clock: ManualClock, prefix: str
) -> None:
    register(http, ONE)
    base = str(http.base_url).rstrip("/")
    routable = {"model_name": "qwen@llm", "healthy_only": "true"}
    drained = httpx.post(f"{base}{prefix}/drain", json=ONE | {"reason": " new drivers "}, trust_env=False).json()
    assert drained["durable"] is False
    assert set(drained) == {"version", *CAVEATS, "instance", "durable"}
    now = clock.now().isoformat(timespec="microseconds")
    assert drained["instance"]["drain"] == {"since": now, "by": "127.0.0.1", "reason": "new drivers", "until": None}
    assert (drained["instance"]["state"], drained["instance"]["routable"]) == ("healthy", False)
    assert (drained["instance"]["healthy"], drained["instance"]["enabled"]) == (True, False)
    assert http.get("/api/controller/models", params=routable).json() == []
    undrained = httpx.post(f"{base}{prefix}/undrain", json=ONE, trust_env=False).json()
    assert (undrained["instance"]["state"], undrained["instance"]["drain"]) == ("healthy", None)
    assert len(http.get("/api/controller/models", params=routable).json()) == 1


def test_a_register_that_drains_is_one_step_and_one_event(http: httpx.Client, clock: ManualClock) -> None:
    body = ONE | {"weight": 2, "prompt_template": "chat", "drain": {"reason": " new drivers ", "for_secs": 30}}
    answer = http.post("/api/v1/register", json=body).json()
    assert set(answer) == {"version", *CAVEATS, "instance", "durable"}
    instance, now = answer["instance"], clock.now()
    assert (instance["weight"], instance["prompt_template"], instance["check_healthy"]) == (2.0, "chat", True)
    assert (instance["state"], instance["routable"], instance["enabled"]) == ("healthy", False, False)
    assert instance["drain"] == {
        "since": now.isoformat(timespec="microseconds"),
        "by": "127.0.0.1",
        "reason": "new drivers",
        "until": (now + timedelta(seconds=30)).isoformat(timespec="microseconds"),
    }
    (event,) = http.get("/api/v1/events").json()["events"]
    assert (event["old"], event["new"], event["drained"], event["verb"]) == ("absent", "healthy", True, "register")
    assert (event["actor"], event["reason"]) == ("operator", "new drivers")


def test_a_drain_for_a_time_ends_by_itself(http: httpx.Client, clock: ManualClock) -> None:
    register(http, ONE)
    answer = http.post("/api/v1/drain", json=ONE | {"for_secs": 30}).json()
    until = clock.now() + timedelta(seconds=30)
    assert answer["instance"]["drain"]["until"] == until.isoformat(timespec="microseconds")
    clock.advance(29.999999)
    assert [listed["enabled"] for listed in http.get("/api/controller/models").json()] == [False]
    clock.advance(0.000001)
    (listed,) = http.get("/api/controller/models").json()
    assert (listed["enabled"], set(listed)) == (True, NINE)
    assert http.get("/api/v1/instance", params=ONE).json()["instance"]["drain"] is None


def test_a_drained_instance_whose_worker_is_silent_is_shown_as_both(http: httpx.Client, clock: ManualClock) -> None:
    register(http, ONE)
    http.post("/api/v1/drain", json=ONE)
    clock.advance(61)
    (instance,) = http.get("/api/v1/instances", params={"state": "drained"}).json()["instances"]
    assert (instance["state"], instance["routable"], instance["drain"]["reason"]) == ("unhealthy", False, None)
    assert len(http.get("/api/v1/instances", params={"state": "unhealthy"}).json()["instances"]) == 1


@pytest.mark.parametrize("value", [0, 0.5, -1, 366 * 86400 + 1, 1e308, "30", True, [30]])
def test_a_wrong_length_of_a_drain_is_422(http: httpx.Client, value: Any) -> None:
    register(http, ONE)
    reply = http.post("/api/v1/drain", json=ONE | {"for_secs": value})
    assert (reply.status_code, reply.json().get("field")) == (422, "for_secs")
    assert http.get("/api/v1/instance", params=ONE).json()["instance"]["drain"] is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda http: http.get("/api/v1/instance", params=ONE),
        lambda http: http.post("/api/v1/drain", json=ONE),
        lambda http: http.post("/api/v1/undrain", json=ONE),
    ],
    ids=["instance", "drain", "undrain"],
)
def test_what_is_unknown_is_404_and_named(http: httpx.Client, ask: Callable[[httpx.Client], httpx.Response]) -> None:
    reply = ask(http)
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == "not_found"
    assert reply.json()["instance_key"] == ONE
    assert "qwen@llm/10.0.0.4:8001" in reply.json()["detail"]


def test_prune_forgets_the_long_gone_and_a_dry_run_only_tells(http: httpx.Client, clock: ManualClock) -> None:
    register(http, ONE, TWO)
    clock.advance(3600)
    register(http, OTHER)
    answer = http.post("/api/v1/prune", json={"older_than_secs": 600, "dry_run": True}).json()
    assert answer == {"version": 1, "dry_run": True, "instances": [ONE, TWO]}
    assert len(http.get("/api/v1/instances").json()["instances"]) == 3
    assert http.post("/api/v1/prune", json={"older_than_secs": 600.0}).json() == answer | {"dry_run": False}
    assert [identity(each) for each in http.get("/api/v1/instances").json()["instances"]] == [OTHER]


def test_events_tell_who_changed_what(http: httpx.Client) -> None:
    register(http, ONE)
    register(http, TWO, headers=OPERATOR)
    http.post("/api/v1/drain", json=ONE | {"reason": "why"})
    answer = http.get("/api/v1/events").json()
    assert {name: answer[name] for name in answer if name not in {"stream", "events"}} == {
        "version": 1,
        "last_id": 3,
        "missed": False,
        "next_after": 3,
        "complete_since": None,
        "operator_complete_since": None,
    }
    assert [
        (each["id"], each["host"], each["old"], each["new"], each["drained"], each["verb"], each["actor"])
        for each in answer["events"]
    ] == [
        (1, "10.0.0.4", "absent", "healthy", False, "register", "worker"),
        (2, "10.0.0.5", "absent", "healthy", False, "register", "operator"),
        (3, "10.0.0.4", "healthy", "healthy", True, "drain", "operator"),
    ]
    assert {each["address"] for each in answer["events"]} == {"127.0.0.1"}
    assert answer["events"][2]["reason"] == "why"
    assert set(answer["events"][0]) == {
        "id", "time", *ONE, "old", "new", "drained", "verb", "actor", "actor_name", "address", "reason",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"after": "1"}, [2, 3, 4]),
        ({"after": "0", "limit": "2"}, [1, 2]),
        ({"limit": "2"}, [3, 4]),
        ({"after": "4"}, []),
        ({"host": "10.0.0.4"}, [1, 3, 4]),
        ({"host": "10.0.0.4", "limit": "2"}, [3, 4]),
        ({"host": "10.0.0.4", "limit": "2", "after": "0"}, [1, 3]),
        ({"model_name": "qwen@llm"}, [1, 2, 4]),
        ({"model_name": "qwen@llm", "host": "10.0.0.4", "port": "8001"}, [1, 4]),
        ({"name": "qwen"}, [1, 2, 4]),
        ({"type": "text2vec"}, [3]),
        ({"verb": "drain"}, [4]),
        ({"by": "worker"}, [1, 2, 3]),
        ({"until": "2000-01-01T00:00:00Z"}, []),
        ({"since": "2000-01-01T00:00:00Z"}, [1, 2, 3, 4]),
        ({"since": "2100-01-01T00:00:00+01:00"}, []),
        ({"since": "2100-01-01T00:00:00 01:00"}, []),
    ],
)
def test_events_are_those_that_are_asked_for(http: httpx.Client, query: dict[str, str], expected: list[int]) -> None:
    register(http, ONE, TWO, OTHER)
    http.post("/api/v1/drain", json=ONE)
    assert [each["id"] for each in http.get("/api/v1/events", params=query).json()["events"]] == expected


def test_status_tells_how_the_controller_is(http: httpx.Client, clock: ManualClock) -> None:
    silent = ONE | {"host": "10.0.0.6"}
    register(http, silent, TWO)
    http.delete("/api/controller/models", params=TWO)
    for drained in (silent, TWO):
        http.post("/api/v1/drain", json=drained)
    clock.advance(61)
    register(http, ONE)
    answer = http.get("/api/v1/status").json()
    assert answer["version"] == 1
    assert answer["controller"]["leaving"] is False
    assert datetime.fromisoformat(answer["controller"]["started_at"]) <= datetime.now(UTC)
    assert answer["registry"] == {"kind": "embedded", "place": None, "durable": False, "ready": True, "reason": None}
    assert answer["settings"] == {
        "heartbeat_interval_secs": 20.0,
        "heartbeat_timeout_secs": 60.0,
        "max_instances": 200_000,
    }
    assert (answer["controllers"], answer["outages"]) == ([], [])
    assert answer["models"] == [
        {
            "model_name": "qwen@llm",
            "healthy": 1,
            "unhealthy": 1,
            "deregistered": 1,
            "routable": 1,
            "held": 0,
            "drained": 2,
            "unhealthy_drained": 1,
            "unchecked": 0,
        }
    ]
    assert answer["watchers"] == 0
    assert answer["last_event_id"] == http.get("/api/v1/events").json()["last_id"]


class Away(EmbeddedModelRegistry):
    """Answers nothing now."""

    async def list(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RegistryUnavailable("db1 does not answer")

    get = drain = undrain = prune = events = outages = list


@pytest.mark.parametrize(
    "ask",
    [
        lambda http: http.get("/api/v1/instances"),
        lambda http: http.get("/api/v1/instance", params=ONE),
        lambda http: http.post("/api/v1/drain", json=ONE),
        lambda http: http.post("/api/v1/undrain", json=ONE),
        lambda http: http.post("/api/v1/prune", json={"older_than_secs": 1}),
        lambda http: http.get("/api/v1/events"),
        lambda http: http.get("/api/v1/watch"),
    ],
)
def test_a_registry_that_is_away_is_503(clock: ManualClock, ask: Callable[[httpx.Client], httpx.Response]) -> None:
    with (
        running_controller(Away(clock=clock, heartbeat_timeout=TIMEOUT)) as url,
        httpx.Client(base_url=url, trust_env=False) as http,
    ):
        reply = ask(http)
        assert (reply.status_code, reply.json()["code"]) == (503, "registry_unavailable")
        assert reply.headers["retry-after"] == "5"
        status = http.get("/api/v1/status")
        assert status.status_code == 200
        assert [status.json()[name] for name in ("models", "last_event_id", "outages")] == [None, None, None]


def test_status_lists_the_outages_of_the_registry(clock: ManualClock) -> None:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, watch_absence=True)
    with running_controller(registry) as url:
        clock.advance(90)
        registry.tick()
        gone_at, back_at, held_until = (
            (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds") for seconds in (0, 90, 150)
        )
        assert httpx.get(f"{url}/api/v1/status", trust_env=False).json()["outages"] == [
            {"gone_at": gone_at, "back_at": back_at, "held_until": held_until}
        ]


@pytest.mark.anyio
async def test_very_many_models_are_counted_in_turns(clock: ManualClock) -> None:
    """200,000 models took 4 to 14 s, which is a gap of the pulse."""
    many = 20_000
    instances = (
        ModelInstance(InstanceKey(f"m{n}@llm", "h", 1), 1.0, True, None, clock.now(), clock.now()) for n in range(many)
    )
    listing = Listing(tuple(listed(instance, clock.now(), timedelta(hours=1)) for instance in instances))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count_turns())
    counted = orjson.loads(await encoded_counts(await counts_of(listing)))
    others.cancel()
    assert len(counted) == many
    assert counted[1] == dict.fromkeys(COUNTS, 0) | {"model_name": "m1@llm", "healthy": 1, "routable": 1}
    assert turns >= many / COUNTED_PER_TURN + many / INSTANCES_PER_PIECE


def test_status_says_that_the_controller_leaves(clock: ManualClock) -> None:
    app = create_app(ControllerSettings(), EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT))
    with running_app(app) as url:
        app.state.controller.leave()
        assert httpx.get(f"{url}/api/v1/status", trust_env=False).json()["controller"]["leaving"] is True
        assert httpx.get(f"{url}/api/v1/watch", trust_env=False).status_code == 503


NO_SECONDS: list[Any] = [None, "600", -1, True, 1e300, [], {}, 10**18]
BAD_BODIES: list[tuple[str, Any, str]] = [
    *(
        (verb, body, field)
        for verb in ("register", "drain", "undrain")
        for body, field in [
            ({}, "model_name"),
            (ONE | {"model_name": "qwen"}, "model_name"),
            (ONE | {"host": "http://10.0.0.4"}, "host"),
            (ONE | {"port": 0}, "port"),
            (ONE | {"port": None}, "port"),
            ([], "body"),
            ("qwen", "body"),
        ]
    ),
    ("drain", ONE | {"reason": 7}, "reason"),
    ("drain", ONE | {"reason": "two\nlines"}, "reason"),
    ("drain", ONE | {"reason": "\x1b[31mred"}, "reason"),
    ("drain", ONE | {"reason": "\u202eback"}, "reason"),
    ("drain", ONE | {"reason": "x" * 256}, "reason"),
    ("register", ONE, "drain"),
    ("register", ONE | {"drain": None}, "drain"),
    ("register", ONE | {"drain": True}, "drain"),
    ("register", ONE | {"drain": []}, "drain"),
    ("register", ONE | {"drain": {"reason": 7}}, "reason"),
    ("register", ONE | {"drain": {"for_secs": 0}}, "for_secs"),
    ("register", ONE | {"drain": {"until": None}}, "until"),
    ("register", ONE | {"drain": {}, "weight": "heavy"}, "weight"),
    ("register", ONE | {"drain": {}, "enabled": True}, "enabled"),
    ("prune", {}, "older_than_secs"),
    *(("prune", {"older_than_secs": value}, "older_than_secs") for value in NO_SECONDS),
    ("prune", {"older_than_secs": 1, "dry_run": "maybe"}, "dry_run"),
    ("prune", {"older_than_secs": 1, "dry_run": None}, "dry_run"),
    ("prune", {"older_than_secs": 1, "dry_run": ""}, "dry_run"),
    ("prune", {"older_than_secs": 1, "dryrun": True}, "dryrun"),
]


@pytest.mark.parametrize(("verb", "body", "field"), BAD_BODIES)
def test_a_wrong_body_is_422_and_nothing_is_stored(http: httpx.Client, verb: str, body: Any, field: str) -> None:
    register(http, ONE)
    before = http.get("/api/v1/instances").json()["instances"]
    reply = http.post(f"/api/v1/{verb}", json=body)
    assert (reply.status_code, reply.json().get("field")) == (422, field)
    assert reply.json()["detail"].isprintable()
    assert http.get("/api/v1/instances").json()["instances"] == before
    assert http.get("/api/v1/events").json()["last_id"] == 1


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("instances", {"state": "fine"}, "state"),
        ("instances", {"host": "a b"}, "host"),
        ("instances", {"model_name": "x" * 129}, "model_name"),
        ("instance", {}, "model_name"),
        ("instance", {"model_name": "qwen@llm", "host": "10.0.0.4"}, "port"),
        *(("events", {"after": value}, "after") for value in ("-1", "x", "1.5", str(2**63), "9" * 5000)),
        *(("events", {"limit": value}, "limit") for value in ("0", "-1", "10001", "many")),
        *(
            ("events", {"since": value}, "since")
            for value in ("yesterday", "2026-01-02T03:04:05", "0001-01-01T00:00:00+23:00")
        ),
        ("events", {"port": "70000"}, "port"),
        ("watch", {"host": "a b"}, "host"),
        *(("watch", {"cursor": value}, "cursor") for value in ("x", ".1", "x.", "x.-1", "x.y", f"{'x' * 65}.1")),
    ],
)
def test_a_wrong_query_is_422(http: httpx.Client, path: str, query: dict[str, str], field: str) -> None:
    reply = http.get(f"/api/v1/{path}", params=query)
    assert (reply.status_code, reply.json().get("field")) == (422, field)


def test_a_reason_may_have_255_characters(http: httpx.Client) -> None:
    register(http, ONE)
    answer = http.post("/api/v1/drain", json=ONE | {"reason": "ß" * 255}).json()
    assert answer["instance"]["drain"]["reason"] == "ß" * 255


def test_many_instances_are_all_listed(clock: ManualClock) -> None:
    """More than are encoded at once."""
    many = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(many) as url, httpx.Client(base_url=url, trust_env=False) as http:
        register(http, *(ONE | {"port": port} for port in range(1, 2202)))
        listed = http.get("/api/v1/instances").json()["instances"]
    assert [each["port"] for each in listed] == list(range(1, 2202))


def test_a_client_of_release_0_1_0_reads_all_pages(http: httpx.Client) -> None:
    """It goes on after the last event that it got, and ends with the first page that is not full."""
    register(http, ONE, OTHER, TWO)
    for _ in range(3):
        http.post("/api/v1/drain", json=OTHER)
        http.post("/api/v1/drain", json=ONE)
        http.post("/api/v1/undrain", json=OTHER)
    found: list[int] = []
    while True:
        query: dict[str, str | int] = {"model_name": "bge@text2vec", "after": found[-1] if found else 0, "limit": 2}
        page = http.get("/api/v1/events", params=query).json()
        found += [each["id"] for each in page["events"]]
        if len(page["events"]) < 2:
            break
    assert len(found) == len(set(found)) == 7
