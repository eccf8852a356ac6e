"""The documents of this repository, taken apart: their code blocks, the commands in them, their links and headings."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
"""On the line before a block: its commands are read and not run, and why. A reader does not see it."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"(?<!\[)`[^`\n]+`(?!\])")
"""But not the text of a link."""
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """What stands after a `$`, with its continuations after `>`, and the output that follows."""

    line: str
    output: str


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int
    kind: str
    text: str
    runs: bool
    """False: the document says that it is not run."""

    def commands(self) -> list[Command]:
        """Of a `console` block. Raises ValueError for output before the first command."""
        commands: list[Command] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                commands.append(Command(line[2:], ""))
            elif not commands:
                raise ValueError(f"{self}: {line!r} comes before a command")
            elif line.startswith("> ") and not commands[-1].output:
                commands[-1] = Command(f"{commands[-1].line}\n{line[2:]}", "")
            else:
                commands[-1] = Command(commands[-1].line, f"{commands[-1].output}{line}\n")
        return commands

    def __str__(self) -> str:
        document = self.document.relative_to(ROOT) if self.document.is_relative_to(ROOT) else self.document
        return f"{document}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks, in order."""
    text = document.read_text()
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        marker = before.rstrip("\n").rpartition("\n")[2]
        yield Block(
            document,
            line=before.count("\n") + 1,
            kind=found["kind"],
            text=textwrap.dedent(found["text"]),
            runs=not NOT_RUN.fullmatch(marker.strip()),
        )


def block_with(document: Path, text: str) -> Block:
    """The only block of the document with this text in it."""
    (found,) = [block for block in blocks(document) if text in block.text]
    return found


def links(document: Path) -> list[str]:
    """The targets of links outside of code."""
    return [found["target"] for found in _LINK.finditer(_INLINE_CODE.sub("", _prose(document)))]


def anchors(document: Path) -> set[str]:
    """What `#...` may name: GitHub's form of each heading."""
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(_prose(document)))
    return {heading.replace(" ", "-") for heading in headings}


def _prose(document: Path) -> str:
    return _FENCE.sub("", document.read_text())
