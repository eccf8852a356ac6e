"""deploy/systemd: the unit, as systemd-analyze sees it, and its commands in a sandbox like the one of systemd."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.container import stored_hosts
from tests.support.containerfile import writable_root
from tests.support.dbgpt_process import until
from tests.support.documents import block_with
from tests.support.image import build_mounts
from tests.support.packages import NOT_SOURCE, run
from tests.support.ports import free_port
from tests.support.process import ROOT
from tests.support.systemd_sandbox import DYNAMIC_UID, Sandbox
from tests.support.unit_file import UnitFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.container import Started
    from tests.support.database_server import PrivateDatabase
    from tests.support.image import Image

GUIDE = ROOT / "docs" / "deploying.md"
UPGRADING = ROOT / "docs" / "upgrading.md"
pytestmark = pytest.mark.timeout(900)
"""The first test that needs the image waits for it."""

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "ctl.service"
DATABASE = FOLDER / "database.conf"
HIGHEST_EXPOSURE = 20
"""Tenths: 2.0 on the scale from 0 to 10."""
START_SECS = 60
INSTANCE = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


def verified(program: Callable[[str], str], unit: Path) -> str:
    """What systemd-analyze verify finds wrong, as if the package were installed."""
    unit.write_text(unit.read_text().replace("/opt/ctl/bin/ctl", sys.executable))
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr + (f"exit {done.returncode}" if done.returncode else "")


def exposed(program: Callable[[str], str], unit: Path) -> subprocess.CompletedProcess[str]:
    threshold = f"--threshold={HIGHEST_EXPOSURE}"
    command = [program("systemd-analyze"), "security", "--offline=yes", threshold, "--no-pager", str(unit)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def changed(folder: Path, old: str, new: str) -> Path:
    """A copy of the unit with a difference."""
    assert old in UNIT.read_text()
    copy = folder / UNIT.name
    copy.write_text(UNIT.read_text().replace(old, new))
    return copy


def test_systemd_understands_the_unit(program: Callable[[str], str], tmp_path: Path) -> None:
    assert verified(program, changed(tmp_path, "", "")) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [("DynamicUser=", "DynamicUsers="), ("TimeoutStopSec=30", "TimeoutStopSec=half"), ("ExecStart=", "#ExecStart=")],
)
def test_a_wrong_unit_is_refused(program: Callable[[str], str], tmp_path: Path, old: str, new: str) -> None:
    assert UNIT.name in verified(program, changed(tmp_path, old, new))


def test_the_unit_is_little_exposed(
    program: Callable[[str], str], record_property: Callable[[str, object], None]
) -> None:
    done = exposed(program, UNIT)
    assert done.returncode == 0, done.stdout
    record_property("figure", done.stdout.splitlines()[-1])


def test_a_unit_that_is_exposed_is_refused(program: Callable[[str], str], tmp_path: Path) -> None:
    open_unit = changed(tmp_path, "", "")
    lines = UNIT.read_text().splitlines(keepends=True)
    open_unit.write_text("".join(line for line in lines if not line.startswith(("Protect", "SystemCall", "Private"))))
    assert exposed(program, open_unit).returncode != 0


@pytest.fixture
def machine(image: Image, tmp_path: Path) -> Iterator[Path]:
    """A Debian with the package in /opt/ctl, to change as a test likes."""
    root = tmp_path / "machine"
    run(["cp", "--archive", str(image.root), str(root)])  # there are devices in it
    yield root
    shutil.rmtree(root)


@contextmanager
def started(sandbox: Sandbox, folder: Path, **environment: str) -> Iterator[Started]:
    """The unit from the start on: ExecStartPre, ExecStart, and the message that completes the start."""
    sandbox.load_credentials()
    check = sandbox.container(*sandbox.unit.command("ExecStartPre"), environment=environment).run(folder)
    assert (check.returncode, "all checks passed" in check.stdout) == (0, True), check.stdout
    address = sandbox.folder / "notify" / "notify"
    address.unlink(missing_ok=True)  # of the start before
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(os.path.relpath(address))  # the length of an address is limited
        address.chmod(0o666)
        notify.settimeout(START_SECS)
        command = sandbox.unit.command("ExecStart")
        with sandbox.container(*command, environment=environment).started(folder) as service:
            assert notify.recv(64).startswith(b"READY=1"), service.log.read_text()
            yield service


def stop(sandbox: Sandbox, service: Started) -> None:
    """Stops it as systemd does. Fails when that takes longer than the unit allows."""
    service.send(signal.SIGTERM)
    assert service.bubblewrap.wait(float(sandbox.unit.last("TimeoutStopSec"))) == 0, service.log.read_text()


def sandboxed(folder: Path, machine: Path, *unit: Path, uid: int = DYNAMIC_UID) -> Sandbox:
    (folder / "sandbox").mkdir()
    return Sandbox.make(folder / "sandbox", machine, *unit, uid=uid)


def test_the_unit_serves_keeps_its_instances_and_stops_in_time(image: Image, tmp_path: Path) -> None:
    sandbox, port = sandboxed(tmp_path, image.root, UNIT), str(free_port())
    url = f"http://127.0.0.1:{port}"
    with started(sandbox, tmp_path, CONTROLLER_PORT=port) as service:
        assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        assert "dbgpt_controller" in httpx.get(f"{url}/metrics", trust_env=False).text
        assert httpx.post(f"{url}/api/controller/models", json=INSTANCE, trust_env=False).json() is True
        stop(sandbox, service)
    assert stored_hosts(sandbox.folder / "state" / "ctl.db") == ["10.0.0.4"]


def test_the_unit_serves_from_a_database_with_a_credential(
    machine: Path, tmp_path: Path, mariadb: PrivateDatabase
) -> None:
    server, port = mariadb.server, str(free_port())
    drop_in = tmp_path / DATABASE.name
    drop_in.write_text(DATABASE.read_text().replace("db1.example", f"{server.host}:{server.port}"))
    sandbox = sandboxed(tmp_path, machine, UNIT, drop_in)
    password = sandbox.configuration / "database-password"
    password.write_text(f"{server.password}\n")
    password.chmod(0o600)
    environment = {
        "CONTROLLER_PORT": port,
        "CONTROLLER_REGISTRY_DB_NAME": mariadb.name,
        "CONTROLLER_REGISTRY_DB_USER": server.user,
    }
    with started(sandbox, tmp_path, **environment) as service:
        url = f"http://127.0.0.1:{port}"
        until("the database", lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200)
        assert httpx.post(f"{url}/api/controller/models", json=INSTANCE, trust_env=False).json() is True
        stop(sandbox, service)
        assert "leaving" in service.log.read_text()
    assert not list((sandbox.folder / "state").iterdir())


def test_a_start_without_the_database_is_not_kept_back(image: Image, tmp_path: Path) -> None:
    """Its check fails with the code 3, which the unit disregards. The controller starts and waits for the database."""
    sandbox = sandboxed(tmp_path, image.root, UNIT)
    environment = {
        "CONTROLLER_PORT": str(free_port()),
        "CONTROLLER_REGISTRY_TYPE": "database",
        "CONTROLLER_REGISTRY_DB_TYPE": "mysql",
        "CONTROLLER_REGISTRY_DB_HOST": f"127.0.0.1:{free_port()}",
        "CONTROLLER_REGISTRY_DB_USER": "ctl",
        "CONTROLLER_REGISTRY_DB_PASSWORD": "wrong",
    }
    assert sandbox.unit.last("ExecStartPre").startswith("-")
    check = sandbox.container(*sandbox.unit.command("ExecStartPre"), environment=environment).run(tmp_path)
    assert check.returncode == 3, check.stdout
    with sandbox.container(*sandbox.unit.command("ExecStart"), environment=environment).started(tmp_path) as service:
        url = f"http://127.0.0.1:{environment['CONTROLLER_PORT']}/livez"
        until("the controller", lambda: "listening on" in service.log.read_text())
        assert httpx.get(url, trust_env=False).status_code == 200


def test_a_wrong_setting_ends_the_start_with_the_code_that_prevents_a_restart(image: Image, tmp_path: Path) -> None:
    sandbox = sandboxed(tmp_path, image.root, UNIT)
    command = sandbox.unit.command("ExecStart")
    done = sandbox.container(*command, environment={"CONTROLLER_PORT": "no-port"}).run(tmp_path)
    assert str(done.returncode) in sandbox.unit.words("RestartPreventExitStatus"), done.stdout


def test_the_commands_of_the_documentation_make_a_controller_with_tokens(
    image: Image, machine: Path, tmp_path: Path
) -> None:
    """They install this checkout anew, and the tokens file is one that the user of the unit can read. Those of an
    upgrade install a release beside it, and the link decides which one the unit runs.
    """
    shutil.copytree(ROOT, machine / "source", ignore=NOT_SOURCE)
    commands = block_with(GUIDE, "systemctl enable --now ctl").text
    printed = typed(f"userdel ctl\nrm -r /opt/ctl\n{commands}", machine, tmp_path)
    assert printed.splitlines()[-2:] == ["systemctl daemon-reload", "systemctl enable --now ctl"]
    worker, _, operator = (line for line in printed.splitlines() if line.startswith("dctl_"))
    users = {line.split(":")[0]: int(line.split(":")[2]) for line in (machine / "etc/passwd").read_text().splitlines()}
    sandbox = sandboxed(tmp_path, machine, machine / "etc/systemd/system/ctl.service", uid=users["ctl"])
    port = str(free_port())
    with started(sandbox, tmp_path, CONTROLLER_HOST="127.0.0.1", CONTROLLER_PORT=port) as service:
        assert "warning" not in service.log.read_text().lower()
        models = f"http://127.0.0.1:{port}/api/controller/models"
        assert httpx.post(models, json=INSTANCE, trust_env=False).status_code == 401
        assert httpx.post(models, json=INSTANCE, auth=("workers", worker), trust_env=False).json() is True
        stop(sandbox, service)
    installs_beside(machine, tmp_path)
    for version in ("0.2.0", "0.1.0"):
        assert typed(f"{link_to(version)}\n/opt/ctl/bin/ctl version", machine, tmp_path) == f"ctl {version}\n"
        with started(sandbox, tmp_path, CONTROLLER_HOST="127.0.0.1", CONTROLLER_PORT=port) as service:
            url = f"http://127.0.0.1:{port}/api/v1/status"
            status = httpx.get(url, auth=("alice", operator), trust_env=False).json()
            assert status["controller"]["version"] == version
            stop(sandbox, service)


def installs_beside(machine: Path, folder: Path) -> None:
    """Installs a release that calls itself 0.2.0, which changes nothing of the one that runs."""
    file = machine / "source" / "dbgpt_ctl" / "__init__.py"
    file.write_text(file.read_text().replace('__version__ = "0.1.0"', '__version__ = "0.2.0"'))
    assert "all checks passed" in typed(block_with(UPGRADING, "pip install").text, machine, folder)
    assert typed("/opt/ctl/bin/ctl version", machine, folder) == "ctl 0.1.0\n"


def link_to(version: str) -> str:
    """The line of the page that changes the release."""
    (line,) = {line for line in UPGRADING.read_text().splitlines() if f" ln -sfT /opt/ctl-{version} " in line}
    return line.removeprefix("$ ")


def typed(commands: str, machine: Path, folder: Path) -> str:
    """What the commands print to root of the machine, in /source. systemctl only prints its arguments there."""
    stand_ins = folder / "stand-ins"
    stand_ins.mkdir(exist_ok=True)
    for name, script in {"sudo": 'exec "$@"', "systemctl": 'echo systemctl "$@"'}.items():
        (stand_ins / name).write_text(f"#!/bin/sh\n{script}\n")
        (stand_ins / name).chmod(0o755)
    arguments = writable_root(machine, build_mounts(folder) | {"/usr/local/bin": str(stand_ins)})
    path = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    arguments += ["--setenv", "PATH", path, "--chdir", "/source", "sh", "-eu", "-c"]
    return run([*arguments, commands])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/opt/ctl/file', 'w')", "Read-only file system"),
        ("open('/etc/ctl/file', 'w')", "Read-only file system"),
        ("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)", "Operation not permitted"),
        ("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "Operation not permitted"),
        ("import os; os.chown('/var/lib/ctl', 0, 0)", "Operation not permitted"),
    ],
)
def test_the_sandbox_refuses_what_the_unit_forbids(image: Image, tmp_path: Path, code: str, error: str) -> None:
    sandbox = sandboxed(tmp_path, image.root, UNIT)
    done = sandbox.container("python3", "-c", code).run(tmp_path)
    assert (done.returncode, error in done.stdout) == (1, True), done.stdout


def test_the_unit_waits_longer_than_a_controller_takes_to_leave() -> None:
    from dbgpt_ctl.controller.bootstrap import DATABASE_GRACE_SECS
    from dbgpt_ctl.controller.server import DRAIN_SECS

    assert float(UnitFile.read(UNIT).last("TimeoutStopSec")) > DATABASE_GRACE_SECS + DRAIN_SECS
