"""The health check of the image: which address it asks, and what it says of the answer. The image has its own tests."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from dbgpt_ctl.controller import liveness_probe
from tests.support.fake_controller import fake_controller
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Asks with the given variables in the environment. Returns the exit code and the errors."""

    def ask(**variables: object) -> tuple[int, str]:
        for name, value in variables.items():
            monkeypatch.setenv(f"CONTROLLER_{name}", str(value))
        return liveness_probe.main(), capsys.readouterr().err

    return ask


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_controller_that_answers_lives(probe: Callable[..., tuple[int, str]], host: str) -> None:
    with fake_controller(body=b"ok") as fake:
        assert probe(HOST=host, PORT=urlsplit(fake.url).port) == (0, "")
    assert fake.requests == ["GET /livez"]


def test_one_that_says_that_it_hangs_does_not(probe: Callable[..., tuple[int, str]]) -> None:
    with fake_controller(status=503, body=b"") as fake:
        assert probe(PORT=urlsplit(fake.url).port) == (1, f"{fake.url}/livez: status 503\n")


def test_one_that_does_not_answer_does_not(probe: Callable[..., tuple[int, str]]) -> None:
    port = free_port()
    assert probe(HOST="::", PORT=port) == (1, f"http://[::1]:{port}/livez: Connection refused\n")


def test_a_wrong_setting_is_one_line(probe: Callable[..., tuple[int, str]]) -> None:
    code, error = probe(PORT="no-port")
    assert (code, error.count("\n")) == (1, 1)
    assert "CONTROLLER_PORT" in error
