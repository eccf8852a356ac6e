"""Manifests of Kubernetes as `kubectl kustomize` renders them, and what this project asks of the pods in them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Manifest = dict[str, Any]
_ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")


class KustomizeError(AssertionError):
    """`kubectl kustomize` refused a folder."""


def rendered(kubectl: str, folder: Path) -> list[Manifest]:
    """The manifests of a folder. Raises KustomizeError with the reason."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KustomizeError(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def only(manifests: list[Manifest], kind: str) -> Manifest:
    """The only manifest of this kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def violations_of_restricted(pod: Manifest) -> list[str]:
    """What the spec of a pod has against the pod security standard "restricted", and against ours, which is stricter.

    Stricter are: a numeric user and group that are fixed, a read-only root, no token of a service account.
    """
    return [*_violations_of_pod(pod), *(found for each in _containers(pod) for found in _violations_of_container(each))]


def _containers(pod: Manifest) -> list[Manifest]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in pod.get(kind, [])]


def _violations_of_pod(pod: Manifest) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if security.get("runAsUser") != security.get("runAsGroup") or not security.get("runAsUser"):
        yield "runAsUser and runAsGroup"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccompProfile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken"
    yield from (name for name in _HOST_NAMESPACES if pod.get(name))
    for volume in pod.get("volumes", []):
        yield from (f"volume of the type {kind}" for kind in volume.keys() - {"name"} - _ALLOWED_VOLUMES)


def _violations_of_container(container: Manifest) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "capabilities"
    allowed = {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}
    yield from (f"{name} of a container" for name in security.keys() - allowed)
    yield from ("hostPort" for port in container.get("ports", []) if "hostPort" in port)
