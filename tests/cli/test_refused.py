"""What every command says and how it ends when the controller refuses its token, at a real controller that enforces."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.client.servers import closed_port
from tests.support.clock import ManualClock
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.support.process import Finished

REFERENCE = "qwen/10.0.0.4:8001"
READS = {
    "models list": (),
    "models get": (REFERENCE,),
    "events": (),
    "events -f": (),
    "models list --watch": (),
    "export": (),
    "status": (),
    "assert": ("qwen", "--min-healthy", "1"),
    "wait": ("qwen",),
}
WORKS = {
    "models register": (REFERENCE,),
    "models heartbeat": (REFERENCE,),
    "models heartbeat --every 1s": (REFERENCE,),
    "models deregister": (REFERENCE,),
}
OPERATES = {
    "models drain": (REFERENCE, "--force"),
    "models undrain": (REFERENCE,),
    "models prune": ("--older-than", "1d", "--yes"),
}
MAKES = "; ctl token create NAME --role ROLE makes one\n"


@pytest.fixture
def tokens(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str | None]]:
    """The tokens by what is wrong with them; a controller that enforces them is the one of every command."""
    path = tmp_path / "tokens.toml"

    def create(name: str, role: str, *options: str) -> str:
        done = run("token", "create", name, "--role", role, *options, "--tokens-file", str(path), "-o", "json")
        token: str = json.loads(done.out)["token"]
        return token

    made: dict[str, str | None] = {
        "none": None,
        "unknown": "dctl_" + "x" * 43,
        "reader": create("a-reader", "reader"),
        "worker": create("a-worker", "worker", "--models", "other*@llm"),
        "operator": create("an-operator", "operator"),
        "revoked": create("gone", "operator"),
    }
    run("token", "revoke", "gone", "--tokens-file", str(path))
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    with running_controller(registry, auth="enforce", tokens_file=str(path)) as url:
        monkeypatch.setenv("CONTROLLER_ADDRESS", url)
        yield made


def use(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    if token is None:
        monkeypatch.delenv("CTL_TOKEN", raising=False)
    else:
        monkeypatch.setenv("CTL_TOKEN", token)


def check(run: Run, verb: str, arguments: tuple[str, ...], says: str) -> None:
    done = run(*verb.split(), *arguments, expect=7)
    assert done.out == "", verb
    assert len(done.err.splitlines()) == 1, done.err
    assert "does not allow it: 40" in done.err
    assert says in done.err
    assert done.err.count("CTL_TOKEN") <= 1


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("none", "401 no token came with this request"),
        ("unknown", "401 the token is not known to this controller"),
        ("revoked", "401 token gone is revoked"),
    ],
)
def test_a_token_that_is_not_valid(
    run: Run, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, which: str, says: str
) -> None:
    use(monkeypatch, tokens[which])
    for verb, arguments in {**READS, **WORKS, **OPERATES}.items():
        check(run, verb, arguments, says)
        assert run(*verb.split(), *arguments, expect=7).err.endswith(MAKES)
    for verb in ("why qwen", "doctor"):
        report = run(*verb.split(), "--no-probe", expect=7)
        assert "no controller lets you in" in report.out
        assert says in report.out
    assert run("health").code == 0
    assert run("wait", "--controller", "--timeout", "5s").code == 0


def test_a_role_that_is_too_low(run: Run, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    for which, role, verbs, needed in (
        ("reader", "reader", WORKS, "worker"),
        ("reader", "reader", OPERATES, "operator"),
        ("worker", "worker", OPERATES, "operator"),
    ):
        use(monkeypatch, tokens[which])
        for verb, arguments in verbs.items():
            check(run, verb, arguments, f"403 token a-{which} has the role {role}, and this needs {needed}")


def test_a_scope_that_is_another_one(run: Run, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tokens["worker"])
    for verb, arguments in WORKS.items():
        check(run, verb, arguments, "403 token a-worker is for the models 'other*@llm', not for ")
    assert not run("models", "register", REFERENCE, expect=7).err.endswith(MAKES)


def test_with_a_readers_token_the_reports_are_whole(
    run: Run, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tokens["operator"])
    run("models", "register", REFERENCE)
    seen = {verb: run(*verb.split()) for verb in ("doctor --no-probe", "why qwen --no-probe", "models list -o name")}
    use(monkeypatch, tokens["reader"])
    for verb, done in seen.items():
        as_reader = run(*verb.split())
        assert (as_reader.out, as_reader.err) == (done.out, done.err)
    assert "qwen@llm" in run("status").out


def test_a_token_that_one_of_two_controllers_does_not_know(
    run: Run, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A new token reaches the controllers at different times: the call is served, and who refused it is named once."""
    use(monkeypatch, tokens["operator"])
    run("models", "register", REFERENCE)
    other = tmp_path / "other.toml"
    run("token", "create", "x", "--role", "reader", "--tokens-file", str(other))
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    good = os.environ["CONTROLLER_ADDRESS"]
    with running_controller(registry, auth="enforce", tokens_file=str(other)) as old:
        monkeypatch.setenv("CONTROLLER_ADDRESS", f"{old},{good}")
        done = run("models", "list", "-o", "name")
        assert done.out == "qwen@llm/10.0.0.4:8001\n"
        assert done.err.startswith(f"ctl: warning: {old}: 401 the token is not known to this controller")
        assert done.err.endswith("; another controller served the call\n")
        assert len(done.err.splitlines()) == 1
        assert run("models", "list", "-o", "name", "-q").err == ""
        report = run("doctor", "--no-probe", expect=1).out
        assert f"{old} does not let you in [not-allowed]" in report
        screen = run("status").out
        assert "unknown" in screen
        away = closed_port()
        monkeypatch.setenv("CONTROLLER_ADDRESS", f"{old},{away}")
        done = run("models", "list", expect=7)
        assert done.err.startswith(f"ctl: no controller serves it: {old}: 401 the token is not known")
        assert f"{away}: Connection refused" in done.err
        assert len(done.err.splitlines()) == 1


