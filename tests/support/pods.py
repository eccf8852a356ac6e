"""Runs a pod of a rendered Deployment as a node would: its Secrets, its environment, its probes."""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from tests.support.container import CTL, Container, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.kustomize import Manifest

PATIENCE_SECS = 60.0


@dataclass(frozen=True)
class Node:
    """Where pods run. `folder` holds what is mounted. `secrets` and `hosts` are by name."""

    folder: Path
    secrets: Mapping[str, Manifest]
    hosts: Mapping[str, str]

    def container(self, pod: Manifest, environment: Mapping[str, str]) -> Container:
        """The only container of a pod, with the checkout in place of its image."""
        (description,) = pod["containers"]
        security = pod["securityContext"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        places = [(volumes[mount["name"]], mount["mountPath"]) for mount in description["volumeMounts"]]
        mounted = [(volume["secret"], path) for volume, path in places if "secret" in volume]
        return Container(
            command=[*CTL, *description["args"]],
            uid=security["runAsUser"],
            gid=security["runAsGroup"],
            groups=[security["fsGroup"]],
            environment=environment,
            mounts=[Mount(self._written(secret, security["fsGroup"]), path) for secret, path in mounted],
            temporary=[path for volume, path in places if "emptyDir" in volume],
            hosts=self.hosts,
        )

    def _written(self, volume: Manifest, group: int) -> Path:
        """The folder of a Secret: files of root, which the group of the pod may read, behind a link to a folder."""
        folder = self.folder / str(volume["secretName"])
        if folder.exists():
            return folder
        version = folder / "..2026_01_02"
        version.mkdir(parents=True)
        (folder / "..data").symlink_to(version.name)
        for key, value in self.secrets[volume["secretName"]]["data"].items():
            file = version / key
            file.write_bytes(base64.b64decode(value))
            file.chmod(volume["defaultMode"])
            os.chown(file, 0, group)
            (folder / key).symlink_to(f"..data/{key}")
        return folder


def probed(probe: Manifest, address: str, port: int) -> int:
    """The status that the kubelet gets for an `httpGet`; it sends the address of the pod as Host, unless told another.

    0 stands for no answer.
    """
    headers = {header["name"]: header["value"] for header in probe["httpGet"].get("httpHeaders", [])}
    return status_of(address, port, probe["httpGet"]["path"], headers, probe["timeoutSeconds"])


def status_of(address: str, port: int, path: str, headers: Mapping[str, str], timeout: float = 5) -> int:
    """The status of an answer to GET; 0 without one."""
    try:
        answer = httpx.get(f"http://{address}:{port}{path}", headers=dict(headers), timeout=timeout, trust_env=False)
    except httpx.TransportError:
        return 0
    return answer.status_code


def await_equal(expected: object, read: Callable[[], object]) -> None:
    """Returns when what is read is this. Raises AssertionError with what it was at last, a minute later."""
    deadline = time.monotonic() + PATIENCE_SECS
    while (found := read()) != expected:
        assert time.monotonic() < deadline, f"{found}, not {expected}"
        time.sleep(0.02)


def warnings_in(log: Path) -> list[str]:
    """The messages of a controller's log of JSON lines that are worse than information, but for refusals of callers."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["message"] for line in lines if line["level"] != "info" and not line["event"].endswith("refused")]
