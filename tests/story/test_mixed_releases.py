"""A roll mixes releases: `ctl` and a forwarding controller of 0.1.0 call this release, and the reverse."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest

from tests.support.controller_process import serving
from tests.support.first_release import first_release
from tests.support.process import ctl, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.process import Finished

pytestmark = pytest.mark.slow

REF, OTHER = "qwen@llm/10.0.0.4:8001", "bge@text2vec/10.0.0.5:8002"
LINES = f"""
    models register {REF} --no-check-healthy
    models register {OTHER} --no-check-healthy
    models drain {REF} --reason disk --for 1h --force
    models list qwen@llm --host 10.0.0.4 --state drained
    models get {REF}
    status
    why qwen --no-probe
    events qwen
    events {REF} --since 1h --limit 5
    models undrain {REF}
    models prune --older-than 7d --dry-run
    assert qwen
    models deregister {OTHER} --remove
"""
STREAMS = ("models list qwen@llm --host 10.0.0.4 --watch -o json", f"events {REF} -f --since 1h -o json")


class Roll(NamedTuple):
    """A `ctl`, and the controllers through which its calls pass."""

    env: Mapping[str, str]
    url: str
    last: str
    """The URL of the controller that has the registry."""

    def ctl(self, line: str) -> Finished:
        return ctl(*line.split(), "-a", self.url, env=self.env)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return {"0.1.0": first_release(tmp_path_factory.mktemp("release")), "this": {}}


@pytest.fixture
def rolled(releases: dict[str, dict[str, str]]) -> Iterator[Callable[..., Roll]]:
    """Starts the controllers of these releases, each of which but the last forwards to the next."""
    with ExitStack() as stack:

        def roll(client: str, *controllers: str) -> Roll:
            urls: list[str] = []
            for release in reversed(controllers):
                flags = ("--remote-addr", urls[-1]) if urls else ()
                urls.append(stack.enter_context(serving(flags, releases[release])))
            return Roll(releases[client], urls[-1], urls[0])

        yield roll


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("client", "controllers"),
    [
        ("0.1.0", ["this"]),
        ("0.1.0", ["0.1.0", "this"]),
        ("this", ["0.1.0"]),
        ("this", ["this", "0.1.0"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " to ".join(value),
)
def test_every_call_is_served(rolled: Callable[..., Roll], client: str, controllers: list[str]) -> None:
    cluster = rolled(client, *controllers)
    done = {line: cluster.ctl(line) for line in filter(None, map(str.strip, LINES.splitlines()))}
    assert all("qwen" in done[line].out for line in done if line.startswith(("events", "models list", "why")))
    assert "bge" not in done[f"events {REF} --since 1h --limit 5"].out
    for line in STREAMS:
        with start(*line.split(), "-a", cluster.url, env=cluster.env) as process:
            assert process.stdout is not None
            assert "10.0.0.4" in process.stdout.readline()
            process.kill()
    if controllers[-1] == "this":
        answered = httpx.get(f"{cluster.last}/metrics", trust_env=False).text
        assert 'code="200"' in answered
        assert 'code="422"' not in answered


@pytest.mark.timeout(300)
@pytest.mark.parametrize("controllers", [["0.1.0"], ["this", "0.1.0"]], ids=" to ".join)
def test_a_filter_that_the_older_controller_does_not_know_is_applied(
    rolled: Callable[..., Roll], controllers: list[str]
) -> None:
    cluster = rolled("this", *controllers)
    worker = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
    assert httpx.post(f"{cluster.last}/api/controller/models", json=worker, trust_env=False).json() is True
    cluster.ctl(f"models register {OTHER}")
    found = {by: json.loads(cluster.ctl(f"events --by {by} -o json").out) for by in ("worker", "operator")}
    assert {by: [event["model_name"] for event in events] for by, events in found.items()} == {
        "worker": ["qwen@llm"],
        "operator": ["bge@text2vec"],
    }
