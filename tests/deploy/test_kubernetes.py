"""The kustomize base of deploy/kubernetes: Kubernetes accepts it, and controllers run as it says."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dbgpt_ctl import __version__
from dbgpt_ctl.controller.bootstrap import grace_secs
from dbgpt_ctl.controller.server import DRAIN_SECS
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.settings.warnings import warnings_of
from scripts import generate
from tests.support.database_server import private_server
from tests.support.deployed import changed, settings_of
from tests.support.documents import DOCUMENTS, block_with
from tests.support.kustomize import KustomizeError, Manifest, only, rendered, violations_of_restricted
from tests.support.mariadb import MariaDBServer
from tests.support.pods import Node, await_equal, probed, status_of, warnings_in
from tests.support.private_network import in_private_network, missing_rights
from tests.support.process import ROOT
from tests.support.shell_blocks import run_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.container import Started

BASE = ROOT / "deploy" / "kubernetes"
SECURITY = ROOT / "docs" / "security.md"
DEPLOYING = ROOT / "docs" / "deploying.md"
PASSWORD = "s3cret/p@ss"
POD = "10.1.2.3"
CALLER = {"dbgpt-controller-client": "true"}


@pytest.fixture(scope="module")
def kubectl(program: Callable[[str], str]) -> str:
    return program("kubectl")


@pytest.fixture(scope="module")
def manifests(kubectl: str) -> list[Manifest]:
    return rendered(kubectl, BASE)


@pytest.fixture(scope="module")
def deployment(manifests: list[Manifest]) -> Manifest:
    return only(manifests, "Deployment")


@pytest.fixture(scope="module")
def pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def environment(manifests: list[Manifest]) -> dict[str, str]:
    data: dict[str, str] = only(manifests, "ConfigMap")["data"]
    return data


def accepted(validate: str, manifest: Manifest, folder: Path) -> bool:
    """Whether Kubernetes takes the manifest, in which no unknown field may be."""
    file = folder / "manifest.yaml"
    file.write_text(yaml.safe_dump(manifest))
    done = subprocess.run([validate, "--strict", str(file)], capture_output=True, text=True, check=False)
    return done.returncode == 0


def test_kubernetes_accepts_each_manifest(
    program: Callable[[str], str], manifests: list[Manifest], tmp_path: Path
) -> None:
    kinds = [manifest["kind"] for manifest in manifests]
    assert sorted(kinds) == ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service"]
    assert all(accepted(program("kubernetes-validate"), manifest, tmp_path) for manifest in manifests)


@pytest.mark.parametrize(
    "wrong",
    [
        ("ConfigMap", "data/CONTROLLER_REGISTRY_DB_PORT", 3306),
        ("Service", "spec/ports/0/port", "http"),
        ("Deployment", "spec/template/spec/containers/0/readinesProbe", {"httpGet": {"path": "/readyz", "port": 8000}}),
        ("Deployment", "spec/replicas", "two"),
        ("PodDisruptionBudget", "spec/maxUnavailable", [1]),
        ("NetworkPolicy", "spec/ingress/0/ports/0/protocol", 6),
    ],
)
def test_a_wrong_manifest_is_refused(
    program: Callable[[str], str], manifests: list[Manifest], tmp_path: Path, wrong: tuple[str, str, Any]
) -> None:
    kind, path, value = wrong
    manifest = next(manifest for manifest in manifests if manifest["kind"] == kind)
    assert not accepted(program("kubernetes-validate"), changed(manifest, path, value), tmp_path)


@pytest.mark.parametrize(("line", "reason"), [("patchez: []", "patchez"), ("resources: [missing.yaml]", "missing")])
def test_a_wrong_kustomization_is_refused(kubectl: str, tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "kustomization.yaml").write_text(f"kind: Kustomization\n{line}\n")
    with pytest.raises(KustomizeError, match=reason):
        rendered(kubectl, tmp_path)


def test_the_pods_are_restricted(pod: Manifest) -> None:
    assert violations_of_restricted(pod) == []
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["enableServiceLinks"] is False, "a Service named `controller` would set CONTROLLER_PORT"


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        ("securityContext/runAsNonRoot", False, "runAsNonRoot"),
        ("securityContext/runAsUser", 0, "runAsUser and runAsGroup"),
        ("securityContext/seccompProfile", {"type": "Unconfined"}, "seccompProfile"),
        ("automountServiceAccountToken", True, "automountServiceAccountToken"),
        ("hostNetwork", True, "hostNetwork"),
        ("volumes", [{"name": "root", "hostPath": {"path": "/"}}], "volume of the type hostPath"),
        ("containers/0/securityContext/allowPrivilegeEscalation", True, "allowPrivilegeEscalation"),
        ("containers/0/securityContext/readOnlyRootFilesystem", False, "readOnlyRootFilesystem"),
        ("containers/0/securityContext/capabilities", {"drop": ["ALL"], "add": ["NET_RAW"]}, "capabilities"),
        ("containers/0/securityContext/privileged", True, "privileged of a container"),
        ("containers/0/ports", [{"containerPort": 8000, "hostPort": 8000}], "hostPort"),
    ],
)
def test_a_pod_that_may_more_is_noticed(pod: Manifest, path: str, value: Any, violation: str) -> None:
    assert violations_of_restricted(changed(pod, path, value)) == [violation]


def test_the_image_is_that_of_this_release(pod: Manifest) -> None:
    assert [container["image"] for container in pod["containers"]] == [f"dbgpt-ctl:{__version__}"]


def test_a_new_version_reaches_each_file_that_names_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {path: path.read_text() for path in generate.NAMING_THE_IMAGE}
    assert all(generate.with_version(text) == text for text in texts.values()), "run `make generate`"
    monkeypatch.setattr(generate, "__version__", "9.8.7rc1")
    changed_texts = [generate.with_version(text) for text in texts.values()]
    assert all(text.count("9.8.7rc1") >= 1 and __version__ not in text for text in changed_texts)


def test_each_variable_is_a_setting(environment: dict[str, str]) -> None:
    assert warnings_of(settings_of(environment)) == []
    with pytest.raises(AssertionError):
        settings_of(environment | {"CONTROLLER_TOKEN_FILE": "tokens.toml"})


def test_a_pod_has_the_time_to_leave(pod: Manifest, environment: dict[str, str]) -> None:
    grace = grace_secs(settings_of(environment))
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace > 0
    assert pod["terminationGracePeriodSeconds"] > pause + grace + DRAIN_SECS + 1


def test_the_pages_name_the_time_of_the_manifest(pod: Manifest) -> None:
    pages = "".join(page.read_text() for page in DOCUMENTS)
    times = re.findall(r"terminationGracePeriodSeconds`?(?::| is) (\d+)", pages)
    assert set(times) == {str(pod["terminationGracePeriodSeconds"])}


def test_an_update_takes_no_controller_away(deployment: Manifest, manifests: list[Manifest]) -> None:
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert only(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_everything_selects_these_pods(deployment: Manifest, manifests: list[Manifest]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    budget, policy = only(manifests, "PodDisruptionBudget"), only(manifests, "NetworkPolicy")
    services = [manifest for manifest in manifests if manifest["kind"] == "Service"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        budget["spec"]["selector"]["matchLabels"],
        policy["spec"]["podSelector"]["matchLabels"],
        *(service["spec"]["selector"] for service in services),
        *(each["labelSelector"]["matchLabels"] for each in _pod(deployment)["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)


def test_each_port_has_a_name_that_the_container_declares(pod: Manifest, manifests: list[Manifest]) -> None:
    (container,) = pod["containers"]
    declared = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert declared == {"http": ControllerSettings().port}
    probes = [container[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "liveness", "readiness")]
    services = [port["targetPort"] for each in manifests if each["kind"] == "Service" for port in each["spec"]["ports"]]
    assert {*probes, *services} == {"http"}
    (ingress,) = only(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": declared["http"]}]


def test_the_network_policy_admits_callers_by_their_own_labels(manifests: list[Manifest]) -> None:
    """And not by those that kustomize adds to everything of the base."""
    policy = only(manifests, "NetworkPolicy")["spec"]
    (ingress,) = policy["ingress"]
    assert ingress["from"][0] == {"podSelector": {"matchLabels": CALLER}}
    assert all("podSelector" in peer for peer in ingress["from"]), "a peer without one admits a whole namespace"
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 3306}


def test_secrets_are_named_and_not_contained(
    kubectl: str, pod: Manifest, environment: dict[str, str], tmp_path: Path
) -> None:
    """And the commands of the documentation make those that are named."""
    made = {secret["metadata"]["name"]: set(secret["data"]) for secret in documented_secrets(kubectl, tmp_path)}
    named = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    assert {secret["secretName"] for secret in named.values()} == made.keys()
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    paths = {f"{mounts[name]}/{key}" for name, secret in named.items() for key in made[secret["secretName"]]}
    assert {value for name, value in environment.items() if name.endswith("_FILE")} == paths
    assert not any("subPath" in mount for mount in pod["containers"][0]["volumeMounts"])


def test_the_overlay_of_the_documentation_changes_what_it_says(
    program: Callable[[str], str], kubectl: str, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (tmp_path / "dbgpt-ctl").symlink_to(ROOT)
    (overlay / "kustomization.yaml").write_text(block_with(DEPLOYING, "behavior: merge").text)
    manifests = rendered(kubectl, overlay)
    assert all(accepted(program("kubernetes-validate"), manifest, tmp_path) for manifest in manifests)
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"dbgpt"}
    pod = _pod(only(manifests, "Deployment"))
    settings = only(manifests, "ConfigMap")
    assert pod["containers"][0]["image"] == f"registry.example/dbgpt-ctl:{__version__}"
    assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    assert settings["data"]["CONTROLLER_REGISTRY_DB_HOST"] == "db-1.example,db-2.example"
    assert settings["data"]["CONTROLLER_AUTH"] == "enforce", "what the overlay does not set stays"
    database = only(manifests, "NetworkPolicy")["spec"]["egress"][1]
    assert database == {"ports": [{"protocol": "TCP", "port": 3306}], "to": [{"ipBlock": {"cidr": "10.3.0.0/24"}}]}


def test_kubernetes_accepts_the_policies_for_workers_and_the_database(
    program: Callable[[str], str], manifests: list[Manifest], tmp_path: Path
) -> None:
    """Those that the documentation shows beside that of this base."""
    policies = list(yaml.safe_load_all(block_with(SECURITY, "kind: NetworkPolicy").text))
    assert all(accepted(program("kubernetes-validate"), policy, tmp_path) for policy in policies)
    (database,) = [policy for policy in policies if policy["metadata"]["name"] == "ctl-database"]
    (rule,) = database["spec"]["ingress"]
    callers = only(manifests, "NetworkPolicy")["spec"]["podSelector"]
    assert rule["from"] == [{"podSelector": callers}], "the database admits the controllers"


@pytest.mark.parametrize(("shown", "code"), [("dns_sd_configs", 0), ("dns_discovery", 1)])
def test_prometheus_accepts_the_scrape_of_the_documentation(
    program: Callable[[str], str], tmp_path: Path, shown: str, code: int
) -> None:
    """And refuses a wrong one."""
    file = tmp_path / "prometheus.yml"
    file.write_text(block_with(DEPLOYING, "dns_sd_configs").text.replace("dns_sd_configs", shown))
    command = [program("promtool"), "check", "config", "--syntax-only", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == code


def test_the_scrape_of_the_documentation_names_the_service(manifests: list[Manifest]) -> None:
    (scrape,) = yaml.safe_load(block_with(DEPLOYING, "dns_sd_configs").text)["scrape_configs"]
    (discovery,) = scrape["dns_sd_configs"]
    (headless,) = [each for each in manifests if each.get("spec", {}).get("clusterIP") == "None"]
    assert discovery["names"] == [f"{headless['metadata']['name']}.dbgpt.svc"]
    assert discovery["port"] == headless["spec"]["ports"][0]["port"]
    assert headless["spec"]["publishNotReadyAddresses"] is True, "a controller that is not ready is scraped too"


@pytest.fixture
def node(program: Callable[[str], str], kubectl: str, tmp_path: Path) -> Node:
    if missing := missing_rights():
        pytest.skip(missing)
    for name in ("bwrap", "mariadbd"):
        program(name)
    secrets = {secret["metadata"]["name"]: secret for secret in documented_secrets(kubectl, tmp_path)}
    return Node(tmp_path / "mounted", secrets, {"mariadb": "127.0.0.1"})


@contextmanager
def serving(node: Node, pod: Manifest, environment: dict[str, str], folder: Path) -> Iterator[Started]:
    """A pod over a real MariaDB: as its user, with a read-only root and the mounted Secrets; all its probes succeed."""
    with private_server(MariaDBServer, port=3306, user="ctl", password=PASSWORD) as database:
        database.execute("CREATE DATABASE dbgpt")
        with node.container(pod, environment).started(folder) as started:
            for kind in ("startup", "liveness", "readiness"):
                await_equal(200, partial(probed, pod["containers"][0][f"{kind}Probe"], POD, 8000))
            yield started


@pytest.mark.parametrize("allowed_hosts", [None, "dbgpt-controller,*.svc"])
def test_a_controller_runs_as_the_deployment_says(
    node: Node, pod: Manifest, environment: dict[str, str], tmp_path: Path, allowed_hosts: str | None
) -> None:
    restricted = {} if allowed_hosts is None else {"CONTROLLER_ALLOWED_HOSTS": allowed_hosts}

    def it_serves() -> None:
        with serving(node, pod, environment | restricted, tmp_path) as started:
            as_kubelet = status_of(POD, 8000, "/readyz", {"Host": f"{POD}:8000"})
            assert as_kubelet == (200 if allowed_hosts is None else 421), "why the probes name a host"
            assert status_of(POD, 8000, "/api/controller/models", {"Host": "dbgpt-controller"}) == 401
            assert warnings_in(started.log) == []

    in_private_network(it_serves, [POD])


def test_a_controller_leaves_before_its_pod_is_killed(
    node: Node, pod: Manifest, environment: dict[str, str], tmp_path: Path
) -> None:
    """After SIGTERM it is alive and not ready, and it ends by itself."""
    (container,) = pod["containers"]
    secs = pod["terminationGracePeriodSeconds"] - container["lifecycle"]["preStop"]["sleep"]["seconds"]

    def it_leaves() -> None:
        with serving(node, pod, environment, tmp_path) as started:
            started.send(signal.SIGTERM)
            await_equal(503, partial(probed, container["readinessProbe"], POD, 8000))
            assert probed(container["livenessProbe"], POD, 8000) == 200
            assert started.bubblewrap.wait(secs) == 0

    in_private_network(it_leaves, [POD])


def documented_secrets(kubectl: str, folder: Path) -> list[Manifest]:
    """The Secrets that the commands of the documentation make; without a cluster they are printed."""
    (folder / "password").write_text(PASSWORD)
    printed = folder / "secrets.json"
    block = block_with(DEPLOYING, "create secret generic dbgpt-controller-database")
    run_block(block, folder, {"kubectl": f'exec "{kubectl}" "$@" --dry-run=client -o json >> "{printed}"'})
    return list(yaml.safe_load_all(printed.read_text().replace("}\n{", "}\n---\n{")))


def _pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec
