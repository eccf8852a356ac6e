"""A compose file as Docker Compose reads it, and what this project asks of the services in it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.container import Container, Mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Service = dict[str, Any]
_FULL_VERSION = re.compile(r"[^:@]+:v?\d+\.\d+\.\d+")
_USER = re.compile(r"mysql|[1-9]\d*:[1-9]\d*")
"""The image of MariaDB has a user of that name; its number is nowhere promised."""


class ComposeError(AssertionError):
    """Docker Compose refused a file."""


def configuration(docker_compose: str, *files: Path) -> dict[str, Any]:
    """The project of the files, complete and with absolute paths. Raises ComposeError with the reason."""
    named = [part for file in files for part in ("--file", str(file))]
    done = subprocess.run(
        [docker_compose, *named, "config", "--format", "json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ComposeError(done.stderr)
    project: dict[str, Any] = json.loads(done.stdout)
    return project


def violations(service: Service) -> list[str]:
    """What a service may do that none of ours needs, and what of it can grow without a bound."""
    volumes = service.get("volumes", [])
    wrong = {
        "image without a full version": not _FULL_VERSION.fullmatch(service["image"]),
        "user is root or not known": not _USER.fullmatch(service.get("user", "")),
        "root can be written": service.get("read_only") is not True,
        "capabilities": service.get("cap_drop") != ["ALL"] or bool(service.get("cap_add")),
        "new privileges": service.get("security_opt") != ["no-new-privileges:true"],
        "a port is open to other machines": any(_is_open(port) for port in service.get("ports", [])),
        "a folder of the machine can be written": any(
            volume["type"] == "bind" and not volume.get("read_only") for volume in volumes
        ),
    }
    found = [what for what, is_wrong in wrong.items() if is_wrong]
    found += [key for key in ("privileged", "network_mode", "pid", "ipc", "devices") if service.get(key)]
    return found + [f"no {key}" for key in ("mem_limit", "pids_limit", "logging") if not service.get(key)]


def _is_open(port: Service) -> bool:
    return port.get("host_ip") != "127.0.0.1"


def secret_files(project: Mapping[str, Any]) -> dict[str, Path]:
    """The file of each secret."""
    return {name: Path(secret["file"]) for name, secret in project["secrets"].items()}


def container(
    project: Mapping[str, Any], name: str, command: Sequence[str], hosts: Mapping[str, str], volumes: Path
) -> Container:
    """A service, with `command` before its own one in place of an image. Named volumes are folders in `volumes`."""
    service: Service = project["services"][name]
    uid, gid = map(int, service["user"].split(":"))
    files = secret_files(project)
    secrets = [Mount(files[secret["source"]], secret["target"]) for secret in service.get("secrets", [])]
    return Container(
        command=[*command, *service["command"]],
        uid=uid,
        gid=gid,
        groups=[int(group) for group in service.get("group_add", [])],
        environment=service.get("environment", {}),
        mounts=[*secrets, *(_mount(volume, volumes) for volume in service.get("volumes", []))],
        temporary=[path.partition(":")[0] for path in service.get("tmpfs", [])],
        hosts=hosts,
    )


def _mount(volume: Service, volumes: Path) -> Mount:
    source = Path(volume["source"]) if volume["type"] == "bind" else volumes / volume["source"]
    return Mount(source, volume["target"], read_only=volume.get("read_only", False))
