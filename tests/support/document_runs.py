"""Runs the commands of a document on a real cluster, and compares their output with what the document shows.

In the document the cluster has names, such as http://ctl-1:8000; in the test it has free ports of 127.0.0.1.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import unified_diff
from textwrap import indent
from typing import TYPE_CHECKING

from tests.support.documents import Command, blocks
from tests.support.walkthrough import Ran, comparable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.support.documents import Block
    from tests.support.walkthrough import Reader

UPDATES = bool(os.environ.get("CTL_UPDATE_GOLDEN"))
"""Write the output of today into the document; then read the diff."""
_OVERLOADED = re.compile(r"^warning: .*\[controller-slow\]\n", re.MULTILINE)


@dataclass(frozen=True)
class Names:
    """What stands in the document for the addresses of this run, in the order in which they are replaced."""

    shown: Mapping[str, str]

    def real(self, text: str) -> str:
        """A command of the document as it is typed here."""
        for real, shown in self.shown.items():
            text = text.replace(shown, real)
        return text

    def told(self, text: str) -> str:
        """An output of this run as the document shows it."""
        for real, shown in self.shown.items():
            text = text.replace(real, shown)
        return text


def without_overload(output: str) -> str:
    """The output without the warning of a controller that the machine of the tests is overloaded."""
    return _OVERLOADED.sub("", output)


def sections(document: Path) -> dict[str, list[Block]]:
    """The console blocks that are run, by the second-level heading under which they stand."""
    lines = document.read_text().splitlines()
    found: dict[str, list[Block]] = {line[3:]: [] for line in lines if line.startswith("## ")}
    for block in blocks(document):
        if block.kind == "console" and block.runs:
            heading = next(line for line in reversed(lines[: block.line]) if line.startswith("## "))
            found[heading[3:]].append(block)
    return found


def follow(
    somebody: Reader, block: Block, names: Names, instead: Mapping[str, Callable[[], None]] | None = None
) -> None:
    """Types the commands of a block. Raises AssertionError where the output differs from the document, and where a
    command of which no output is shown fails. `instead`: what the test does in place of a line, such as a restart by
    the service manager, which is another one here.
    """
    commands = block.commands()
    shows = any(command.output for command in commands)
    ran: list[Ran] = []
    for group in _groups(commands, instead or {}):
        if isinstance(group, list):
            ran += somebody.follow([Command(names.real(command.line), command.output) for command in group])
        else:
            line, do = group
            do()
            ran.append(Ran(Command(line, ""), "", 0))
    if UPDATES and shows:
        _rewrite(block, ran, names)
        return
    for step in ran:
        where = f"{block}: {step.command.line}\n{step.output}"
        if not shows:
            assert step.code == 0, where
            continue
        now, kept = comparable(without_overload(names.told(step.output))), comparable(step.command.output)
        difference = "\n".join(unified_diff(kept.splitlines(), now.splitlines(), "document", "now", lineterm=""))
        assert not difference, f"{block}: {step.command.line}\n{difference}"


def _groups(
    commands: Sequence[Command], instead: Mapping[str, Callable[[], None]]
) -> list[list[Command] | tuple[str, Callable[[], None]]]:
    """Commands that one shell runs, and between them what the test does itself."""
    groups: list[list[Command] | tuple[str, Callable[[], None]]] = []
    for command in commands:
        if command.line in instead:
            groups.append((command.line, instead[command.line]))
        elif groups and isinstance(groups[-1], list):
            groups[-1].append(command)
        else:
            groups.append([command])
    return groups


def _rewrite(block: Block, ran: Sequence[Ran], names: Names) -> None:
    assert not os.environ.get("CI"), "CTL_UPDATE_GOLDEN is set: nothing would be tested"
    shown = "".join(
        "$ {}\n".format(names.told(step.command.line).replace("\n", "\n> ")) + _tidy(names.told(step.output))
        for step in ran
    )
    lines = block.document.read_text().splitlines(keepends=True)
    # Blocks before this one have other lengths by now.
    places = (now.line for now in blocks(block.document) if now.text == block.text)
    begin = min(places, key=lambda line: abs(line - block.line))
    end = begin + len(block.text.splitlines())
    margin = lines[begin - 1].partition("`")[0]
    block.document.write_text("".join([*lines[:begin], indent(shown, margin), *lines[end:]]))


def _tidy(output: str) -> str:
    return re.sub(r" +$", "", output, flags=re.MULTILINE)
