"""The checks of a controller, each with something that is wrong and without."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.http.tls import WatchedCertificate
from dbgpt_ctl.controller.service import checks
from dbgpt_ctl.controller.service.checks import KEPT, LoopLag
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


BLOCK_SECS = 0.5
EVERY_SECS = 0.05


def test_a_call_that_blocks_the_loop_is_seen() -> None:
    async def scenario() -> None:
        lag = LoopLag(every_secs=EVERY_SECS)
        assert lag.seconds == 0.0
        async with lag.measured():
            await asyncio.sleep(0)  # it waits for its next measurement
            time.sleep(BLOCK_SECS)  # noqa: ASYNC251 - the mistake that it is to find
            async with asyncio.timeout(20):
                while not lag.seconds:
                    await asyncio.sleep(0.005)
        assert lag.seconds >= BLOCK_SECS - EVERY_SECS

    asyncio.run(scenario())


def test_an_old_delay_is_forgotten() -> None:
    """Each measurement looks at the clock twice: the first one takes 3 s, the others no time."""
    looks = 0

    def monotonic() -> float:
        nonlocal looks
        looks += 1
        return next(times)

    times = chain([0.0, 3.0], repeat(3.0))
    lag = LoopLag(every_secs=0.0, monotonic=monotonic)

    async def scenario() -> list[float]:
        seen: list[float] = []
        async with lag.measured(), asyncio.timeout(20):
            while looks <= 2 * (KEPT + 1):
                await asyncio.sleep(0)
                seen.append(lag.seconds)
        return seen

    seen = asyncio.run(scenario())
    assert max(seen) == 3.0
    assert seen[-1] == 0.0
