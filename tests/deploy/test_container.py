"""deploy/container: the image, built and run as its user, with a root that nobody can write."""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl import __version__
from tests.support.container import stored_hosts
from tests.support.dbgpt_process import until
from tests.support.documents import block_with
from tests.support.image_container import DockerRun
from tests.support.private_network import in_private_network
from tests.support.process import ROOT
from tests.support.shell_blocks import run_block
from tests.support.tls import authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.image import Image

pytestmark = pytest.mark.timeout(900)
"""The first test that needs the image waits for it."""

CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"
GUIDE = ROOT / "docs" / "deploying.md"
URL = "http://127.0.0.1:8000"
INSTANCE = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
_RECORD = 'for word; do echo "$word"; done > docker-words'
_PLAIN = ["--read-only", "--tmpfs=/tmp", "--volume=state:/var/lib/ctl", "dbgpt-ctl"]


def in_a_network_of_its_own(test: Callable[..., None]) -> Callable[..., None]:
    """The image listens on all addresses and at its default port: no other machine may reach that in a test."""

    @wraps(test)
    def isolated(**arguments: Any) -> None:
        in_private_network(partial(test, **arguments), [])

    return isolated


@pytest.fixture
def documented(tmp_path: Path, image: Image) -> tuple[DockerRun, str]:
    """The container that docs/deploying.md starts, once its commands have made its files, and a worker's token."""
    printed = run_block(block_with(GUIDE, "docker run --detach"), tmp_path, {"docker": _RECORD, "sudo": 'exec "$@"'})
    verb, *words = (tmp_path / "docker-words").read_text().splitlines()
    assert verb == "run"
    token = next(line for line in printed.splitlines() if line.startswith("dctl_"))
    return DockerRun(words, tmp_path), token


def test_hadolint_finds_nothing(program: Callable[[str], str]) -> None:
    subprocess.run([program("hadolint"), str(CONTAINERFILE)], check=True)


def test_hadolint_refuses_a_wrong_containerfile(program: Callable[[str], str], tmp_path: Path) -> None:
    wrong = tmp_path / "Containerfile"
    wrong.write_text(CONTAINERFILE.read_text().replace("WORKDIR /source", "WORKDIR source"))
    done = subprocess.run([program("hadolint"), str(wrong)], capture_output=True, text=True, check=False)
    assert (done.returncode, "DL3000" in done.stdout) == (1, True)


def test_the_image_says_how_it_runs(image: Image, record_property: Callable[[str, object], None]) -> None:
    record_property("figure", f"the image was built {image.way}")
    assert (image.uid, image.gid) == (10001, 10001)
    assert image.entrypoint + image.config["Cmd"] == ["ctl", "serve"]
    assert image.config["StopSignal"] == "SIGTERM"
    assert image.config["Labels"]["org.opencontainers.image.version"] == __version__


def test_the_image_holds_the_package_and_no_tools_of_the_build(image: Image, tmp_path: Path) -> None:
    run = DockerRun(_PLAIN, tmp_path)
    assert run.container(image, "ctl", "version").run(tmp_path).stdout.startswith(f"ctl {__version__}")
    for path in ("opt/ctl/bin/pip", "etc/pip.conf", "source", "wheels", "build"):
        assert not (image.root / path).exists()
    compiled = run.container(image, "python", "-c", "import dbgpt_ctl.errors as e; print(e.__cached__)").run(tmp_path)
    assert (image.root / compiled.stdout.strip().lstrip("/")).exists()


def test_without_tokens_it_does_not_start(image: Image, tmp_path: Path) -> None:
    done = DockerRun(_PLAIN, tmp_path).container(image).run(tmp_path)
    assert (done.returncode, done.stdout.count("\n")) == (2, 1), done.stdout
    assert "tokens" in done.stdout


@in_a_network_of_its_own
def test_it_serves_is_healthy_and_ends_in_time(image: Image, tmp_path: Path, documented: tuple[DockerRun, str]) -> None:
    run, token = documented
    check = run.container(image, *image.health_check)
    assert (run.given.image, run.given.read_only) == (f"dbgpt-ctl:{__version__}", True)
    before = check.run(tmp_path)
    assert (before.returncode, before.stdout) == (1, f"{URL}/livez: Connection refused\n")
    with run.container(image).started(tmp_path) as started:
        until("the health check", lambda: check.run(tmp_path).returncode == 0)
        assert httpx.get(f"{URL}/livez", trust_env=False).status_code == 200
        models = f"{URL}/api/controller/models"
        assert httpx.post(models, json=INSTANCE, trust_env=False).status_code == 401
        assert httpx.post(models, json=INSTANCE, auth=("workers", token), trust_env=False).json() is True
        started.send(signal.SIGTERM)
        assert started.bubblewrap.wait(run.given.stop_timeout) == 0, started.log.read_text()
    assert stored_hosts(tmp_path / "ctl-state" / "ctl.db") == ["10.0.0.4"]
    after = check.run(tmp_path)
    assert (after.returncode, after.stdout) == (1, f"{URL}/livez: Connection refused\n")


@in_a_network_of_its_own
def test_its_health_check_knows_other_ports_and_a_controller_that_only_speaks_tls(
    image: Image, tmp_path: Path, documented: tuple[DockerRun, str]
) -> None:
    certificate = authority(tmp_path / "tls")
    for file in (certificate.cert, certificate.key):
        (tmp_path / "secrets" / file.name).write_bytes(file.read_bytes())
        (tmp_path / "secrets" / file.name).chmod(0o400)
        os.chown(tmp_path / "secrets" / file.name, image.uid, image.gid)
    settings = {
        "CONTROLLER_TLS_CERT": f"/run/secrets/{certificate.cert.name}",
        "CONTROLLER_TLS_KEY": f"/run/secrets/{certificate.key.name}",
        "CONTROLLER_TLS_PORT": "8444",
        "CONTROLLER_NO_HTTP": "true",
    }
    run = DockerRun([*(f"--env={name}={value}" for name, value in settings.items()), *documented[0].words], tmp_path)
    check = run.container(image, *image.health_check)
    assert (check.run(tmp_path).returncode, check.run(tmp_path).stdout.partition(": ")[0]) == (
        1,
        "https://127.0.0.1:8444/livez",
    )
    with run.container(image).started(tmp_path):
        until("the health check", lambda: check.run(tmp_path).returncode == 0)


def test_it_writes_nowhere_else(image: Image, tmp_path: Path) -> None:
    folders = "/ /etc /opt/ctl /run /home /var/lib /var/lib/ctl /tmp"
    script = f"for folder in {folders}; do touch $folder/file && echo $folder; done"
    done = DockerRun(_PLAIN, tmp_path).container(image, "sh", "-c", script).run(tmp_path)
    assert [line for line in done.stdout.splitlines() if line.startswith("/")] == ["/var/lib/ctl", "/tmp"]
    assert done.stdout.count("Read-only file system") == 6


def test_it_has_no_capabilities(image: Image, tmp_path: Path) -> None:
    status = DockerRun(_PLAIN, tmp_path).container(image, "grep", "^Cap", "/proc/self/status").run(tmp_path).stdout
    assert [line.split()[1] for line in status.splitlines()] == ["0" * 16] * 5
