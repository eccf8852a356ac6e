from __future__ import annotations

import pytest

from tests.client.talk import Talk, talk_asynchronous, talk_blocking


@pytest.fixture(params=[talk_blocking, talk_asynchronous], ids=["blocking", "asynchronous"])
def talk(request: pytest.FixtureRequest) -> Talk:
    chosen: Talk = request.param
    return chosen


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has set; tests of proxies set their own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
