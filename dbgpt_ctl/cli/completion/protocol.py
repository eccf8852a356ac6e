"""Completion in four shells. Typer finds out what may come next; here is how a shell asks, and what it is told.

Typer's own scripts are not used: bash would insert a name as it is, with its `$(...)`, and be wrong after `@` and `:`;
zsh would `eval` what it is told; PowerShell would insert names unquoted; none can ask for the name of a file. Here a
shell gives the words as arguments and gets lines: first `words` or `files`, then candidates, for all but bash with a
tab and a help text. zsh and fish quote what they insert; for bash and PowerShell it comes quoted.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from typer._click.shell_completion import ShellComplete, add_completion_class

from dbgpt_ctl.cli.completion.candidates import FILES
from dbgpt_ctl.cli.completion.command_line import Line, Word, inserted
from dbgpt_ctl.cli.completion.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typer._click.shell_completion import CompletionItem

_HELP_CHARS = 60
_PLAIN_IN_POWERSHELL = re.compile(r"[A-Za-z0-9_./:+%=-][A-Za-z0-9_./:@+%=-]*")
_QUOTES_OF_POWERSHELL = re.compile("['\u2018-\u201b]")


class _Shell(ShellComplete):
    """zsh and fish: the arguments are the words after the program, quotes taken off, up to the cursor."""

    name: ClassVar[str]

    def source(self) -> str:
        return SCRIPTS[self.name]

    def source_vars(self) -> dict[str, Any]:
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        *args, incomplete = sys.argv[1:] or [""]
        return args, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Whole words: `--type=llm` where Typer says `llm`."""
        args = [_hyphened(each) for each in args]
        option, equals, value = incomplete.partition("=")
        if not (equals and option.startswith("--")):
            return super().get_completions(args, incomplete)
        if value.startswith("-"):
            return []
        items = super().get_completions(args, f"{_hyphened(option)}={value}")
        for item in items:
            item.value = f"{option}={item.value}"
        return items

    def complete(self) -> str:
        items = self.get_completions(*self.get_completion_args())
        if any(item.help == FILES for item in items):
            return "files"
        # What is not printable could be taken for another line, or obeyed by the terminal.
        return "\n".join(["words", *self.lines(item for item in items if item.value.isprintable())])

    def lines(self, items: Iterable[CompletionItem]) -> Iterable[str]:
        return map(self.format_completion, items)

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.value}\t{_short(item.help or '')}"


class Bash(_Shell):
    """The arguments are the line up to the cursor, and the end of it that bash will replace."""

    name = "bash"
    kept = Word()
    """Of the word to complete, what stays on the line."""

    def get_completion_args(self) -> tuple[list[str], str]:
        raw, tail = sys.argv[1:]
        line = Line.read(raw)
        self.kept = Line.read(raw.removesuffix(tail)).words[-1]
        return line.arguments, line.words[-1].text

    def complete(self) -> str:
        return "files" if Line.read(sys.argv[1]).words[-1].redirection else super().complete()

    def lines(self, items: Iterable[CompletionItem]) -> Iterable[str]:
        return (word for item in items if (word := inserted(item.value, self.kept)) is not None)


class Zsh(_Shell):
    """As `_Shell`."""

    name = "zsh"


class Fish(_Shell):
    """As `_Shell`; but the last word comes as it was typed, which fish has no way to take the quotes off from."""

    name = "fish"

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return args, Line.read(f"ctl {incomplete}").words[-1].text


class PowerShell(_Shell):
    """The arguments come through the environment, one a line: older ones drop empty arguments and quotes in others."""

    name = "powershell"

    def get_completion_args(self) -> tuple[list[str], str]:
        import os

        *args, incomplete = os.environ.get("_CTL_WORDS", "").split("\n")
        return args, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        word = item.value
        if not _PLAIN_IN_POWERSHELL.fullmatch(word):
            word = "'" + _QUOTES_OF_POWERSHELL.sub(r"\g<0>\g<0>", word) + "'"
        return f"{word}\t{item.value}\t{_short(item.help or '') or item.value}"


def offer_completions() -> None:
    """Tells Typer how to serve these shells, for `_CTL_COMPLETE=complete_SHELL ctl ...`."""
    for kind in (Bash, Zsh, Fish, PowerShell):
        add_completion_class(kind, kind.name)


def _hyphened(argument: str) -> str:
    """`--registry_type=...` is `--registry-type=...`; Typer's search for options does not know that."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def _short(text: str) -> str:
    """The first sentence, on one line."""
    line = " ".join(text.split()).partition(". ")[0].rstrip(".")
    return line if len(line) <= _HELP_CHARS else f"{line[: _HELP_CHARS - 3]}..."
