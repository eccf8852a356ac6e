"""The checks of a controller, each with something that is wrong and without."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.http.tls import WatchedCertificate
from dbgpt_ctl.controller.service import checks
from dbgpt_ctl.domain.controllers import EXPIRES_SOON
from tests.support.tls import authority

if TYPE_CHECKING:
    from pathlib import Path

HOUR = timedelta(hours=1)


def test_the_event_loop_may_be_a_little_late() -> None:
    assert checks.event_loop(0.0).ok
    assert checks.event_loop(checks.MAX_LAG_SECS).ok
    late = checks.event_loop(3.34)
    assert (late.name, late.ok) == ("event-loop", False)
    assert "waited 3.3 s" in str(late.detail)


@pytest.mark.parametrize("offset", [5.0, -5.0])
def test_a_clock_may_be_a_little_off(offset: float) -> None:
    assert checks.clock(offset) == ("clock", None)


@pytest.mark.parametrize(
    ("offset", "detail"),
    [
        (-300.2, "this controller's clock is 300 s ahead of its registry's"),
        (3600.0, "this controller's clock is 3600 s behind its registry's"),
    ],
)
def test_a_clock_that_is_far_off_is_wrong(offset: float, detail: str) -> None:
    assert checks.clock(offset) == ("clock", detail)


def test_a_long_queue_is_wrong() -> None:
    assert checks.queue(checks.MAX_WAITING_CALLS).ok
    full = checks.queue(checks.MAX_WAITING_CALLS + 1)
    assert (full.name, full.ok) == ("queue", False)
    assert "5001 calls wait" in str(full.detail)


def test_a_controller_that_leaves_says_so() -> None:
    assert checks.shutdown(leaving=False) == ("shutdown", None)
    assert checks.shutdown(leaving=True) == ("shutdown", "this controller is leaving")


@pytest.mark.parametrize(
    ("left", "detail"),
    [
        (EXPIRES_SOON + HOUR, None),
        (EXPIRES_SOON - HOUR, "the certificate in use expires at {end}"),
        (-HOUR, "tls_cert {cert}: the certificate in use expired at {end}"),
    ],
)
def test_a_certificate_that_expires_soon_is_wrong(left: timedelta, detail: str | None, tmp_path: Path) -> None:
    issuer, clock = authority(tmp_path), SystemClock()
    end = clock.now() + left
    issuer.write(issuer.issue(not_before=end - timedelta(days=60), not_after=end))
    found = checks.certificate(WatchedCertificate(str(issuer.cert), str(issuer.key), clock), clock.now())
    shown = None if detail is None else detail.format(end=f"{end:%Y-%m-%dT%H:%M:%SZ}", cert=issuer.cert)
    assert found == ("certificate", shown)


def test_a_certificate_whose_files_are_wrong_is_wrong(tmp_path: Path) -> None:
    issuer, clock = authority(tmp_path), SystemClock()
    watched = WatchedCertificate(str(issuer.cert), str(issuer.key), clock)
    assert checks.certificate(watched, clock.now()).ok
    issuer.cert.write_text("no certificate")
    watched.look()
    watched.look()
    assert "holds no certificate" in str(checks.certificate(watched, clock.now()).detail)
