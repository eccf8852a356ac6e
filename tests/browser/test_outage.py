"""What the page says while a controller or its database is away, and after that."""

from __future__ import annotations

import re
import signal
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.browser.conftest import missing
from tests.browser.guard import OUTAGE
from tests.chaos.controllers import controllers
from tests.support.database_server import private_server
from tests.support.dbgpt_process import get, until
from tests.support.mariadb import MariaDBServer, missing_programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from playwright.sync_api import Route

    from tests.browser.conftest import NewController, Visitor
    from tests.browser.controllers import Controller
    from tests.browser.tokens import Tokens
    from tests.chaos.controllers import Controller as SharingController
    from tests.support.fleet import Fleet

QWEN, BGE = "qwen@llm", "bge@text2vec"
HELD_SECS = 12
"""The heartbeat timeout: so long are states held."""
RECOVERY_MS = 8000
"""The page tries again every five seconds at the latest."""
SILENT_MS = 26_000
"""The page gives a stream up that is silent for so long."""
STATUS_MS = 15_000
"""The page asks for the status every five seconds; a controller whose database is away answers late."""


def test_a_controller_is_killed_and_comes_back(visit: Visitor, controller: Controller, workers: Fleet) -> None:
    workers.start(QWEN)
    visited = visit(f"{controller.url}/console/")
    expect(visited.console.live).to_be_visible()
    expect(visited.console.model(QWEN)).to_be_visible()
    with visited.guard.excusing(visited.page, OUTAGE):
        controller.kill()
        expect(visited.console.notices).to_have_text(re.compile(r"does not answer; it was last seen \d+s ago"))
        expect(visited.console.live).to_have_count(0)
        expect(visited.console.notices).to_have_text(re.compile(r"it was last seen [3-9]s ago"), timeout=5000)
        expect(visited.console.model(QWEN)).to_be_visible()
        expect(visited.page.get_by_text("nothing that is wrong")).to_have_count(0, timeout=STATUS_MS)
        controller.start()
        expect(visited.console.live).to_be_visible(timeout=RECOVERY_MS)
    expect(visited.console.notices).to_have_count(0)
    workers.start(BGE)
    expect(visited.console.model(BGE)).to_be_visible()


def test_a_page_that_is_opened_in_an_outage_of_the_stream_says_so(visit: Visitor, controller: Controller) -> None:
    """The page is there, and the controller ends before it has given anything."""
    visited = visit(f"{controller.url}/console/instances")
    expect(visited.console.live).to_be_visible()
    with visited.guard.excusing(visited.page, OUTAGE):
        controller.kill()
        visited.console.go("Overview")
        expect(visited.console.notices).to_contain_text("does not answer")
        controller.start()
        expect(visited.console.live).to_be_visible(timeout=RECOVERY_MS)


def test_a_proxy_answers_in_place_of_the_controller(visit: Visitor, controller: Controller) -> None:
    """The page says what it says of an outage."""
    visited = visit(f"{controller.url}/console/instances")
    expect(visited.console.live).to_be_visible()
    with visited.guard.excusing(visited.page, OUTAGE):
        visited.page.route("**/api/v1/**", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
        controller.kill()
        expect(visited.console.notices).to_contain_text("does not answer as it should (status 502); it was last seen")
        expect(visited.console.notices).to_contain_text("The page tries again by itself")
        visited.page.unroute("**/api/v1/**")
        controller.start()
        expect(visited.console.notices).to_have_count(0, timeout=RECOVERY_MS)


def test_a_stream_that_is_not_answered_is_given_up(visit: Visitor, controller: Controller) -> None:
    visited = visit("about:blank", controller.url)
    visited.page.clock.install()
    visited.page.route("**/api/v1/watch*", lambda _: None)
    with visited.page.expect_request("**/api/v1/watch*"):
        visited.page.goto(f"{controller.url}/console/")
    visited.page.clock.fast_forward(SILENT_MS)
    expect(visited.console.notices).to_contain_text("does not answer")
    visited.page.unroute("**/api/v1/watch*")
    visited.page.clock.fast_forward(RECOVERY_MS)
    expect(visited.console.live).to_be_visible()


def test_a_change_between_the_list_and_the_begin_of_the_stream_is_not_missed(
    visit: Visitor, controller: Controller
) -> None:
    """The controller reads the list, then a worker registers, and then the stream begins; the list arrives last."""
    visited = visit("about:blank", controller.url)
    key = InstanceKey(QWEN, "127.0.0.9", 8001)
    held: dict[str, Route] = {}

    def hold(route: Route) -> None:
        name = urlsplit(route.request.url).path.rsplit("/", 1)[1]
        if held.setdefault(name, route) is not route:
            route.continue_()

    visited.page.route(re.compile("/api/v1/(watch|instances)"), hold)
    visited.page.goto(f"{controller.url}/console/instances")
    until("requests", lambda: visited.page.evaluate("true") and len(held) == 2)
    old = httpx.get(f"{controller.url}/api/v1/instances", trust_env=False).text
    with ControllerClient(controller.url) as client:
        client.register(Registration(key))
    held["watch"].continue_()
    expect(visited.console.live).to_be_visible()
    held["instances"].fulfill(body=old, content_type="application/json")
    expect(visited.console.row(key)).to_be_visible()


def test_a_sign_out_in_an_outage_is_no_error_of_the_page(visit: Visitor, enforcing: Controller, tokens: Tokens) -> None:
    visited = visit(f"{enforcing.url}/console/")
    visited.console.sign_in(tokens.reader)
    expect(visited.console.live).to_be_visible()
    with visited.guard.excusing(visited.page, OUTAGE):
        enforcing.kill()
        expect(visited.console.notices).to_contain_text("does not answer")
        visited.page.get_by_role("button", name="Sign out").click()
        visited.console.signed_in_as("ben (reader)")


def test_a_controller_is_frozen_and_goes_on(visit: Visitor, new_controller: NewController) -> None:
    """Its connections stay open, and nothing comes. States are held afterwards, which stands beside them."""
    controller = new_controller("--heartbeat-timeout-secs", str(HELD_SECS))
    key = InstanceKey(QWEN, "10.0.0.4", 8001)
    with ControllerClient(controller.url) as client:
        client.register(Registration(key))
    assert controller.process
    controller.process.popen.send_signal(signal.SIGSTOP)
    try:
        until_states_will_be_held(monotonic())
    finally:
        controller.process.popen.send_signal(signal.SIGCONT)
    until("hold", lambda: (get(f"{controller.url}/api/v1/status") or {}).get("held_until"))
    visited = visit(f"{controller.url}/console/instances")
    expect(visited.console.notices.filter(has_text="held")).to_have_count(1)
    expect(visited.console.row(key)).to_contain_text("held")


def until_states_will_be_held(began: float) -> None:
    """After a shorter outage an instance is healthy by its last heartbeat, and needs no hold."""
    until("end of the outage", lambda: monotonic() > began + HELD_SECS + 2)


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDBServer]:
    if absent := missing_programs():
        missing(absent)
    with private_server(MariaDBServer) as server:
        yield server


