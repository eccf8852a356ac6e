"""A container as a pod, a compose service or a unit describes it, made by bubblewrap: without an engine.

The root is read-only. It holds this checkout in place of an image, or is that of an image. The user, the groups, the
environment, the mounts and the names of hosts are those of the description.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.support import seccomp
from tests.support.process import ROOT, TIMEOUT_SECS

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Mapping, Sequence

CTL = ("/venv/bin/python", "-m", "dbgpt_ctl")
_FILTER = "/run/system-calls"
_SYSTEM_LINKS = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, and the path at which the container has it."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Container:
    """`temporary`: paths of empty folders in memory, which any user may write. `hosts`: addresses by name.

    `root`: the root file system of an image; it gets the folders that mounts need, and `hosts` are not used.
    `system_calls`: a file of `tests.support.seccomp`, for an image with Python.
    """

    command: Sequence[str]
    uid: int
    gid: int
    environment: Mapping[str, str]
    mounts: Sequence[Mount] = ()
    temporary: Sequence[str] = ()
    groups: Sequence[int] = ()
    hosts: Mapping[str, str] | None = None
    root: Path | None = None
    system_calls: Path | None = None

    @contextmanager
    def running(self, folder: Path) -> Iterator[Path]:
        """Runs until the block is left; gives the file with its output. `folder` is for that file and for its hosts."""
        with self.started(folder) as started:
            yield started.log

    @contextmanager
    def started(self, folder: Path) -> Iterator[Started]:
        """As `running`, and gives the process too."""
        log = folder / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(self.arguments(folder), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        try:
            yield Started(process, log)
        finally:
            inside = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.wait(10)
            for each in inside:  # a change of the user clears the signal with which bubblewrap's end would end them
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            _, left = psutil.wait_procs(inside, timeout=10)
            assert left == [], "these outlive their container"

    def run(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """Waits for a command; its output and errors are one text."""
        return subprocess.run(
            self.arguments(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECS,
            check=False,
        )

    def arguments(self, folder: Path) -> list[str]:
        """The command that runs it. `folder` is for files that the container needs."""
        if self.root is None:
            hosts = folder / "hosts"
            hosts.write_text("".join(f"{address} {name}\n" for name, address in (self.hosts or {}).items()))
            root = _root_of_checkout(self, hosts)
        else:
            root = _root_of_image(self, self.root)
        return [*root, *_isolated(self), *_as_user(self), *_under_filter(self), *self.command]


@dataclass(frozen=True)
class Started:
    """A container that runs: bubblewrap, and the file with the output."""

    bubblewrap: subprocess.Popen[bytes]
    log: Path

    def send(self, how: signal.Signals) -> None:
        """Sends a signal to the command, which is process 1 of its container."""
        (command,) = psutil.Process(self.bubblewrap.pid).children()
        command.send_signal(how)


def _root_of_checkout(container: Container, hosts: Path) -> list[str]:
    arguments = ["bwrap", "--clearenv", "--tmpfs", "/", "--ro-bind", "/usr", "/usr", "--setenv", "PYTHONPATH", "/app"]
    for name in _SYSTEM_LINKS:
        if Path("/", name).is_symlink():
            arguments += ["--symlink", f"usr/{name}", f"/{name}"]
    image = [Mount(Path(sys.base_prefix), sys.base_prefix), Mount(Path(sys.prefix), "/venv"), Mount(ROOT, "/app")]
    mounts = [*image, Mount(hosts, "/etc/hosts")]
    targets = [mount.target for mount in (*mounts, *container.mounts)]
    return [*arguments, *_folders_above([*targets, *container.temporary]), *_binds(mounts)]


def _root_of_image(container: Container, root: Path) -> list[str]:
    for target in (*(mount.target for mount in container.mounts if mount.source.is_dir()), *container.temporary):
        (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
    arguments = ["bwrap", "--clearenv", "--ro-bind", str(root), "/"]
    if container.system_calls is not None:
        (root / _FILTER.lstrip("/")).touch()
        arguments += ["--ro-bind", str(container.system_calls), _FILTER]
    return arguments


def _isolated(container: Container) -> list[str]:
    arguments = ["--die-with-parent", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--chdir", "/"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += _binds(container.mounts)
    for path in container.temporary:
        arguments += ["--perms", "1777", "--tmpfs", path]
    arguments += ["--remount-ro", "/", "--cap-drop", "ALL"]
    arguments += [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
    for name, value in {"PATH": "/usr/sbin:/usr/bin", **container.environment}.items():
        arguments += ["--setenv", name, value]
    return arguments


def _folders_above(paths: Sequence[str]) -> list[str]:
    """Makes the folders above the paths: those that bubblewrap would make itself are closed to all but root."""
    folders = {str(parent) for path in paths for parent in Path(path).parents} - {"/", "/usr"}
    return [part for folder in sorted(folders) for part in ("--perms", "0755", "--dir", folder)]


def _binds(mounts: Sequence[Mount]) -> list[str]:
    binds = [("--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target) for mount in mounts]
    return [word for bind in binds for word in bind]


def _as_user(container: Container) -> list[str]:
    """Becomes the user of the container, who has no capabilities and cannot get any."""
    groups = ",".join(map(str, container.groups))
    chosen = f"--groups={groups}" if groups else "--clear-groups"
    user = ["setpriv", f"--reuid={container.uid}", f"--regid={container.gid}", chosen]
    return [*user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]


def _under_filter(container: Container) -> list[str]:
    if container.system_calls is None:
        return []
    return ["python3", "-I", "-c", seccomp.LOADER, _FILTER]


def stored_hosts(file: Path) -> list[str]:
    """The hosts of the instances in an SQLite registry that a container has left."""
    with closing(sqlite3.connect(file)) as database:
        return [host for (host,) in database.execute("SELECT host FROM ctl_instance")]
