"""A unit of systemd with its drop-ins, read as systemd reads it, as far as this project's units need it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SPECIFIERS = {"%S": "/var/lib", "%d": "/run/credentials/ctl.service"}


@dataclass(frozen=True)
class UnitFile:
    """The settings in their order, as name and value. A name may stand more than once."""

    settings: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, *paths: Path) -> UnitFile:
        """The unit and then its drop-ins."""
        lines = [line.strip() for path in paths for line in path.read_text().splitlines()]
        pairs = [line.partition("=") for line in lines if line and not line.startswith(("#", ";", "["))]
        return cls(tuple((name, value) for name, _, value in pairs))

    def values(self, name: str) -> list[str]:
        return [value for other, value in self.settings if other == name]

    def last(self, name: str) -> str:
        return self.values(name)[-1]

    def words(self, name: str) -> list[str]:
        return [word for value in self.values(name) for word in value.split()]

    def command(self, name: str) -> list[str]:
        """The words of a command, without the `-` that lets it fail."""
        return shlex.split(self.last(name).removeprefix("-"))

    def environment(self, directory: Path) -> Mapping[str, str]:
        """What Environment= and EnvironmentFile= set; the files of /etc/ctl/ are in `directory`."""
        texts = [word for value in self.values("Environment") for word in shlex.split(value)]
        for file in self.values("EnvironmentFile"):
            path = directory / file.removeprefix("-").removeprefix("/etc/ctl/")
            if path.exists():
                texts += [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        found = {}
        for text in texts:
            name, _, value = text.partition("=")
            for specifier, meaning in SPECIFIERS.items():
                value = value.replace(specifier, meaning)
            found[name] = value
        return found

    def credentials(self) -> Mapping[str, str]:
        """The path of each LoadCredential= by its name."""
        return dict(value.split(":", 1) for value in self.values("LoadCredential"))
