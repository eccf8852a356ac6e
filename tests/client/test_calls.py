"""The exact bytes of the requests, as DB-GPT's clients send them, and what is read from the answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.client import ReportedInstance
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, Registration
from tests.client.talk import KEY, OBJECT, SENT, Controllers, good

if TYPE_CHECKING:
    from tests.client.talk import Call, Talk

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


def sent_by(talk: Talk, call: Call, address: str = "http://one:8000") -> httpx.Request:
    controllers = Controllers(one=good)
    (outcome,) = talk(address, call, handler=controllers)
    assert not isinstance(outcome, Exception)
    (request,) = controllers.requests
    return request


@pytest.mark.parametrize(
    ("path", "call"),
    [("models", lambda client: client.register(SENT)), ("heartbeat", lambda client: client.heartbeat(SENT))],
)
def test_register_and_heartbeat_send_the_ten_keys(talk: Talk, path: str, call: Call) -> None:
    request = sent_by(talk, call)
    assert (request.method, str(request.url)) == ("POST", f"http://one:8000/api/controller/{path}")
    assert request.headers["content-type"] == "application/json"
    assert list(json.loads(request.content).items()) == list(BODY.items())


def test_facts_are_sent_as_given_in_raw_utf_8(talk: Talk) -> None:
    sent = Registration(
        InstanceKey("mödel 模型@llm", "[::1]", 1), 0.5, check_healthy=False, enabled=False, prompt_template="p"
    )
    body = sent_by(talk, lambda client: client.register(sent)).content
    assert "mödel 模型@llm".encode() in body
    told = {"weight": 0.5, "check_healthy": False, "enabled": False, "prompt_template": "p", "host": "[::1]", "port": 1}
    assert json.loads(body) == BODY | told | {"model_name": "mödel 模型@llm"}


@pytest.mark.parametrize("remove", [False, True])
def test_deregister_sends_all_fields_as_query(talk: Talk, remove: bool) -> None:
    request = sent_by(talk, lambda client: client.deregister(KEY, remove=remove))
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
def test_list_sends_only_what_is_given(talk: Talk, call: Call, query: str) -> None:
    request = sent_by(talk, call)
    assert (request.method, request.url.raw_path.decode()) == ("GET", f"/api/controller/models{query}")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("one", "http://one/api/health"),
        ("http://one:8000/", "http://one:8000/api/health"),
        ("https://one/prefix%20x/", "https://one/prefix%20x/api/health"),
    ],
)
def test_paths_are_under_the_address(talk: Talk, address: str, path: str) -> None:
    assert str(sent_by(talk, lambda client: client.health(), address).url) == path


def test_credentials_are_sent_as_basic_with_every_call(talk: Talk) -> None:
    controllers = Controllers(one=good)
    calls: list[Call] = [
        lambda client: client.register(SENT),
        lambda client: client.deregister(KEY),
        lambda client: client.heartbeat(SENT),
        lambda client: client.list(),
        lambda client: client.health(),
    ]
    outcomes = talk("http://us%40er:to:kén@one:8000", *calls, handler=controllers)
    assert [request.headers["authorization"] for request in controllers.requests] == ["Basic dXNAZXI6dG86a8Opbg=="] * 5
    assert all("@one" not in str(request.url) for request in controllers.requests)
    assert "kén" not in repr(outcomes)


def test_without_credentials_none_are_sent(talk: Talk) -> None:
    assert "authorization" not in sent_by(talk, lambda client: client.list()).headers


@pytest.mark.parametrize("verdict", [True, False])
def test_verdicts_are_passed_on(talk: Talk, verdict: bool) -> None:
    controllers = Controllers(one=httpx.Response(200, json=verdict))
    calls: list[Call] = [lambda client: client.heartbeat(SENT), lambda client: client.deregister(KEY)]
    assert talk("http://one", *calls, handler=controllers) == [verdict, verdict]


def listed(talk: Talk, *objects: dict[str, Any], **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    controllers = Controllers(one=httpx.Response(200, json=list(objects), headers=named))
    (outcome,) = talk("http://user:secret@one:8000", lambda client: client.list(), handler=controllers)
    return outcome


def test_a_list_keeps_the_raw_objects_and_reads_them(talk: Talk) -> None:
    second = OBJECT | {"host": "a", "extra": [1], "last_heartbeat": None, "healthy": False}
    answer = listed(talk, OBJECT, second, Date="Fri, 02 Jan 2026 03:04:06 GMT")
    assert answer.objects == [OBJECT, second]
    assert answer.controller == "http://one:8000"
    assert answer.date == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert answer.stale_since is None
    beat = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert answer.instances == (
        ReportedInstance("qwen@llm", "10.0.0.4", 8001, 1.0, True, True, True, None, beat),
        ReportedInstance("qwen@llm", "a", 8001, 1.0, True, False, True, None, None),
    )
    assert answer.instances[0].key == KEY


def test_an_empty_list_without_a_date(talk: Talk) -> None:
    answer = listed(talk)
    assert (answer.objects, answer.instances, answer.date) == ([], (), None)


def test_a_stale_list_says_since_when(talk: Talk) -> None:
    answer = listed(talk, OBJECT, X_Ctl_Stale_Since="2026-01-02T03:04:05.500000+00:00")
    assert answer.stale_since == datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)


@pytest.mark.parametrize("date", ["yesterday", "", "Fri, 99 Jan 2026 03:04:06 GMT"])
def test_a_date_that_is_none_is_left_out(talk: Talk, date: str) -> None:
    assert listed(talk, Date=date).date is None


@pytest.mark.parametrize(
    ("healthy", "enabled", "state"),
    [
        (True, True, InstanceState.HEALTHY),
        (True, False, InstanceState.DRAINED),
        (False, True, InstanceState.UNHEALTHY),
        (False, False, InstanceState.UNHEALTHY),
    ],
)
def test_the_state_that_nine_keys_tell(healthy: bool, enabled: bool, state: InstanceState) -> None:
    assert ReportedInstance.read(OBJECT | {"healthy": healthy, "enabled": enabled}).state is state


def test_a_naive_beat_is_this_hosts_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-05:30")
        time.tzset()
        read = ReportedInstance.read(OBJECT | {"last_heartbeat": "2026-01-02T03:04:05.678901"}).last_heartbeat
    time.tzset()
    assert read is not None
    assert read.utcoffset() == timedelta(hours=5, minutes=30)
    assert read == datetime(2026, 1, 1, 21, 34, 5, 678901, tzinfo=UTC)


@pytest.mark.parametrize("beat", [None, "", "soon", 17, "2026-13-01T00:00:00"])
def test_a_beat_that_is_no_time_is_none(beat: Any) -> None:
    assert ReportedInstance.read(OBJECT | {"last_heartbeat": beat}).last_heartbeat is None
