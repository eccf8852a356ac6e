"""The commands of `ctl`, for tests that hold for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.main import get_command

from dbgpt_ctl.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = get_command(app)
"""Made once: to build the tree takes longer than to run a command of it."""


def commands(group: Any = COMMAND, *verbs: str) -> Iterator[tuple[str, ...]]:
    """The verbs of every command and group, those of `ctl` itself first."""
    yield verbs
    for name in group.commands:
        command = group.get_command(None, name)
        yield from commands(command, *verbs, name) if hasattr(command, "commands") else [(*verbs, name)]


def command_of(verbs: tuple[str, ...]) -> Any:
    command: Any = COMMAND
    for verb in verbs:
        command = command.get_command(None, verb)
    return command
