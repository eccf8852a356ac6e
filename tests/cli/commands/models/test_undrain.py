"""`ctl models undrain --wait`. What it shares with drain is in test_drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fake_controller import fake_controller

if TYPE_CHECKING:
    from tests.cli.conftest import Run

REF = "qwen@llm/10.0.0.4:8001"


def test_undrain_waits_for_all(run: Run, controller: str) -> None:
    run("models", "register", REF)
    run("models", "drain", REF, "--force")
    assert run("models", "undrain", REF, "--wait").out == f"{REF} undrained\n"
    with fake_controller(body=[]) as other:
        done = run("models", "undrain", REF, "--wait", "--timeout", "1ms", "-a", f"{controller},{other.url}", expect=5)
        assert done.err == f"ctl: {REF}: undrained, but {other.url} did not follow within 0.001s\n"


def test_undrain_does_not_wait_for_what_gets_nothing_for_another_reason(run: Run, controller: str) -> None:
    run("models", "register", REF)
    run("models", "deregister", REF)
    done = run("models", "undrain", REF, "--wait", expect=5)
    assert done.out == f"{REF} undrained\n"
    assert done.err == f"ctl: {REF}: undrained, but it gets no requests: it is deregistered\n"
