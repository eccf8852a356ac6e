"""Hostile files: pipes that nobody writes to, files without an end, a disk that is full.

Before, the pipes kept a command waiting for ever, and /dev/zero as --env-file took 2.4 GB in six seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import httpx
import pytest

from dbgpt_ctl.cli.manifest.documents import MAX_BYTES, MAX_VALUES
from tests.support.measured import Measured, measured
from tests.support.memory import MB
from tests.support.ports import free_port
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.hostile.conftest import Serve, Served

LARGEST_BYTES = 150 * MB
LARGEST_MANIFEST_BYTES = 600 * MB
LONGEST_SECS = 20.0
"""Each command takes less than a second; one that waits takes for ever."""
WORKER = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe that nobody writes to."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def check_refused(done: Measured, code: int, words: str) -> None:
    """It ended with that code, in time, within its memory, and with one line that says why."""
    assert (done.code, done.out) == (code, ""), done
    lines = [line for line in done.err.splitlines() if words in line]
    assert len(lines) == 1, done.err
    assert "Traceback" not in done.err
    assert done.peak < LARGEST_BYTES
    assert done.seconds < LONGEST_SECS


# --- what is read unasked ---


def test_an_env_file_in_this_folder_that_is_a_pipe_ends_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".env")
    done = measured("serve", "--port", str(free_port()), cwd=tmp_path)
    check_refused(done, 2, ".env: cannot be read: it is a named pipe, not a regular file")


@pytest.mark.parametrize("args", [["context", "list"], ["models", "list", "--context", "prod"], ["models", "list"]])
def test_contexts_that_are_a_pipe_end_a_command(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "dbgpt-ctl").mkdir()
    os.mkfifo(tmp_path / "dbgpt-ctl" / "config.toml")
    done = measured(*args, env={"XDG_CONFIG_HOME": str(tmp_path)})
    check_refused(done, 2, "config.toml: cannot be read: it is a named pipe, not a regular file")


def test_tab_waits_for_no_pipe(tmp_path: Path, pipe: Path) -> None:
    """Neither in the place of the contexts, of ./.env, of the token file nor of the file that is named."""
    (tmp_path / "dbgpt-ctl").mkdir()
    contexts = tmp_path / "dbgpt-ctl" / "config.toml"
    env = {"XDG_CONFIG_HOME": str(tmp_path), "_CTL_COMPLETE": "complete_zsh", "CONTROLLER_ADDRESS": NOWHERE}
    os.mkfifo(tmp_path / ".env")
    tried = [measured("models", "get", "", env=env, cwd=tmp_path)]
    tried.append(measured("--env-file", str(pipe), "models", "get", "", env=env))
    os.mkfifo(contexts)
    tried += [measured("models", "get", "", env=env), measured("--context", "", env=env)]
    contexts.unlink()
    contexts.write_text(f'[context.prod]\naddress = "{NOWHERE}"\ntoken_file = "{pipe}"\n')
    tried.append(measured("--context", "prod", "models", "get", "", env=env))
    for done in tried:
        assert (done.code, done.out.strip(), done.err) == (0, "words", "")
        assert done.seconds < LONGEST_SECS


# --- what is named ---


def test_files_without_an_end_are_refused(tmp_path: Path) -> None:
    done = measured("models", "list", "--env-file", "/dev/zero")
    check_refused(done, 2, "/dev/zero: cannot be read: it is larger than 1 MiB")
    done = measured("apply", "-f", "/dev/zero", "-a", NOWHERE)
    check_refused(done, 2, "cannot read '/dev/zero': it is larger than 32 MiB")
    with Path("/dev/zero").open("rb") as zeros:
        done = measured("apply", "-f", "-", "-a", NOWHERE, stdin=zeros.fileno())
    check_refused(done, 2, "standard input is larger than 32 MiB")
    contexts = f'[context.prod]\naddress = "{NOWHERE}"\ntoken_file = "/dev/zero"\n'
    (tmp_path / "dbgpt-ctl").mkdir()
    (tmp_path / "dbgpt-ctl" / "config.toml").write_text(contexts)
    done = measured("models", "list", "--context", "prod", env={"XDG_CONFIG_HOME": str(tmp_path)})
    check_refused(done, 2, "token file /dev/zero: cannot be read: it is larger than 8 KiB")


LAUGHS = "\n".join(["a0: &a0 ha", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])
BOMBS = {
    "a billion laughs": (LAUGHS, "anchors and aliases are not accepted"),
    "deep in flow style": ("x: " + "[" * 2**21, "exceeded maximum nesting depth"),
    "deep in block style": ("\n".join(" " * depth + "- " for depth in range(2000)), "nested deeper than 8 levels"),
    "deep JSON": ("[" * 2**21, "nested deeper than 8 levels"),
    "keys of keys": ("? " * 2**20, "nested deeper than 8 levels"),
    "a long number": ("[" + "9" * 2**21 + "]", "1 mistake in"),
    "one long scalar": ("'" + "x" * 2**25, "larger than 32 MiB"),
}


@pytest.mark.parametrize(("text", "words"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_of_yaml_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(text)
    check_refused(measured("apply", "-f", str(file), "-a", NOWHERE), 2, words)


TINY = {
    "YAML in flow style": (b"instances: [", b"a,", b"]"),
    "YAML in block style": (b"instances:\n", b"-\n", b""),
    "JSON": (b'{"instances":[', b"0,", b"0]}"),
    "empty objects": (b'{"instances":[', b"{},", b"0]}"),
    "keys": (b"{", b'"":0,', b'"":0}'),
}


@pytest.mark.parametrize("values", [MAX_VALUES - 10, MAX_BYTES], ids=["allowed", "too many"])
@pytest.mark.parametrize(("head", "value", "end"), TINY.values(), ids=TINY)
def test_many_tiny_values_need_no_gigabytes(tmp_path: Path, head: bytes, value: bytes, end: bytes, values: int) -> None:
    """16 MiB of them took 2.6 GB and 45 s."""
    values = min(values // (2 if value == b"{}," else 1), (MAX_BYTES - len(head + end)) // len(value))
    file = tmp_path / "f.yaml"
    file.write_bytes(head + value * values + end)
    done = measured("apply", "-f", str(file), "-a", NOWHERE)
    assert done.code == 2, done
    assert "nothing was changed" in done.err or "is too large" in done.err
    assert done.peak < LARGEST_MANIFEST_BYTES


def test_as_many_instances_as_a_controller_keeps_can_be_applied(tmp_path: Path) -> None:
    """As `ctl export -o json` writes them. Nothing answers where they are sent."""
    entries = [
        {
            "model": f"qwen2.5-72b-instruct-{number % 300}@llm",
            "host": f"10.0.{number >> 8}.{number & 255}",
            "port": 8001,
        }
        for number in range(200_000)
    ]
    file = tmp_path / "f.json"
    file.write_text(json.dumps({"instances": entries}, indent=2))
    done = measured("apply", "-f", str(file), "-a", NOWHERE)
    assert "no controller answers" in done.err
    assert done.peak < LARGEST_MANIFEST_BYTES


def test_a_pipe_that_is_named_is_read(serve: Serve) -> None:
    """As in `--env-file <(...)` and `-f <(...)`."""
    controller = serve()
    reading, writing = os.pipe()
    os.write(writing, f"CONTROLLER_ADDRESS={controller.url}\n".encode())
    os.close(writing)
    manifest_reading, manifest_writing = os.pipe()
    os.write(manifest_writing, b"instances: [{model: qwen, host: 10.0.0.4, port: 8001}]")
    os.close(manifest_writing)
    pipes = [reading, manifest_reading]
    args = ["apply", "--env-file", f"/dev/fd/{reading}", "-f", f"/dev/fd/{manifest_reading}"]
    done = ctl(*args, pass_fds=pipes)
    for descriptor in pipes:
        os.close(descriptor)
    assert "qwen@llm/10.0.0.4:8001 created" in done.out


# --- a full disk ---


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A file system of half a megabyte at `folder`, and a function that fills it."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")

    def fill() -> None:
        with (folder / "filler").open("wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


DISKS = {
    "log file": ["--log-file", "{}/ctl.log", "--log-level", "debug"],
    "database": ["--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name", "{}/ctl.db"],
}


@pytest.mark.parametrize("args", DISKS.values(), ids=DISKS)
def test_a_full_disk_is_in_health_while_it_lasts(serve: Serve, tmp_path: Path, args: list[str]) -> None:
    """Lists are served all the time; health is 200 with the reason, and the log does not grow with each attempt."""
    disk = tmp_path / "disk"
    with small_disk(disk) as fill:
        controller = serve("--shutdown-grace-secs", "0", *(arg.format(disk) for arg in args))
        register(controller)
        wait_for_reason(controller, None)
        fill()
        wait_for_reason(controller, "full" if "sqlite" in args else "No space left on device", ports=count(1))
        assert httpx.get(f"{controller.url}/api/controller/models").status_code == httpx.codes.OK
        sleep(3)  # three more attempts of whatever is tried each second
        text = controller.process.log.read_text()
        assert "Traceback" not in text
        assert text.count("No space left on device") + text.count("disk is full") <= 2
        (disk / "filler").unlink()
        wait_for_reason(controller, None)
        assert controller.process.terminate() == 0


def register(controller: Served, *, port: int = 8001, wanted: bool = True) -> None:
    answer = httpx.post(f"{controller.url}/api/controller/models", json={**WORKER, "port": port}, timeout=10)
    assert answer.status_code == httpx.codes.OK or not wanted


def wait_for_reason(controller: Served, words: str | None, *, ports: Iterable[int] = ()) -> None:
    """Until health is 200 with the words in its reason, or without a reason. Meanwhile instances register at `ports`:
    the last page of a log file has room for some lines.
    """
    deadline, more = monotonic() + 30, iter(ports)
    while True:
        if (port := next(more, None)) is not None:
            register(controller, port=port, wanted=False)
        answer = controller.health()
        assert answer.status_code == httpx.codes.OK
        reason = answer.json().get("reason")
        if reason is None if words is None else reason is not None and words in reason:
            return
        assert monotonic() < deadline, reason
        sleep(0.1)
