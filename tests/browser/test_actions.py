"""Drain and undrain from the page: each is an event with its actor. A reader can do neither."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.browser.guard import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.conftest import NewController, Visit, Visitor
    from tests.browser.controllers import Controller
    from tests.browser.tokens import Tokens

KEYS = [InstanceKey("qwen@llm", "10.0.0.4", 8001 + number) for number in range(4)]
ACTION = re.compile("^(Drain|Undrain)…$")
REASON = "new driver <b>now</b>"


@pytest.fixture
def guarded(new_controller: NewController, tokens: Tokens) -> Controller:
    """Four instances that live as long as the test."""
    controller = new_controller("--tokens-file", str(tokens.path))
    with client_of(controller, "gpu", tokens.worker) as client:
        for key in KEYS:
            client.register(Registration(key))
    return controller


def client_of(controller: Controller, name: str, token: str) -> ControllerClient:
    return ControllerClient(controller.url.replace("//", f"//{name}:{token}@"))


@pytest.fixture
def reader(guarded: Controller, tokens: Tokens) -> Iterator[httpx.Client]:
    """What the registry says."""
    with httpx.Client(
        base_url=f"{guarded.url}/api/v1/", headers={"Authorization": f"Bearer {tokens.reader}"}, trust_env=False
    ) as client:
        yield client


def signed_in(visit: Visitor, controller: Controller, token: str, who: str) -> Visit:
    visited = visit(f"{controller.url}/console/instances")
    visited.console.sign_in(token)
    visited.console.signed_in_as(who)
    expect(visited.console.rows).to_have_count(len(KEYS))
    return visited


@pytest.fixture
def anna(visit: Visitor, guarded: Controller, tokens: Tokens) -> Visit:
    return signed_in(visit, guarded, tokens.operator, "anna (operator)")


@pytest.fixture
def ben(visit: Visitor, guarded: Controller, tokens: Tokens) -> Visit:
    return signed_in(visit, guarded, tokens.reader, "ben (reader)")


def test_drain_in_bulk_with_a_reason_and_a_time(anna: Visit, reader: httpx.Client) -> None:
    console, page = anna.console, anna.page
    console.select(KEYS[:3])
    expect(page.get_by_role("group", name="Selection")).to_contain_text("3 selected")
    page.get_by_role("button", name="Drain…", exact=True).click()
    dialog = console.dialog
    expect(dialog.get_by_role("heading")).to_have_text("Drain 3 instances")
    dialog.get_by_label("Reason").fill(REASON)
    dialog.get_by_label("For how long").select_option("2 hours")
    dialog.get_by_role("button", name="Drain 3 instances").click()
    expect(dialog).to_have_count(0)
    for key in KEYS[:3]:
        expect(console.row(key)).to_contain_text(REASON)
        expect(console.row(key)).to_contain_text("by anna")
        expect(console.row(key)).to_contain_text("ends in 1h 59m")
    expect(console.row(KEYS[3]).locator(".badge")).to_have_count(0)
    drains = [drain_of(reader, key) for key in KEYS[:3]]
    assert {(drain["by"], drain["reason"]) for drain in drains} == {("anna (127.0.0.1)", REASON)}
    assert {hours_between(drain["since"], drain["until"]) for drain in drains} == {2}
    assert [actor_of(event) for event in events(reader, "drain")] == [("operator", "anna", REASON)] * 3


def test_undrain_in_bulk(anna: Visit, guarded: Controller, tokens: Tokens, reader: httpx.Client) -> None:
    with client_of(guarded, "anna", tokens.operator) as client:
        for key in KEYS[:2]:
            client.drain(key, reason="ping")
    console, page = anna.console, anna.page
    expect(console.row(KEYS[1])).to_contain_text("ping")
    console.select(KEYS[:3])
    page.get_by_role("button", name="Undrain…").click()
    expect(console.dialog).to_contain_text("1 of the chosen ones is not drained")
    console.dialog.get_by_role("button", name="Undrain 2 instances").click()
    expect(console.dialog).to_have_count(0)
    for key in KEYS[:2]:
        expect(console.row(key).locator(".badge")).to_have_count(0)
    assert [actor_of(event) for event in events(reader, "undrain")] == [("operator", "anna", None)] * 2


def test_a_drain_of_the_last_routable_instances_asks_again(anna: Visit, reader: httpx.Client) -> None:
    anna.page.get_by_label("Select this page").check()
    anna.page.get_by_role("button", name="Drain…", exact=True).click()
    expect(anna.console.dialog).to_contain_text("no routable instance")
    expect(anna.console.dialog.get_by_role("button", name="Drain 4 instances all the same")).to_be_enabled()
    anna.page.keyboard.press("Escape")
    expect(anna.console.dialog).to_have_count(0)
    assert events(reader, "drain") == []


def test_the_page_of_one_instance_drains_it(anna: Visit, reader: httpx.Client) -> None:
    anna.console.row(KEYS[0]).get_by_role("link").click()
    expect(anna.page.get_by_role("heading", level=1)).to_contain_text("10.0.0.4:8001")
    anna.page.get_by_role("button", name="Drain…", exact=True).click()
    anna.console.dialog.get_by_label("Reason").fill("fan")
    anna.console.dialog.get_by_role("button", name="Drain 1 instance").click()
    expect(anna.page.get_by_role("main")).to_contain_text("fan")
    assert [actor_of(event) for event in events(reader, "drain")] == [("operator", "anna", "fan")]


def test_a_reader_sees_no_action(ben: Visit) -> None:
    for view in ("Instances", "Overview", "Events", "This controller"):
        ben.console.go(view)
        expect(ben.page.get_by_role("button", name=ACTION)).to_have_count(0)
        expect(ben.page.get_by_role("main").get_by_role("checkbox")).to_have_count(0)
    ben.console.go("Instances")
    ben.console.row(KEYS[0]).get_by_role("link").click()
    expect(ben.page.get_by_role("heading", level=1)).to_contain_text("10.0.0.4:8001")
    expect(ben.page.get_by_role("button", name=ACTION)).to_have_count(0)


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_the_controller_refuses_what_a_reader_sends_all_the_same(ben: Visit, reader: httpx.Client, verb: str) -> None:
    key = {"model_name": KEYS[0].model_name, "host": KEYS[0].host, "port": KEYS[0].port}
    with ben.guard.excusing(ben.page, REFUSED):
        status = ben.page.evaluate(
            """([verb, body]) => fetch(`../api/v1/${verb}`, {
                method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
            }).then((answer) => answer.status)""",
            [verb, key],
        )
    assert status == 403
    assert drain_of(reader, KEYS[0]) is None
    assert events(reader, verb) == []


def test_an_operator_whose_token_becomes_a_readers_loses_the_actions(
    anna: Visit, tokens: Tokens, reader: httpx.Client
) -> None:
    """The page may show them a moment longer: the refusal is shown, and nothing happens."""
    anna.console.select(KEYS[:1])
    anna.page.get_by_role("button", name="Drain…", exact=True).click()
    tokens.path.write_text(tokens.path.read_text().replace('role = "operator"', 'role = "reader"'))
    with anna.guard.excusing(anna.page, REFUSED):
        expect(anna.page.get_by_role("banner")).not_to_contain_text("anna (operator)", timeout=15_000)
    expect(anna.page.get_by_role("button", name=ACTION)).to_have_count(0)
    assert events(reader, "drain") == []


def events(reader: httpx.Client, verb: str) -> list[dict[str, Any]]:
    """The events of that verb, in order."""
    return [event for event in reader.get("events").raise_for_status().json()["events"] if event["verb"] == verb]


def actor_of(event: dict[str, Any]) -> tuple[str, str | None, str | None]:
    return event["actor"], event["actor_name"], event["reason"]


def drain_of(reader: httpx.Client, key: InstanceKey) -> Any:
    query: dict[str, str | int] = {"model_name": key.model_name, "host": key.host, "port": key.port}
    return reader.get("instance", params=query).raise_for_status().json()["instance"]["drain"]


def hours_between(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)) / timedelta(hours=1)
