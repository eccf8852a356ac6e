"""A container of the image, as the flags of `docker run` describe it."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.container import Container, Mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.image import Image


@dataclass(frozen=True)
class DockerRun:
    """What `docker run` was told. Raises SystemExit for a flag that a test does not know."""

    words: Sequence[str]
    folder: Path
    """Of the volumes with a name."""

    @property
    def given(self) -> argparse.Namespace:
        parser = argparse.ArgumentParser(prog="docker run", allow_abbrev=False)
        for flag in ("--detach", "--read-only"):
            parser.add_argument(flag, action="store_true")
        for flag in ("--name", "--restart", "--cap-drop", "--security-opt"):
            parser.add_argument(flag)
        parser.add_argument("--stop-timeout", type=int)
        for flag in ("--tmpfs", "--publish", "--volume", "--env"):
            parser.add_argument(flag, action="append", default=[])
        parser.add_argument("image")
        parser.add_argument("command", nargs="*")
        return parser.parse_args(self.words)

    def container(self, image: Image, *command: str) -> Container:
        """The command in it, by default that of the image."""
        return Container(
            command or [*image.entrypoint, *(self.given.command or image.config["Cmd"])],
            uid=image.uid,
            gid=image.gid,
            environment=image.environment | dict(text.split("=", 1) for text in self.given.env),
            mounts=[self._mount(image, *text.split(":")) for text in self.given.volume],
            temporary=self.given.tmpfs,
            root=image.root,
        )

    def _mount(self, image: Image, source: str, target: str, mode: str = "rw") -> Mount:
        if source.startswith("/"):
            return Mount(Path(source), target, read_only=mode == "ro")
        volume = self.folder / source
        if not volume.exists():  # a new volume gets the owner and the mode of what the image has there
            status = (image.root / target.lstrip("/")).stat()
            volume.mkdir()
            volume.chmod(status.st_mode & 0o7777)
            os.chown(volume, status.st_uid, status.st_gid)
        return Mount(volume, target, read_only=mode == "ro")
