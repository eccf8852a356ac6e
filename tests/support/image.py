"""The image of deploy/container/Containerfile, built without a registry.

Its base is a Debian that mmdebstrap makes of the sources of this machine's apt. Buildah builds the image in a chroot.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from ast import literal_eval
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbgpt_ctl import __version__
from tests.support.containerfile import Steps
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PACKAGES = "python3,python3-venv,ca-certificates,passwd"
"""What the base has beside the essential packages: what docker.io/library/python on Debian slim has of it too."""
_BASE = "localhost/base"
_TIMEOUT_SECS = 600.0


@dataclass(frozen=True)
class Image:
    """A root file system, and the configuration with which an engine would run it."""

    root: Path
    config: Mapping[str, Any]
    way: str
    """How it was built."""

    @property
    def uid(self) -> int:
        return int(self.config["User"].partition(":")[0])

    @property
    def gid(self) -> int:
        return int(self.config["User"].partition(":")[2])

    @property
    def environment(self) -> dict[str, str]:
        pairs = [text.partition("=") for text in self.config["Env"]]
        return {name: value for name, _, value in pairs}

    @property
    def entrypoint(self) -> list[str]:
        return list(self.config["Entrypoint"])

    @property
    def health_check(self) -> list[str]:
        kind, *command = map(str, self.config["Healthcheck"]["Test"])
        assert kind == "CMD"
        return command


def build_image(folder: Path, program: Callable[[str], str]) -> Image:
    """Builds the base and the image in `folder`. `program` finds programs.

    Where buildah cannot carry out a step, bubblewrap carries out those of the Containerfile; `CTL_IMAGE_WAY=steps` asks
    for that.
    """
    make_base(folder / "base.tar", program)
    buildah = _Buildah(folder, program("buildah"))
    problem = "another way was asked for" if os.environ.get("CTL_IMAGE_WAY") == "steps" else buildah.problem()
    if problem is None:
        return buildah.image(program("make"))
    return _built_by_steps(folder, f"from the steps of the Containerfile, without buildah: {problem}")


class _Buildah:
    """Buildah with its images in `folder`, where base.tar is."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._command = [program, "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._command += ["--storage-driver", "vfs"]
        self._flags = ["--isolation=chroot", "--network=host", "--layers=false", "--pull=never", *_limits()]

    def problem(self) -> str | None:
        """Makes the image of the base. Why buildah cannot do that here; None if it could."""
        (self._folder / "Containerfile").write_text("FROM scratch\nADD base.tar /\nRUN true\n")
        try:
            _run([*self._command, "build", *self._flags, "--tag", _BASE, str(self._folder)])
        except AssertionError as error:
            return str(error)
        return None

    def image(self, make: str) -> Image:
        pip, needed = pip_configuration(self._folder)
        flags = [*self._flags, "--build-arg", f"BASE={_BASE}", f"--secret=id=pip,src={pip}"]
        flags += [f"--volume={path}:{path}:ro" for path in needed]
        builder = f"BUILDER={' '.join(self._command)}"
        _run([make, "--directory", str(ROOT), "image", builder, f"BUILD_FLAGS={' '.join(flags)}"])
        name = f"dbgpt-ctl:{__version__}"
        container = _run([*self._command, "from", "--pull=never", *_limits(), name]).strip()
        inspected = json.loads(_run([*self._command, "inspect", "--type", "image", name]))
        root = Path(_run([*self._command, "mount", container]).strip())
        return Image(root, inspected["Docker"]["config"], "by buildah")


def _built_by_steps(folder: Path, way: str) -> Image:
    base = folder / "base"
    base.mkdir()
    _run(["tar", "--extract", "--numeric-owner", f"--file={folder / 'base.tar'}", f"--directory={base}"])
    steps = Steps(ROOT, base, {"VERSION": __version__}, build_mounts(folder))
    root, config = steps.carry_out((ROOT / "deploy" / "container" / "Containerfile").read_text(), folder)
    return Image(root, config, way)


def build_mounts(folder: Path) -> dict[str, str]:
    """The files of this machine that pip and the network need in a root file system, by the path for them."""
    pip, needed = pip_configuration(folder)
    files = {path: path for path in (*needed, "/etc/resolv.conf", "/etc/hosts") if Path(path).exists()}
    return {"/etc/pip.conf": str(pip), **{target: str(Path(source).resolve()) for target, source in files.items()}}


def make_base(archive: Path, program: Callable[[str], str]) -> None:
    """Makes a tar archive of a small Debian of this machine's release."""
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    indexes = ["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    sources = {f"deb {line}\n" for line in _run([program("apt-get"), *indexes]).splitlines() if "http" in line}
    file = archive.with_suffix(".sources.list")
    file.write_text("".join(sorted(sources)))
    parts = ["--variant=apt", f"--include={PACKAGES}", "--dpkgopt=path-exclude=/usr/share/doc/*"]
    parts += ["--dpkgopt=force-unsafe-io"]  # nobody needs the base after a crash
    _run([program("mmdebstrap"), "--quiet", *parts, release["VERSION_CODENAME"], str(archive), str(file)])


def _limits() -> list[str]:
    """The limits of this process: buildah would raise them, which it may not everywhere."""
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    pairs = {name: resource.getrlimit(limit) for name, limit in limits.items()}
    return [f"--ulimit={name}={soft}:{hard}" for name, (soft, hard) in pairs.items()]


def pip_configuration(folder: Path) -> tuple[Path, list[str]]:
    """The configuration of this machine's pip as one file, and the paths that are named in it."""
    settings = {}
    for line in _run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = literal_eval(value)
    file = folder / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    paths = {word for value in settings.values() for word in value.split() if word.startswith("/")}
    return file, [path for path in sorted(paths) if Path(path).exists()]


def _run(command: Sequence[str]) -> str:
    """Its standard output. Raises AssertionError with all that it said where it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECS,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
