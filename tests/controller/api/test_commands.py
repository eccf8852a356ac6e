"""The commands for one instance: any shell passes them to `ctl` as they are meant, whatever the names are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.api.commands import commands_of
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.domain.references import parse_model, parse_reference
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.process import CTL, environment
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAIN = InstanceKey("qwen3@llm", "10.0.0.4", 8001)
POISON = [
    PLAIN,
    InstanceKey('it\'s $(touch X) `touch X` "q"; touch X; # !! ~ * {a,b}@llm', "127.0.0.1", 1),
    InstanceKey("\\'; touch X; b\\'@llm", "127.0.0.1", 2),
    InstanceKey("-x --help@llm", "127.0.0.1", 3),
    InstanceKey("a\\x0ab\\'(touch X)$PATH@llm", "127.0.0.1", 4),
    InstanceKey("http://a/b:1/c@llm", "[::1]", 5),
    InstanceKey("é模型 %s ^a &@llm", "127.0.0.1", 6),
]
INVISIBLE = InstanceKey("a\n\u202e\u200b\x1b[31m'@llm", "127.0.0.1", 7)
"""No controller registers it, but an older one may have stored it."""
SHELLS = ["sh", "bash", "zsh", "fish"]


@pytest.fixture(scope="module")
def controller() -> Iterator[str]:
    with running_controller(EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(hours=1))) as url:
        yield url


def fields(key: InstanceKey) -> dict[str, Any]:
    return key._asdict()


def commands(url: str, key: InstanceKey) -> list[dict[str, str]]:
    reply = httpx.get(f"{url}/api/v1/commands", params=fields(key), trust_env=False)
    assert reply.status_code == 200
    found: list[dict[str, str]] = reply.json()["commands"]
    return found


def test_each_command_says_what_it_does(controller: str) -> None:
    httpx.post(f"{controller}/api/controller/models", json=fields(PLAIN), trust_env=False)
    ref = "qwen3@llm/10.0.0.4:8001"
    assert [each["command"] for each in commands(controller, PLAIN)] == [
        f"ctl -a {controller} models get {ref}",
        f"ctl -a {controller} models ping {ref}",
        f"ctl -a {controller} models drain {ref} --reason maintenance --for 1h",
        f"ctl -a {controller} models undrain {ref}",
        f"ctl -a {controller} events {ref}",
        f"ctl -a {controller} why qwen3@llm",
    ]
    assert all(each["does"].endswith(".") for each in commands(controller, PLAIN))


def test_an_unknown_instance_has_none(controller: str) -> None:
    unknown = fields(PLAIN._replace(model_name="none@llm"))
    asked = [
        httpx.get(f"{controller}/api/v1/{noun}", params=unknown, trust_env=False) for noun in ("instance", "commands")
    ]
    assert [each.status_code for each in asked] == [404, 404]
    assert asked[0].json() == asked[1].json()
    assert httpx.get(f"{controller}/api/v1/commands", trust_env=False).status_code == 422


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("key", POISON, ids=lambda key: str(key.port))
def test_a_shell_passes_each_word_on_as_it_is(key: InstanceKey, shell: str, tmp_path: Path) -> None:
    """`ctl` reads the words back as exactly this instance and this model."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    recorder = tmp_path / "ctl"
    recorder.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    recorder.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    read: list[InstanceKey | str] = []
    for command, _ in commands_of(key, "http://it's.$(touch X)"):
        done = subprocess.run([shell, "-c", command], cwd=tmp_path, env=env, capture_output=True, check=True)
        words = done.stdout.decode().split("\0")[:-1]
        assert words[:2] == ["-a", "http://it's.$(touch X)"]
        target = words[3] if words[2] in {"events", "why"} else words[4]
        read.append(parse_model(target, None) if words[2] == "why" else parse_reference(target))
    assert read == [key] * 5 + [key.model_name]
    assert sorted(path.name for path in tmp_path.iterdir()) in (["ctl"], [".cache", ".config", ".local", "ctl"])


@pytest.mark.parametrize("key", [*POISON, INVISIBLE], ids=lambda key: str(key.port))
def test_a_command_is_one_line_that_hides_nothing(key: InstanceKey) -> None:
    for command, _ in commands_of(key, "http://localhost"):
        assert command.isprintable()
        assert "\u200b" not in command


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("key", POISON, ids=lambda key: str(key.port))
def test_a_shell_runs_each_command_at_the_controller(
    controller: str, key: InstanceKey, shell: str, tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    program = tmp_path / "ctl"
    program.write_text(f'#!/bin/sh\nexec {CTL[0]} -m dbgpt_ctl "$@"\n')
    program.chmod(0o755)
    for port in (key.port, key.port + 9000):  # a drain of the only instance of a model is refused
        sent = fields(key._replace(port=port))
        assert httpx.post(f"{controller}/api/controller/models", json=sent, trust_env=False).json() is True
    env = environment({"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}) | {
        "XDG_CONFIG_HOME": str(tmp_path)
    }
    get, _, drain, undrain, events, why = (each["command"] for each in commands(controller, key))
    script = " && ".join([drain, f"{get} -o json >facts", undrain, f"{events} -o json >events", f"{why} --no-probe"])
    done = subprocess.run([shell, "-c", script], cwd=tmp_path, env=env, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done
    assert '"reason": "maintenance"' in (tmp_path / "facts").read_text()
    seen = json.loads((tmp_path / "events").read_text())
    assert [each["verb"] for each in seen[-2:]] == ["drain", "undrain"]
    assert {(each["model_name"], each["host"], each["port"]) for each in seen} == {tuple(key)}
    assert not (tmp_path / "X").exists()
