"""What changes in the cluster is on the page within two seconds, without a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import TIMEOUT_SECS
from tests.browser.guard import OUTAGE
from tests.support.dbgpt_process import get, until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from dbgpt_ctl.domain.instance import InstanceKey
    from tests.browser.conftest import Visit, Visitor
    from tests.browser.controllers import Controller
    from tests.support.fleet import Fleet

QWEN = "qwen@llm"
SILENT_SECS = 26
"""The page gives up a stream that is silent for 25 seconds."""


@pytest.fixture
def overview(visit: Visitor, controller: Controller) -> Visit:
    visited = visit(f"{controller.url}/console/")
    expect(visited.console.live).to_be_visible()
    return visited


@pytest.fixture
def instances(visit: Visitor, controller: Controller) -> Visit:
    visited = visit(f"{controller.url}/console/instances")
    expect(visited.console.live).to_be_visible()
    return visited


def has_happened(controller: Controller, verb: str, key: InstanceKey) -> None:
    """Waits until the journal of the controller has the event."""

    def there() -> bool:
        page = get(f"{controller.url}/api/v1/events", model_name=key.model_name)
        return any((event["verb"], event["port"]) == (verb, key.port) for event in page["events"]) if page else False

    until(f"{verb} of {key}", there)


def test_the_life_of_a_worker_in_the_list(instances: Visit, controller: Controller, workers: Fleet) -> None:
    """It registers, is drained and undrained, falls silent, comes back, and deregisters."""
    workers.start(QWEN, 2)
    worker, other = workers.of(QWEN, 0), workers.of(QWEN, 1)
    row, state = instances.console.row(worker.key), instances.console.state(worker.key)
    expect(state).to_have_text("healthy")
    workers.client.drain(worker.key, reason="new driver")
    expect(row.locator(".badge")).to_have_text("drained")
    expect(row).to_contain_text("new driver")
    workers.client.undrain(worker.key)
    expect(row.locator(".badge")).to_have_count(0)
    worker.stop()
    has_happened(controller, "expire", worker.key)
    expect(state).to_have_text("unhealthy")
    worker.resume()
    has_happened(controller, "heartbeat", worker.key)
    expect(state).to_have_text("healthy")
    worker.stop()
    workers.client.deregister(worker.key)
    expect(state).to_have_text("deregistered")
    workers.client.deregister(worker.key, remove=True)
    expect(row).to_have_count(0)
    expect(instances.console.state(other.key)).to_have_text("healthy")


def test_the_life_of_a_worker_in_the_overview(overview: Visit, controller: Controller, workers: Fleet) -> None:
    row = overview.console.model(QWEN)
    expect(row).to_have_count(0)
    workers.start(QWEN, 2)
    routable_of(overview, 2, 2)
    workers.client.drain(workers.of(QWEN).key, reason="new driver")
    routable_of(overview, 1, 2)
    workers.of(QWEN, 1).stop()
    has_happened(controller, "expire", workers.of(QWEN, 1).key)
    routable_of(overview, 0, 2)


def routable_of(overview: Visit, routable: int, total: int) -> None:
    row = overview.console.model(QWEN)
    expect(row.get_by_role("cell").nth(1)).to_contain_text(str(routable))
    expect(row.get_by_role("cell").nth(2)).to_contain_text(str(total))


def test_a_worker_that_never_beats_expires_before_the_eyes_of_the_viewer(
    instances: Visit, controller: Controller, workers: Fleet
) -> None:
    workers.start(QWEN)
    worker = workers.of(QWEN)
    expect(instances.console.state(worker.key)).to_have_text("healthy")
    worker.stop()
    unhealthy_after = 1000 * TIMEOUT_SECS + 2000
    expect(instances.console.state(worker.key)).to_have_text("unhealthy", timeout=unhealthy_after)


def test_changes_arrive_on_every_view_that_is_open(visit: Visitor, controller: Controller, workers: Fleet) -> None:
    """A browser allows six connections to one server; a stream for each window leaves some for the rest."""
    windows = [visit(f"{controller.url}/console/instances") for _ in range(3)]
    for window in windows:
        expect(window.console.live).to_be_visible()
    workers.start(QWEN)
    for window in windows:
        expect(window.console.row(workers.of(QWEN).key)).to_be_visible()


def test_a_page_in_the_background_holds_no_connection(overview: Visit, controller: Controller, workers: Fleet) -> None:
    """The stream ends while nobody looks, and goes on from its cursor: no change is lost."""
    workers.start(QWEN)
    expect(overview.console.model(QWEN)).to_be_visible()
    assert watchers(controller) == 1
    overview.console.hide()
    until("end of the stream", lambda: watchers(controller) == 0)
    workers.start("bge@text2vec")
    workers.client.drain(workers.of(QWEN).key)
    with overview.page.expect_request(lambda request: "/api/v1/watch" in request.url) as resumed:
        overview.console.show()
    assert "cursor=" in resumed.value.url
    expect(overview.console.live).to_be_visible()
    expect(overview.console.model("bge@text2vec")).to_be_visible()
    routable_of(overview, 0, 1)
    until("stream", lambda: watchers(controller) == 1)


def first_held(page: Page, pattern: str) -> list[Route]:
    """The first request for this goes on only when the test lets it."""
    held: list[Route] = []
    page.route(pattern, lambda route: route.continue_() if held else held.append(route))
    return held


def watchers(controller: Controller) -> int:
    status = get(f"{controller.url}/api/v1/status")
    assert status is not None
    return int(status["watchers"])


def test_a_change_between_the_list_and_the_stream_is_not_lost(
    visit: Visitor, controller: Controller, workers: Fleet
) -> None:
    """A worker registers after the list was made, and before the stream begins, which is before the list arrives."""
    visited = visit(f"{controller.url}/console/instances")
    page = visited.page
    page.goto("about:blank")
    lists, streams = first_held(page, "**/api/v1/instances"), first_held(page, "**/api/v1/watch*")
    with page.expect_request("**/api/v1/instances"), page.expect_request("**/api/v1/watch*"):
        page.goto(f"{controller.url}/console/instances")
    page.evaluate("null")  # the handlers of both requests have been called
    old = lists[0].fetch()
    workers.start(QWEN)
    streams[0].continue_()
    expect(visited.console.live).to_be_visible()
    lists[0].fulfill(response=old)
    expect(visited.console.row(workers.of(QWEN).key)).to_be_visible()


def test_a_journal_that_is_opened_while_the_stream_resumes(
    overview: Visit, controller: Controller, workers: Fleet
) -> None:
    workers.start(QWEN)
    expect(overview.console.model(QWEN)).to_be_visible()
    overview.console.hide()
    until("end of the stream", lambda: watchers(controller) == 0)
    page = overview.page
    streams = first_held(page, "**/api/v1/watch*")
    with page.expect_request("**/api/v1/watch*"):
        overview.console.show()
    overview.console.go("Events")
    streams[0].continue_()
    expect(overview.console.live).to_be_visible()
    expect(overview.console.rows).to_have_count(1)


def test_a_stream_that_never_begins_is_asked_for_again(visit: Visitor, controller: Controller) -> None:
    """As where the machine of the controller went away without a word."""
    visited = visit(f"{controller.url}/console/")
    expect(visited.console.live).to_be_visible()
    page = visited.page
    page.clock.install()
    first_held(page, "**/api/v1/watch*")
    with page.expect_request("**/api/v1/watch*"):
        page.reload()
    with visited.guard.excusing(page, OUTAGE):
        page.clock.fast_forward(1000 * SILENT_SECS)
        expect(visited.console.live).to_be_visible()
