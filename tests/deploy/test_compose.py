"""The compose file of deploy/compose: Docker Compose accepts it, and its services work together as it says."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from dbgpt_ctl import __version__
from dbgpt_ctl.controller.bootstrap import grace_secs
from dbgpt_ctl.controller.server import DRAIN_SECS
from dbgpt_ctl.settings.warnings import warnings_of
from tests.support.compose import ComposeError, configuration, container, secret_files, violations
from tests.support.container import CTL
from tests.support.database_server import private_server
from tests.support.deployed import changed, settings_of
from tests.support.documents import block_with
from tests.support.mariadb import MariaDBServer
from tests.support.pods import await_equal, status_of, warnings_in
from tests.support.private_network import in_private_network, missing_rights
from tests.support.process import ROOT
from tests.support.shell_blocks import run_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose" / "compose.yaml"
DEPLOYING = ROOT / "docs" / "deploying.md"
CONTROLLERS = {"ctl-1": "10.1.2.3", "ctl-2": "10.1.2.4"}
GROUP = 10001


@pytest.fixture(scope="module")
def docker_compose(program: Callable[[str], str]) -> str:
    return program("docker-compose")


@pytest.fixture(scope="module")
def project(docker_compose: str) -> dict[str, Any]:
    return configuration(docker_compose, FILE)


@pytest.fixture
def prepared(docker_compose: str, tmp_path: Path) -> tuple[dict[str, Any], str]:
    """The project with the files that the commands of the documentation make, and what these commands print."""
    if missing := missing_rights():
        pytest.skip(missing)
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    printed = run_block(block_with(DEPLOYING, "mkdir -p secrets/tokens"), tmp_path, {"sudo": 'exec "$@"'})
    return configuration(docker_compose, tmp_path / "deploy" / "compose" / "compose.yaml"), printed


def test_docker_compose_accepts_it(project: dict[str, Any]) -> None:
    assert sorted(project["services"]) == ["ctl-1", "ctl-2", "mariadb", "prometheus"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("services/ctl-1/stop_grace_secs", 30),
        ("services/ctl-1/secrets", ["no-such-secret"]),
        ("services/prometheus/depends_on", ["ctl-3"]),
        ("services/mariadb/healthcheck/interval", "often"),
        ("services/ctl-2/networks", ["nowhere"]),
    ],
)
def test_a_wrong_file_is_refused(docker_compose: str, tmp_path: Path, path: str, value: Any) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(yaml.safe_dump(changed(yaml.safe_load(FILE.read_text()), path, value)))
    with pytest.raises(ComposeError):
        configuration(docker_compose, file)


@pytest.mark.parametrize("name", ["ctl-1", "ctl-2", "mariadb", "prometheus"])
def test_a_service_may_do_what_it_needs_only(project: dict[str, Any], name: str) -> None:
    assert violations(project["services"][name]) == []


@pytest.mark.parametrize(
    ("key", "value", "violation"),
    [
        ("image", "dbgpt-ctl:latest", "image without a full version"),
        ("image", "mariadb:11.8", "image without a full version"),
        ("user", "root", "user is root or not known"),
        ("user", "0:0", "user is root or not known"),
        ("read_only", False, "root can be written"),
        ("cap_add", ["NET_RAW"], "capabilities"),
        ("security_opt", [], "new privileges"),
        ("privileged", True, "privileged"),
        ("network_mode", "host", "network_mode"),
        ("ports", [{"target": 8000, "published": "8000"}], "a port is open to other machines"),
        ("volumes", [{"type": "bind", "source": "/", "target": "/host"}], "a folder of the machine can be written"),
        ("mem_limit", None, "no mem_limit"),
        ("logging", None, "no logging"),
    ],
)
def test_a_service_that_may_more_is_noticed(project: dict[str, Any], key: str, value: Any, violation: str) -> None:
    assert violations(project["services"]["ctl-1"] | {key: value}) == [violation]


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_is_that_of_this_release_and_has_the_time_to_leave(project: dict[str, Any], name: str) -> None:
    service = project["services"][name]
    assert service["image"] == f"dbgpt-ctl:{__version__}"
    assert service["build"]["args"] == {"VERSION": __version__}
    assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file()
    settings = settings_of(service["environment"])
    assert warnings_of(settings) == []
    assert service["stop_grace_period"] == "30s"
    assert grace_secs(settings) > 0
    assert grace_secs(settings) + DRAIN_SECS + 1 < 30


def test_a_controller_waits_for_the_database(project: dict[str, Any]) -> None:
    services = project["services"]
    assert services["mariadb"]["healthcheck"]["test"] == ["CMD", "healthcheck.sh", "--connect", "--innodb_initialized"]
    assert [services[name]["depends_on"]["mariadb"]["condition"] for name in CONTROLLERS] == ["service_healthy"] * 2
    assert project["networks"]["database"]["internal"] is True
    assert list(services["mariadb"]["networks"]) == ["database"]


def test_what_has_no_password_is_in_no_network_of_workers(project: dict[str, Any]) -> None:
    services = project["services"]
    assert list(services["prometheus"]["networks"]) == ["monitoring"]
    in_cluster = [name for name, service in services.items() if "cluster" in service["networks"]]
    assert in_cluster == list(CONTROLLERS)
    assert all("monitoring" in services[name]["networks"] for name in CONTROLLERS)


def test_the_database_makes_the_user_that_the_controllers_are(project: dict[str, Any]) -> None:
    database, controller = (project["services"][name]["environment"] for name in ("mariadb", "ctl-1"))
    assert database["MARIADB_USER"] == controller["CONTROLLER_REGISTRY_DB_USER"]
    assert database["MARIADB_DATABASE"] == controller["CONTROLLER_REGISTRY_DB_NAME"]
    assert database["MARIADB_PASSWORD_FILE"] == controller["CONTROLLER_REGISTRY_DB_PASSWORD_FILE"]
    assert controller["CONTROLLER_REGISTRY_DB_HOST"] == "mariadb"


def test_the_commands_of_the_documentation_make_each_file(prepared: tuple[dict[str, Any], str]) -> None:
    """With the owner and the mode that let the containers read them, and nobody else."""
    project, _ = prepared
    binds = [volume for each in project["services"].values() for volume in each.get("volumes", [])]
    folders = {Path(volume["source"]) for volume in binds if volume["type"] == "bind"}
    assert all(folder.is_dir() for folder in folders)
    secrets = FILE.parent.name + "/secrets"
    made = [*secret_files(project).values(), *(path / "tokens.toml" for path in folders if secrets in str(path))]
    assert len(made) == 4
    for file in made:
        status = file.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, GROUP, 0o640), file
    assert "deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_services_work_together(
    program: Callable[[str], str], prepared: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    """Real processes with the users, settings, files and names of the compose file: the tokens of the documentation
    are enforced, what one controller learns the other one tells, and Prometheus reads both and loads the alerts.
    """
    for needed in ("bwrap", "mariadbd"):
        program(needed)
    prometheus = program("prometheus")
    project, printed = prepared
    tokens = dict(zip(("workers", "api-servers", "alice"), re.findall("^dctl_.*", printed, re.MULTILINE), strict=True))
    volumes = tmp_path / "volumes"
    (volumes / "prometheus").mkdir(parents=True)
    os.chown(volumes / "prometheus", *map(int, project["services"]["prometheus"]["user"].split(":")))

    def they_work_together() -> None:
        with ExitStack() as stack:
            stack.enter_context(_database(project))
            logs = {}
            for name in (*CONTROLLERS, "prometheus"):
                command = [prometheus] if name == "prometheus" else CTL
                service = container(project, name, command, {"mariadb": "127.0.0.1", **CONTROLLERS}, volumes)
                if name in CONTROLLERS:  # one machine has all containers here, and each its own address
                    service = replace(
                        service, environment={**service.environment, "CONTROLLER_HOST": CONTROLLERS[name]}
                    )
                (tmp_path / name).mkdir()
                logs[name] = stack.enter_context(service.running(tmp_path / name))
            _controllers_serve(tokens)
            _prometheus_reads_them()
            check = project["services"]["prometheus"]["healthcheck"]["test"][1:]
            assert subprocess.run([program(check[0]), *check[1:]], check=False).returncode == 0
            assert [line for name in CONTROLLERS for line in warnings_in(logs[name])] == []

    in_private_network(they_work_together, list(CONTROLLERS.values()))


@contextmanager
def _database(project: dict[str, Any]) -> Iterator[None]:
    """A MariaDB with what the image makes of its environment."""
    environment = project["services"]["mariadb"]["environment"]
    files = {f"/run/secrets/{name}": file for name, file in secret_files(project).items()}
    password = files[environment["MARIADB_PASSWORD_FILE"]].read_text().strip()
    with private_server(MariaDBServer, port=3306, user=environment["MARIADB_USER"], password=password) as database:
        database.execute(f"CREATE DATABASE {environment['MARIADB_DATABASE']}")
        yield


def _controllers_serve(tokens: dict[str, str]) -> None:
    first, second = CONTROLLERS.values()
    for address in CONTROLLERS.values():
        await_equal(200, partial(status_of, address, 8000, "/readyz", {}))
        assert status_of(address, 8000, "/api/controller/models", {}) == 401
    instance = {"model_name": "qwen3@llm", "host": "10.0.0.4", "port": 8001}
    path = "/api/controller/models"
    assert _call(first, "POST", path, tokens["api-servers"], instance)[0] == 403
    assert _call(first, "POST", path, tokens["workers"], instance) == (200, True)
    status, listed = _call(second, "GET", f"{path}?model_name=qwen3@llm", tokens["api-servers"])
    assert (status, [each["host"] for each in listed]) == (200, ["10.0.0.4"])


def _prometheus_reads_them() -> None:
    def scraped() -> list[str]:
        status, answer = _call("127.0.0.1", "GET", "/api/v1/query?query=up", port=9090)
        series = answer["data"]["result"] if status == 200 else []
        return sorted(each["metric"]["instance"] for each in series if each["value"][1] == "1")

    await_equal([f"{name}:8000" for name in CONTROLLERS], scraped)
    _, rules = _call("127.0.0.1", "GET", "/api/v1/rules?type=alert", port=9090)
    names = {rule["name"] for group in rules["data"]["groups"] for rule in group["rules"]}
    assert {"DbgptControllerDown", "DbgptModelWithoutInstances"} <= names


def _call(
    address: str, method: str, path: str, token: str = "", body: object = None, *, port: int = 8000
) -> tuple[int, Any]:
    """The status and the JSON of an answer; 0 and None without one."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(
            method, f"http://{address}:{port}{path}", headers=headers, json=body, timeout=10, trust_env=False
        )
    except httpx.TransportError:
        return 0, None
    return answer.status_code, answer.json()
