"""DB-GPT's own ModelRegistryClient against this controller: the values that the real client returns."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dbgpt_cluster import Controller
from tests.support.dbgpt_process import until
from tests.support.dbgpt_remote_client import Caller, ClientError, RealClient, real_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release

pytestmark = pytest.mark.interop

NAMES = [
    "Qwen 2.5 Coder",
    "THUDM/glm-4-9b",
    "通义千问-max",
    "modèle-été",
    "c++",
    "100%",
    "%2B%40",
    "r&d",
    "a=b?c#d;e",
    'it\'s "quoted"',
    "<b>[red]name[/red]</b>",
    "back\\slash",
    "llama:70b",
    "🦙",
]
FIELDS = {
    "model_name": "",
    "host": "127.0.0.1",
    "port": 8001,
    "weight": 1.0,
    "check_healthy": True,
    "enabled": True,
    "prompt_template": None,
}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def controller(registry: str, new_lab: NewLab) -> Iterator[Controller]:
    with new_lab("controller") as lab:
        yield Controller(lab, registry).start()


@pytest.fixture(scope="module")
def client(release: Release, new_lab: NewLab) -> Iterator[RealClient]:
    with new_lab("client") as lab, real_client(lab, release) as client:
        yield client


@pytest.fixture
def call(client: RealClient, controller: Controller) -> Caller:
    return Caller(client, controller.url)


def new_instance(name: str = "qwen", **fields: Any) -> dict[str, Any]:
    """A name that no other test uses: the controllers are shared."""
    return FIELDS | {"model_name": f"{name}-{next(_numbers)}@llm"} | fields


def test_a_registered_instance_is_listed_with_all_its_fields(call: Caller) -> None:
    sent = new_instance(weight=2.5, prompt_template="chatml")
    assert call("register_instance", sent) is True
    (listed,) = call.named(sent["model_name"])
    beat = datetime.fromisoformat(listed["last_heartbeat"])
    assert beat.utcoffset() == timedelta(0)
    expected = sent | {"healthy": True, "last_heartbeat": listed["last_heartbeat"], "remove_from_registry": False}
    assert listed == expected | {"class": "ModelInstance"}
    assert call.named(sent["model_name"], healthy_only=True) == [listed]


def test_a_list_without_arguments_has_all_instances(call: Caller) -> None:
    first, second = new_instance("first"), new_instance("second")
    call("register_instance", first)
    call("register_instance", second)
    names = {instance["model_name"] for instance in call("get_all_instances")}
    assert {first["model_name"], second["model_name"]} <= names
    assert {instance["model_name"] for instance in call("sync_get_all_instances")} == names
    assert {instance["model_name"] for instance in call("get_all_instances", model_name="")} == names
    assert call("get_all_instances", model_name="nobody@llm") == []


def test_a_heartbeat_registers_an_unknown_instance_and_updates_the_time_of_a_known_one(call: Caller) -> None:
    sent = new_instance(weight=3.0)
    assert call("send_heartbeat", sent) is True
    (first,) = call.named(sent["model_name"], healthy_only=True)
    assert call("send_heartbeat", sent | {"weight": 9.0}) is True
    (second,) = call.named(sent["model_name"], healthy_only=True)
    assert second["weight"] == 3.0
    assert datetime.fromisoformat(second["last_heartbeat"]) > datetime.fromisoformat(first["last_heartbeat"])


def test_a_register_again_updates_weight_and_prompt_template(call: Caller) -> None:
    sent = new_instance()
    call("register_instance", sent)
    call("register_instance", sent | {"weight": 4.0, "prompt_template": "alpaca", "check_healthy": False})
    (listed,) = call.named(sent["model_name"])
    assert (listed["weight"], listed["prompt_template"], listed["check_healthy"]) == (4.0, "alpaca", True)


def test_a_deregistered_instance_stays_deregistered_until_it_registers(call: Caller) -> None:
    sent = new_instance()
    call("register_instance", sent)
    assert call("deregister_instance", sent) is True
    assert call.named(sent["model_name"], healthy_only=True) == []
    (listed,) = call.named(sent["model_name"])
    assert listed["healthy"] is False
    assert call("send_heartbeat", sent) is False
    assert call.named(sent["model_name"], healthy_only=True) == []
    assert call("deregister_instance", sent) is True
    assert call("register_instance", sent) is True
    assert len(call.named(sent["model_name"], healthy_only=True)) == 1


def test_a_removed_instance_is_in_no_list_until_it_registers(call: Caller) -> None:
    sent = new_instance()
    call("register_instance", sent)
    assert call("deregister_instance", sent | {"remove_from_registry": True}) is True
    assert call.named(sent["model_name"]) == []
    assert call("send_heartbeat", sent) is False
    assert call.named(sent["model_name"]) == []
    assert call("register_instance", sent) is True
    assert len(call.named(sent["model_name"], healthy_only=True)) == 1


def test_a_deregister_with_an_empty_remove_flag_keeps_the_instance(call: Caller) -> None:
    """`dbgpt model stop` sends None, which becomes `remove_from_registry=`."""
    sent = new_instance()
    call("register_instance", sent)
    assert call("deregister_instance", sent | {"remove_from_registry": None}) is True
    assert [instance["healthy"] for instance in call.named(sent["model_name"])] == [False]


def test_a_listed_instance_can_be_deregistered_unchanged(call: Caller) -> None:
    """Its `last_heartbeat` is sent back as a query parameter."""
    sent = new_instance("100% c++ & more", prompt_template="r&d 100%")
    call("register_instance", sent)
    (listed,) = call.named(sent["model_name"])
    del listed["class"]
    assert call("deregister_instance", listed) is True
    assert call.named(sent["model_name"], healthy_only=True) == []


def test_a_deregister_of_an_unknown_instance_answers_false(call: Caller) -> None:
    assert call("deregister_instance", new_instance()) is False


@pytest.mark.parametrize("name", NAMES)
def test_any_printable_name_works_with_every_verb(call: Caller, name: str) -> None:
    sent = new_instance(name)
    model_name = sent["model_name"]
    assert call("register_instance", sent) is True
    assert call("send_heartbeat", sent) is True
    assert [instance["model_name"] for instance in call.named(model_name, healthy_only=True)] == [model_name]
    assert call("deregister_instance", sent | {"remove_from_registry": True}) is True
    assert call.named(model_name) == []


@pytest.mark.parametrize(
    ("host", "stored"),
    [
        ("worker-3.models.svc", "worker-3.models.svc"),
        ("10.0.0.4", "10.0.0.4"),
        ("[2001:db8::7]", "[2001:db8::7]"),
        ("2001:DB8:0::8", "[2001:db8::8]"),  # the spellings of an IPv6 address are one host
    ],
)
def test_a_host_is_stored_as_sent_unless_it_has_other_spellings(call: Caller, host: str, stored: str) -> None:
    sent = new_instance(host=host)
    assert call("register_instance", sent) is True
    assert call("send_heartbeat", sent) is True
    assert [instance["host"] for instance in call.named(sent["model_name"], healthy_only=True)] == [stored]


def test_spaces_around_name_and_host_make_no_second_instance(call: Caller) -> None:
    sent = new_instance()
    call("register_instance", sent)
    call("send_heartbeat", sent | {"model_name": f" {sent['model_name']} ", "host": " 127.0.0.1 "})
    assert [instance["host"] for instance in call.named(sent["model_name"])] == ["127.0.0.1"]


def test_a_drained_instance_sends_heartbeats_and_gets_no_requests(call: Caller) -> None:
    sent = new_instance(enabled=False)
    call("register_instance", sent)
    assert call("send_heartbeat", sent | {"enabled": True}) is True
    call("register_instance", sent | {"enabled": True})
    (listed,) = call.named(sent["model_name"])
    assert (listed["healthy"], listed["enabled"]) == (True, False)
    assert call.named(sent["model_name"], healthy_only=True) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_name": "no-type"},
        {"model_name": "two@at@llm"},
        {"port": 0},
        {"port": 65536},
        {"host": " "},
        {"weight": "heavy"},
    ],
)
def test_a_refused_register_is_an_error_and_is_not_stored(call: Caller, wrong: dict[str, Any]) -> None:
    sent = new_instance() | wrong
    for verb in ("register_instance", "send_heartbeat"):
        with pytest.raises(ClientError, match=r"error code: 422, .*detail"):
            call(verb, sent)
    assert call.named(sent["model_name"]) == []


@pytest.mark.parametrize("form", ["{url}/", "http://user:secret@{host}", "{url}/, {url}"])
def test_an_address_may_have_a_slash_a_password_or_be_one_of_several(
    client: RealClient, controller: Controller, form: str
) -> None:
    call = Caller(client, form.format(url=controller.url, host=controller.url.removeprefix("http://")))
    sent = new_instance()
    assert call("register_instance", sent) is True
    assert len(call.named(sent["model_name"], healthy_only=True)) == 1


def test_latest_first_uses_the_first_address_until_it_fails(client: RealClient, registry: str, new_lab: NewLab) -> None:
    with new_lab("pair") as lab:
        first = Controller(lab, registry, name="first").start()
        second = Controller(lab, registry, name="second").start()
        call = Caller(client, f"{first.url},{second.url}", choice_type="latest_first", health_check_interval_secs=1)
        before, after = new_instance("before"), new_instance("after")
        assert call("register_instance", before) is True
        assert [len(controller.instances()) for controller in (first, second)] == [1, 0]
        assert first.process.terminate() == 0
        assert until("call that reaches the second", lambda: _accepted(call, after)) is True
        assert [instance["model_name"] for instance in second.instances().values()] == [after["model_name"]]
        assert len(call.named(after["model_name"], healthy_only=True)) == 1


def _accepted(call: Caller, sent: dict[str, Any]) -> bool:
    """DB-GPT's client fails until its next health check: it does not try the next address by itself."""
    try:
        return bool(call("send_heartbeat", sent))
    except ClientError:
        return False
