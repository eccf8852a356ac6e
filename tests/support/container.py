"""A container as a pod or a compose service describes it, made by bubblewrap: without an engine and without an image.

The root is read-only and holds this checkout in place of an image. The user, the groups, the environment, the mounts
and the names of hosts are those of the description.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CTL = ("/venv/bin/python", "-m", "dbgpt_ctl")
_SYSTEM_LINKS = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, and the path at which the container has it."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Container:
    """`temporary`: paths of empty folders in memory, which any user may write. `hosts`: addresses by name."""

    command: Sequence[str]
    uid: int
    gid: int
    environment: Mapping[str, str]
    mounts: Sequence[Mount] = ()
    temporary: Sequence[str] = ()
    groups: Sequence[int] = ()
    hosts: Mapping[str, str] | None = None

    @contextmanager
    def running(self, folder: Path) -> Iterator[Path]:
        """Runs until the block is left; gives the file with its output. `folder` is for that file and for its hosts."""
        hosts, log = folder / "hosts", folder / "log"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in (self.hosts or {}).items()))
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*_bubblewrap(self, hosts), *_as_user(self), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            yield log
        finally:
            process.kill()  # what bubblewrap has started dies with it
            process.wait(10)


def _bubblewrap(container: Container, hosts: Path) -> list[str]:
    arguments = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--clearenv", "--tmpfs", "/"]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr", "--chdir", "/"]
    for name in _SYSTEM_LINKS:
        if Path("/", name).is_symlink():
            arguments += ["--symlink", f"usr/{name}", f"/{name}"]
    image = [Mount(Path(sys.base_prefix), sys.base_prefix), Mount(Path(sys.prefix), "/venv"), Mount(ROOT, "/app")]
    mounts = [*image, Mount(hosts, "/etc/hosts"), *container.mounts]
    arguments += _folders_above([*(mount.target for mount in mounts), *container.temporary])
    for mount in mounts:
        arguments += ["--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target]
    for path in container.temporary:
        arguments += ["--perms", "1777", "--tmpfs", path]
    arguments += ["--remount-ro", "/", "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for name, value in {"PYTHONPATH": "/app", "PATH": "/usr/sbin:/usr/bin", **container.environment}.items():
        arguments += ["--setenv", name, value]
    return arguments


def _folders_above(paths: Sequence[str]) -> list[str]:
    """Makes the folders above the paths: those that bubblewrap would make itself are closed to all but root."""
    folders = {str(parent) for path in paths for parent in Path(path).parents} - {"/", "/usr"}
    return [part for folder in sorted(folders) for part in ("--perms", "0755", "--dir", folder)]


def _as_user(container: Container) -> list[str]:
    """Becomes the user of the container, who has no capabilities and cannot get any."""
    groups = ",".join(map(str, container.groups))
    chosen = f"--groups={groups}" if groups else "--clear-groups"
    return ["setpriv", f"--reuid={container.uid}", f"--regid={container.gid}", chosen, "--no-new-privs"]
