"""The question before a change of many instances.

A command asks where a person can answer: standard input and standard error are terminals. Elsewhere, as in a script or
in a pipe, `--yes` is required.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.output.stdout import ask
from dbgpt_ctl.domain.references import first_references
from dbgpt_ctl.errors import NotConfirmed, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from dbgpt_ctl.domain.instance import InstanceKey

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the change; required without a terminal.")]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Asks before a change, unless it was confirmed on the command line. `action` is a verb, as in `drain`."""

    action: str
    asks: bool

    @classmethod
    def needed(cls, action: str, *, yes: bool, dry_run: bool = False) -> Self:
        """To be called before anything is sent. A dry run never asks.

        Raises UsageError where nobody can be asked, so that a script fails always and not only when something matches.
        """
        asks = not (yes or dry_run)
        if asks and not _can_ask():
            raise UsageError(
                f"there is no terminal to ask on before these changes: give --yes to {action} the instances, or "
                "--dry-run to see what would be done"
            )
        return cls(action, asks)

    def confirm(self, keys: Sequence[InstanceKey]) -> None:
        """Asks whether to change these instances; not if there is none. Raises NotConfirmed for all but y and yes."""
        if self.asks and keys and ask(self._question(keys)).strip().lower() not in ("y", "yes"):
            raise NotConfirmed("not confirmed: nothing was changed")

    def _question(self, keys: Sequence[InstanceKey]) -> str:
        count = "1 instance" if len(keys) == 1 else f"{len(keys)} instances"
        return f"{self.action} {count}: {first_references(keys)}? [y/N] "


def _can_ask() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
