"""What the golden tests look at: a cluster with an instance in each state, whose time stands still, and what a person
sees who runs `ctl` there.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest.mock import patch

from typer.main import get_command

from dbgpt_ctl.cli import app
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.domain.events import OPERATOR, WORKER
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.domain.registry_outage import Outage
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.clock import START, ManualClock
from tests.support.server import running_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.contract import Listing

TIMEOUT = timedelta(seconds=60)
NOW = START + timedelta(hours=26, seconds=215.5)
"""What all clocks show."""
FIRST, SILENT, LEFT, STOPPED, DRAINED = (
    InstanceKey("qwen2.5@llm", host, 8001) for host in ("10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "[fd00::5]")
)
CHINESE = InstanceKey("深度求索@llm", "worker-7", 8001)
UNCHECKED = InstanceKey("bge@text2vec", "10.0.0.4", 8002)
SERVICE = InstanceKey("WorkerManager@service", "10.0.0.4", 8005)
HOSTILE = InstanceKey("evil\x1b[31m\u202e[red]@llm", "10.0.0.66", 8001)
"""Only a controller that is not ours lets it in; here it is put into the registry itself."""


CTL = get_command(app)
"""Built once: that takes five times as long as a command."""


OUTAGE = Outage(NOW - timedelta(hours=8), NOW - timedelta(hours=8, seconds=-149)).hold(TIMEOUT)


class StillRegistry(EmbeddedModelRegistry):
    """Says what time it is, as one on a database does: else ages would count against the server's Date."""

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        return replace(await super().list(model_name, healthy_only=healthy_only), time=self._clock.now())

    async def outages(self) -> tuple[Hold, ...]:
        return (OUTAGE,)


async def fill(registry: EmbeddedModelRegistry, clock: ManualClock) -> None:
    """One drained for long; then some minutes in the life of it and eight more.

    One is drained for a time and stopped. The drain of another one is over.
    """
    worker, operator = WORKER._replace(address="10.0.0.4"), OPERATOR._replace(address="10.0.0.1")
    lively = [FIRST, DRAINED, CHINESE, SERVICE, HOSTILE]

    async def turn(seconds: float) -> None:
        clock.advance(seconds)
        await registry.announce()

    async def beat(*keys: InstanceKey) -> None:
        for key in keys:
            await registry.heartbeat(Registration(key), actor=worker)

    await beat(DRAINED)
    await registry.drain(DRAINED, reason="GPU 3: new driver", actor=operator)
    await turn(26 * 3600)
    await registry.register(Registration(FIRST, weight=2.0, prompt_template="chat"), actor=worker)
    await registry.register(Registration(UNCHECKED, check_healthy=False), actor=worker)
    await registry.register(Registration(HOSTILE, prompt_template="=1+1\x1b]0;title\x07"), actor=worker)
    await beat(DRAINED, CHINESE, SERVICE, SILENT, LEFT, STOPPED)
    await registry.drain(STOPPED, reason="new kernel", duration=timedelta(hours=3), actor=operator)
    await registry.drain(CHINESE, duration=timedelta(seconds=30), actor=operator)
    for others in ([LEFT], [SILENT, LEFT], [LEFT], []):
        await turn(50)
        await beat(*lively, *others)
    await registry.deregister(LEFT, actor=operator)
    await turn(12.5)
    await beat(LEFT)
    await turn(3)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A real controller over a real registry, filled."""
    served = create_app(ControllerSettings(), StillRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT))
    with running_app(served) as url:
        there = Cluster(url, served.state.controller)
        there.renew()
        yield there


@dataclass(frozen=True)
class Cluster:
    url: str
    controller: Controller

    def renew(self) -> None:
        """As it was at first; faster than another server."""
        clock = ManualClock()
        registry = StillRegistry(clock=clock, heartbeat_timeout=TIMEOUT, new_stream=lambda: "stream")
        asyncio.run(fill(registry, clock))
        assert clock.now() == NOW
        self.controller.registry = registry
        self.controller._own_now, self.controller._started_at = clock.now, NOW - timedelta(hours=60)


@dataclass(frozen=True)
class View:
    """Where a person looks. `columns` None: a pipe."""

    name: str
    columns: int | None = None
    env: tuple[tuple[str, str], ...] = ()


NO_COLOR = (("NO_COLOR", "1"),)
VIEWS = (
    View("pipe"),
    View("pipe, NO_COLOR", env=NO_COLOR),
    View("80 columns", 80),
    View("80 columns, NO_COLOR", 80, NO_COLOR),
    View("200 columns", 200),
    View("200 columns, NO_COLOR", 200, NO_COLOR),
)


class _Stream(io.TextIOWrapper):
    """Notes down what is written with what every line of it is to start with."""

    def __init__(self, notes: list[tuple[str, str]], start: str, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self._notes, self._start, self._terminal = notes, start, terminal

    def write(self, text: str, /) -> int:
        if text:
            self._notes.append((self._start, text))
        return len(text)

    def isatty(self) -> bool:
        return self._terminal


def seen(args: Iterable[str], view: View) -> str:
    """What a command writes, in the order of its writing, and its exit code."""
    notes: list[tuple[str, str]] = []
    terminal = view.columns is not None
    size = {"COLUMNS": str(view.columns), "LINES": "24", "TERM": "xterm-256color"} if terminal else {}
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, {**size, **dict(view.env)}))
        stack.enter_context(redirect_stdout(_Stream(notes, "", terminal=terminal)))
        # What is drawn in place on a terminal is no line: see tests/cli/output/test_status_line.py.
        stack.enter_context(redirect_stderr(_Stream(notes, "stderr: ", terminal=False)))
        try:
            CTL(list(args), obj=ManualClock(NOW))
        except SystemExit as left:
            notes.append(("", f"exit {left.code}\n"))
    assert all(text.endswith("\n") for _, text in notes), notes
    return "".join(f"{start}{line}\n" for start, text in notes for line in text[:-1].split("\n"))


def readable(text: str) -> str:
    """With what differs from run to run replaced, and with every character in sight that a terminal obeys."""
    text = re.sub(r"http://127\.0\.0\.1:\d{5}", "http://127.0.0.1:#####", text)
    text = re.sub(r"\d+\.\d+ ?ms\b *", _padded, text)
    text = re.sub(r"""(latency_secs"?: )[0-9.e-]+|(,200,)[0-9.e-]+(?=,)""", r"\1\2#", text)
    text = re.sub(r"(connections at \S+ )\d+ of at most \d+", r"\1# of at most #", text)
    text = re.sub(r"dctl_[A-Za-z0-9_-]{43}", f"dctl_{'#' * 43}", text)
    text = re.sub(r"(digest: |\"digest\": )(\"?)'?[0-9a-f]{12}'?", rf"\1\2{'#' * 12}", text)  # YAML quotes a number
    text = re.sub(r"trace [0-9a-f]{32}", f"trace {'#' * 32}", text)
    return "".join(char if char.isprintable() or char == "\n" else _shown(char) for char in text)


def _padded(latency: re.Match[str]) -> str:
    """As wide as it was, spaces after it included, or columns after it would move."""
    return "#.#ms".ljust(len(latency[0])) if latency[0].endswith(" ") else "#.#ms"


def _shown(char: str) -> str:
    return "␛" if char == "\x1b" else f"<U+{ord(char):04X}>"
