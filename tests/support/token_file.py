"""A tokens file of a lab, which `ctl token` and `ctl auth mode` edit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.dbgpt_cluster import Lab


@dataclass
class LabTokens:
    """`created` has the newest token of each name, `ever` all of them."""

    lab: Lab
    created: dict[str, str] = field(default_factory=dict)
    ever: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.lab.folder / "tokens.toml"

    def credentials(self, name: str) -> str:
        """`NAME:TOKEN`: what stands in a URL before the @, and in CTL_TOKEN."""
        return f"{name}:{self.created[name]}"

    def create(self, name: str, role: str, *options: str) -> None:
        """`ctl token create`."""
        self._print_secret("create", name, "--role", role, *options)

    def rotate(self, name: str) -> None:
        """`ctl token rotate`: the token before stays valid until `revoke_old`."""
        self._print_secret("rotate", name)

    def revoke_old(self, name: str) -> None:
        self._ctl("token", "revoke", name, "--old")

    def set_mode(self, mode: str) -> None:
        self._ctl("auth", "mode", mode)

    def _print_secret(self, verb: str, name: str, *options: str) -> None:
        token = json.loads(self._ctl("token", verb, name, *options, "-o", "json"))["token"]
        self.created[name] = token
        self.ever.append(token)

    def _ctl(self, *args: str) -> str:
        done = self.lab.ctl(*args, CONTROLLER_TOKENS_FILE=str(self.path))
        assert done.returncode == 0, f"ctl {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout
