from __future__ import annotations

import pytest

from tests.client.clients import MakeCalls, make_calls_asynchronous, make_calls_blocking


@pytest.fixture(params=[make_calls_blocking, make_calls_asynchronous], ids=["blocking", "asynchronous"])
def make_calls(request: pytest.FixtureRequest) -> MakeCalls:
    chosen: MakeCalls = request.param
    return chosen


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may have them; tests of proxies set their own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
