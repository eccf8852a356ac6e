"""The commands of a unit in a sandbox like the one that systemd makes of it, where systemd itself does not run.

The machine is the root of an image, with the package in /opt/ctl. What systemd sets up is done by bubblewrap: a
read-only root besides the directories of the unit, a user of its own without capabilities, new folders for temporary
files, the filter of system calls. Not done are ProtectProc, LockPersonality and RestrictNamespaces.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.container import Container, Mount
from tests.support.seccomp import write_filter
from tests.support.unit_file import SPECIFIERS, UnitFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DYNAMIC_UID = 61_184
"""The first one of those that systemd gives to units with DynamicUser."""


@dataclass(frozen=True)
class Sandbox:
    """`folder` has the directories of the unit: state, logs, notify and credentials. /etc/ctl is that of the image."""

    unit: UnitFile
    image: Path
    folder: Path
    uid: int

    @classmethod
    def make(cls, folder: Path, image: Path, *unit: Path, uid: int = DYNAMIC_UID) -> Sandbox:
        """`unit`: the file and its drop-ins. `folder` is empty."""
        for name, mode in {"state": 0o700, "logs": 0o750, "notify": 0o755, "credentials": 0o700}.items():
            (folder / name).mkdir()
            (folder / name).chmod(mode)
            os.chown(folder / name, uid, uid)
        sandbox = cls(UnitFile.read(*unit), image, folder, uid)
        write_filter(sandbox.unit, folder / "system-calls")
        return sandbox

    @property
    def configuration(self) -> Path:
        """The folder /etc/ctl of the machine, which exists."""
        path = self.image / "etc" / "ctl"
        path.mkdir(exist_ok=True)
        return path

    def load_credentials(self) -> None:
        """Copies the files of LoadCredential=, as at a start of the unit."""
        for name, path in self.unit.credentials().items():
            copy = self.folder / "credentials" / name
            copy.write_bytes((self.image / path.lstrip("/")).read_bytes())
            copy.chmod(0o400)
            os.chown(copy, self.uid, self.uid)

    def container(self, *command: str, environment: Mapping[str, str] | None = None) -> Container:
        """A command as if the unit had it. `environment` comes beside what the unit sets."""
        own = {"NOTIFY_SOCKET": "/run/systemd/notify", "PATH": "/usr/bin:/bin"}
        return Container(
            command,
            uid=self.uid,
            gid=self.uid,
            environment={**own, **self.unit.environment(self.configuration), **(environment or {})},
            mounts=[
                Mount(self.folder / "state", "/var/lib/ctl", read_only=False),
                Mount(self.folder / "logs", "/var/log/ctl", read_only=False),
                Mount(self.folder / "notify", "/run/systemd", read_only=False),
                Mount(self.folder / "credentials", SPECIFIERS["%d"]),
            ],
            temporary=("/tmp", "/var/tmp", "/home", "/root"),
            root=self.image,
            system_calls=self.folder / "system-calls",
        )