@pytest.fixture
def both(
    after_visits: ExitStack, mariadb: MariaDBServer, tmp_path_factory: pytest.TempPathFactory
) -> list[SharingController]:
    """Two controllers over one database."""
    folder = tmp_path_factory.mktemp("controllers")
    options = ("--heartbeat-timeout-secs", str(HELD_SECS))
    return after_visits.enter_context(controllers(folder, [mariadb], 2, *options, database=folder.name))


def test_nothing_that_happens_at_another_controller_is_missed(visit: Visitor, both: list[SharingController]) -> None:
    """While its own controller is away, the page shows the way to the other one."""
    ours, other = both
    keys = [InstanceKey(QWEN, "10.0.0.4", 8000 + number) for number in range(4)]
    visited = visit(f"{ours.url}/console/")
    expect(visited.page.get_by_role("main")).to_contain_text(other.url, timeout=STATUS_MS)
    visited.console.go("Instances")
    expect(visited.console.live).to_be_visible()
    with ControllerClient(other.url) as client:
        for key in keys[:3]:
            client.register(Registration(key))
        expect(visited.console.state(keys[2])).to_have_text("healthy")
        with visited.guard.excusing(visited.page, OUTAGE):
            ours.kill()
            expect(visited.console.notices).to_contain_text("does not answer")
            link = visited.console.notices.get_by_role("link")
            expect(visited.console.notices).to_contain_text("or use another controller:")
            expect(link).to_have_attribute("href", f"{other.url}/console/")
            client.drain(keys[0], reason="new driver")
            client.deregister(keys[1])
            client.deregister(keys[2], remove=True)
            client.register(Registration(keys[3]))
            ours.start()
            expect(visited.console.live).to_be_visible(timeout=RECOVERY_MS)
    expect(visited.console.row(keys[0])).to_contain_text("new driver")
    expect(visited.console.state(keys[1])).to_have_text("deregistered")
    expect(visited.console.row(keys[2])).to_have_count(0)
    expect(visited.console.state(keys[3])).to_have_text("healthy")


def test_a_database_is_away_and_comes_back(
    visit: Visitor, both: list[SharingController], mariadb: MariaDBServer
) -> None:
    """Answers are stale, and later held. Both stand above what is shown, which stays."""
    ours = both[0]
    key = InstanceKey(QWEN, "10.0.0.4", 8001)
    with ControllerClient(ours.url) as client:
        client.register(Registration(key))
    visited = visit(f"{ours.url}/console/instances")
    expect(visited.console.state(key)).to_have_text("healthy")
    with visited.guard.excusing(visited.page, OUTAGE):
        mariadb.stop()
        began = monotonic()
        try:
            expect(visited.console.notices.first).to_contain_text("All states are as of", timeout=STATUS_MS)
            expect(visited.console.live).to_have_count(0)
            expect(visited.console.state(key)).to_have_text("healthy")
            until_states_will_be_held(began)
        finally:
            mariadb.start()
        expect(visited.console.notices.first).to_contain_text("held", timeout=STATUS_MS)
        expect(visited.console.row(key)).to_contain_text("held")


def test_addresses_that_are_none_stop_neither_the_view_nor_what_is_said_of_an_outage(
    visit: Visitor, controller: Controller
) -> None:
    """They come from the shared database, in which any program may have written."""
    addresses = ["javascript:alert(1)//", "http://[bad", "", "<img src=x>", "http://127.0.0.1:1"]

    def add_poison(route: Route) -> None:
        status = route.fetch().json()
        own = {"version": "1", "started_at": status["time"], "seen_at": status["time"]}
        status["controllers"] = [own | {"id": str(place), "address": each} for place, each in enumerate(addresses)]
        route.fulfill(json=status)

    visited = visit("about:blank", controller.url)
    visited.page.route("**/api/v1/status", add_poison)
    visited.page.goto(f"{controller.url}/console/")
    links = visited.page.get_by_role("link").filter(has_text=re.compile("script|bad|img|127"))
    expect(visited.page.locator("main")).to_contain_text("http://[bad")
    expect(links).to_have_count(1)
    with visited.guard.excusing(visited.page, OUTAGE):
        controller.kill()
        expect(visited.console.notices).to_have_text(re.compile("does not answer"))
        expect(links.first).to_have_attribute("href", "http://127.0.0.1:1/console/")
        visited.page.goto("about:blank")
