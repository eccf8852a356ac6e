"""A tokens file, and the tokens in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.process import ctl

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Tokens:
    """Those that each test needs; `create` makes others."""

    path: Path
    operator: str
    reader: str
    worker: str

    @classmethod
    def created_in(cls, folder: Path) -> Tokens:
        """The operator is anna, the reader is ben. The mode is enforce."""
        path = folder / "tokens.toml"
        made = [
            _create(path, name, role) for name, role in (("anna", "operator"), ("ben", "reader"), ("gpu", "worker"))
        ]
        tokens = cls(path, *made)
        tokens.mode("enforce")
        return tokens

    def create(self, name: str, role: str, *options: str) -> str:
        """`ctl token create`. A controller knows it a moment later."""
        return _create(self.path, name, role, *options)

    def mode(self, mode: str) -> None:
        """`ctl auth mode`. A controller follows it a moment later."""
        ctl("auth", "mode", mode, "--tokens-file", str(self.path))

    def revoke(self, name: str) -> None:
        """`ctl token revoke`. A controller refuses it a moment later."""
        ctl("token", "revoke", name, "--tokens-file", str(self.path))


def _create(path: Path, name: str, role: str, *options: str) -> str:
    return ctl("token", "create", name, "--role", role, "--tokens-file", str(path), "-q", *options).out.strip()
