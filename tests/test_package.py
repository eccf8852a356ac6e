"""The package as users get it: its content, that it installs alone and serves, and the versions that it works with."""

from __future__ import annotations

import re
import subprocess
import tarfile
import time
import tomllib
from email.parser import Parser
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from dbgpt_ctl import __version__
from dbgpt_ctl.controller.console import endpoint
from scripts import lowest
from tests.support.packages import Built, Environment, build, outside, python_of, run
from tests.support.ports import free_port
from tests.support.process import ROOT

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

pytestmark = pytest.mark.package

PROJECT = tomllib.loads(lowest.PYPROJECT.read_text())["project"]
PYTHONS = [
    line.rpartition(" ")[2]
    for line in PROJECT["classifiers"]
    if line.startswith("Programming Language :: Python :: 3.")
]
SMOKE = [
    "tests/controller/api/test_dbgpt.py",
    "tests/cli/commands/models/test_register.py",
    "tests/controller/test_server.py",
    "tests/registry/database/dialects/test_postgresql.py",
]
SMOKE += ["-k", "not test_server or mariadb or newer_schema"]
"""The tests that the lowest versions of the dependencies have to pass: API, command line, a start over databases."""
NOT_INSTALLED = """
import ast, importlib, importlib.util, pathlib, pkgutil, dbgpt_ctl
needed = set()
for path in pathlib.Path(dbgpt_ctl.__file__).parent.rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            needed |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            needed.add(node.module)
for module in pkgutil.walk_packages(dbgpt_ctl.__path__, "dbgpt_ctl."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert error.name == "psycopg", error
packages = {name.partition(".")[0] for name in needed}
print(*sorted(name for name in packages if importlib.util.find_spec(name) is None))
"""
"""Imports every module, and prints the missing packages that a module imports anywhere, also within a function."""
START_SECS = 30.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    with ZipFile(built.wheel) as wheel:
        return Parser().parsestr(wheel.read(f"dbgpt_ctl-{__version__}.dist-info/METADATA").decode())


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    modules = {str(path.relative_to(built.source)) for path in (built.source / "dbgpt_ctl").rglob("*.py")}
    rest = {name for name in names if ".dist-info/" not in name}
    console = {f"dbgpt_ctl/controller/console/assets/{name}" for name in endpoint.names()}
    assert rest == modules | console | {"dbgpt_ctl/py.typed"}
    assert f"dbgpt_ctl-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_sdist_holds_what_packagers_and_testers_need(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folders = ("completions", "docs", "tests", "scripts", "benchmarks")
    wanted = [path for folder in folders for path in (built.source / folder).rglob("*") if path.is_file()]
    kept = {str(path.relative_to(built.source)) for path in wanted}
    assert kept <= names
    top = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile", ".env.example"}
    assert top <= names
    assert not {name for name in names if name.startswith((".git/", ".venv")) or name.endswith(".pyc")}


def test_the_metadata_says_what_it_is(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("dbgpt-ctl", __version__)
    assert (metadata["Requires-Python"], metadata["License-Expression"]) == (">=3.11", "MIT")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Provides-Extra", [])) == {"otel", "postgresql", "dev", "browser", "deploy"}
    needed = {re.split(r"[^a-z0-9-]", line.lower())[0] for line in PROJECT["dependencies"]}
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[^a-z0-9-]", line.lower())[0] for line in plain} == needed


def test_there_is_a_python_to_test_with() -> None:
    assert any(map(python_of, PYTHONS))


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_installs_alone_and_serves(built: Built, version: str, tmp_path: Path) -> None:
    python = python_of(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    installed = Environment.make(tmp_path / "venv", python)
    installed.install(str(built.wheel))
    ctl, env = installed.command("ctl"), outside()
    assert run([ctl, "--version"], env=env, cwd=tmp_path) == f"ctl {__version__}\n"
    assert "pytest" not in run([installed.command("python"), "-m", "pip", "list"], env=env, cwd=tmp_path)
    run([installed.command("python"), "-m", "pip", "check"], env=env, cwd=tmp_path)
    missing = run([installed.command("python"), "-c", NOT_INSTALLED], env=env, cwd=tmp_path)
    assert set(missing.split()) <= {"opentelemetry", "grpc", "psycopg"}  # of the extras otel and postgresql
    serves(ctl, env, tmp_path)


def serves(ctl: str, env: dict[str, str], folder: Path) -> None:
    """`ctl serve` in enforce mode answers health, takes a register with a token and lists it, and ends in order."""
    port, tokens = free_port(), ["--tokens-file", "tokens.toml"]
    token = run([ctl, "token", "create", "me", "--role", "operator", *tokens, "-q"], env=env, cwd=folder).strip()
    client = env | {"CONTROLLER_ADDRESS": f"http://127.0.0.1:{port}", "CTL_TOKEN": token}
    serve = [ctl, "serve", "--port", str(port), "--auth", "enforce", *tokens]
    with subprocess.Popen(serve, env=env, cwd=folder) as server:
        try:
            deadline = time.monotonic() + START_SECS
            while subprocess.run([ctl, "health"], env=client, cwd=folder, capture_output=True, check=False).returncode:
                assert server.poll() is None, "ctl serve ended"
                assert time.monotonic() < deadline, "ctl serve does not answer"
            run([ctl, "models", "register", "qwen/10.0.0.4:8001"], env=client, cwd=folder)
            assert run([ctl, "models", "list", "-o", "name"], env=client, cwd=folder) == "qwen@llm/10.0.0.4:8001\n"
        finally:
            server.terminate()
    assert server.returncode == 0


def test_it_stands_on_the_lowest_versions_of_its_dependencies(built: Built, tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("\n".join(lowest.constraints((built.source / "pyproject.toml").read_text())))
    low = Environment.make(tmp_path / "venv")
    low.install(
        "--constraint",
        str(pins),
        f"{built.wheel}[postgresql]",
        "pytest",
        "pytest-timeout",
        "hypothesis",
        "jsonschema",
        "trustme",
    )
    there = versions(run([low.command("python"), "-m", "pip", "list", "--format=freeze"]))
    assert versions(pins.read_text()).items() <= there.items()
    command = [low.command("python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *SMOKE]
    output = run(command, env=outside(), cwd=ROOT)
    assert " passed" in output


def versions(frozen: str) -> dict[str, Version]:
    """The lines `NAME==VERSION`, comparable."""
    pairs = (line.split("==") for line in frozen.splitlines())
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_a_dependency_without_a_lower_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="rich<15 needs exactly one lower bound"):
        lowest.constraints('[project]\ndependencies = ["typer>=0.29", "rich<15"]')


def test_constraints_are_the_lower_bounds() -> None:
    text = '[project]\ndependencies = ["uvicorn[standard]>=0.42", "httpx>=0.28,<1"]'
    assert lowest.constraints(text) == ["uvicorn==0.42", "httpx==0.28"]