def aged(text: str) -> str:
    return re.sub(r"\d+s ago", "AGE", text)


def findings_of(done: Finished) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(aged(done.out))["findings"]
    return found


def test_a_worker_that_is_refused_is_not_reported_as_dead(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enforce mode begins while two workers have no token. One of them is behind an address of its own."""
    path, clock = tmp_path / "tokens.toml", ManualClock(datetime.now(UTC) - timedelta(seconds=200))
    made = run("token", "create", "me", "--role", "operator", "--tokens-file", str(path), "-o", "json")
    monkeypatch.setenv("CTL_TOKEN", json.loads(made.out)["token"])
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=timedelta(seconds=60))
    settings: dict[str, Any] = {"auth": "enforce", "tokens_file": str(path), "trusted_proxies": "127.0.0.1"}
    with running_controller(registry, **settings) as url:
        monkeypatch.setenv("CONTROLLER_ADDRESS", url)
        run("models", "register", REFERENCE, "qwen/gpu-7:8001")
        clock.advance(200)
        for source in ("10.0.0.4", "10.9.9.9"):
            answer = httpx.post(
                f"{url}/api/controller/heartbeat",
                content=b"the body is not read",
                headers={"X-Forwarded-For": source},
                trust_env=False,
            )
            assert answer.status_code == 401
        reported = findings_of(run("doctor", "--no-probe", "-o", "json", expect=1))
        findings = [finding for finding in reported if finding["code"] == "workers-refused"]
        assert [finding["evidence"] for finding in findings] == [
            ["qwen@llm/10.0.0.4:8001: 1 heartbeat from 10.0.0.4 was refused AGE: no token"],
            ["1 heartbeat from 10.9.9.9 was refused AGE: no token"],
        ]
        assert all("ctl auth status" in finding["fix"] for finding in findings)
        assert "prune" not in " ".join(finding["fix"] for finding in reported)
        assert findings == findings_of(run("why", "qwen", "--no-probe", "-o", "json"))[1:3]
        assert sum("[workers-refused]" in line for line in run("status").lines) == 2
        shown = run("models", "get", REFERENCE)
        assert "  refused          1 heartbeat from 10.0.0.4 was refused AGE: no token" in aged(shown.out).splitlines()
        assert "refused" not in run("models", "get", "qwen/gpu-7:8001").out
