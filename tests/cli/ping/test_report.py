"""The table of pings on terminals of several widths, and the sentence at the end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.cli.ping.report import PingedInstance, print_pings, summary
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from dbgpt_ctl.domain.ping_results import Ping, PingResult
from dbgpt_ctl.ping.details import Detail, quoted_cause
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = ROOT / "tests" / "cli" / "ping" / "golden"


def instance(name: str, host: str, state: InstanceState = InstanceState.HEALTHY, **facts: object) -> KnownInstance:
    return KnownInstance(f"{name}@llm", host, 8001, state=state, **facts)  # type: ignore[arg-type]


def pinged(known: KnownInstance, result: PingResult, detail: str = "", **times: float | int) -> PingedInstance:
    return PingedInstance(Ping(known.key, result, detail, **times), known)  # type: ignore[arg-type]


CAUSE = quoted_cause("Connection error: \x1b[31m[Errno 111] Connection refused at http://10.0.0.44:8080/v1")
PINGS = [
    pinged(instance("qwen2.5", "10.0.0.4"), PingResult.OK, connect=0.0004, ttft=0.0412, total=0.3, tokens=16),
    pinged(
        instance("qwen2.5", "10.0.0.114", drain=DrainFacts()),
        PingResult.MODEL_ERROR,
        Detail.MODEL_ERROR.format(cause=CAUSE),
        connect=0.012,
        total=1.31,
    ),
    pinged(
        instance("深度求索", "worker-7", InstanceState.UNHEALTHY),
        PingResult.CONNECT_TIMEOUT,
        Detail.CONNECT_TIMEOUT,
        total=18.0,
    ),
    PingedInstance(
        Ping(InstanceKey("evil\x1b[31m@llm", "[fd00::5]", 8001), PingResult.BUSY, Detail.BUSY, 0.001, None, 20.0), None
    ),
]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("colour", [True, False])
def test_table(width: int, colour: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "" if colour else "1")
    print_pings(PINGS, headers=True)
    shown = capsys.readouterr().out
    if not colour:
        assert "\x1b" not in shown
    compare(f"table-{width}{'' if colour else '-no-colour'}.txt", shown)


def test_a_narrow_terminal_shows_each_detail_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    many = [pinged(instance("qwen", f"10.0.0.{number}"), PingResult.REFUSED, Detail.REFUSED) for number in range(250)]
    print_pings(many, headers=True)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"qwen@llm/10.0.0.0:8001, qwen@llm/10.0.0.1:8001, qwen@llm/10.0.0.2:8001, and 247 more: {Detail.REFUSED}"
    )


def test_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_pings(PINGS, headers=True)
    compare("table-pipe.txt", capsys.readouterr().out)


def compare(name: str, shown: str) -> None:
    if os.environ.get("CTL_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(shown)
    assert shown == (GOLDEN / name).read_text()


def pings(*results: PingResult) -> Iterator[Ping]:
    for number, result in enumerate(results):
        yield Ping(InstanceKey("qwen@llm", "10.0.0.4", number + 1), result)


def test_summary() -> None:
    assert summary(pings()) == summary(pings(PingResult.OK)) == ""
    assert summary(pings(PingResult.BUSY)) == "1 of 1 instance did not answer: 1 busy"
    results = (PingResult.REFUSED, PingResult.OK, PingResult.BUSY, PingResult.REFUSED, PingResult.NOT_ASKED)
    assert summary(pings(*results)) == "4 of 5 instances did not answer: 2 refused, 1 busy, 1 not-asked"
    assert [ping.failed for ping in pings(*results)] == [True, False, False, True, False]
