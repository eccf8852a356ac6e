r"""How a shell gets candidates from `ctl`. The scripts of the shells are the other side of this protocol.

A shell calls `ctl` with the words of the line as arguments. The answer is a line `words` or `files`, then one candidate
per line, with a tab and a help text for zsh and fish. These two quote what they insert. bash sends the raw line instead
of words, and inserts a candidate as it is: it cuts words at COMP_WORDBREAKS (`@ : =` among them, which stand in every
reference), so this module parses the line of bash and quotes its candidates.

Typer's own scripts are not used: that of bash inserts a name unquoted, with its `$(...)`, and is wrong after `@` and
`:`; that of zsh calls `eval` on the answer; none of them completes file names.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dbgpt_ctl.cli.completion.candidates import FILES
from dbgpt_ctl.cli.completion.scripts import SCRIPTS
from dbgpt_ctl.cli.parsing.typer_internals import ShellComplete, add_completion_class, with_optional_values

if TYPE_CHECKING:
    from collections.abc import Iterable

_HELP_CHARS = 60
_UNSAFE = re.compile(r"[^A-Za-z0-9_./:@+%=,\u0080-\U0010ffff-]")
_IN_DOUBLE_QUOTES = re.compile(r'["$`\\]')
_PIECES = re.compile(
    r"""(?P<blank>[ \t\n]+)
      | (?P<operator> (?: (?<![^ \t\n]) [0-9]+ )? [<>]+ )
      | '(?P<single>[^']*)'
      | '(?P<open_single>[^']*)\Z
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | "(?P<open_double>(?:[^"\\]|\\.)*)\\?\Z
      | \\(?P<escaped>.?)
      | (?P<plain>[^ \t\n'"\\<>]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r'\\(["$`\\])')
_OPEN = {"open_single": "'", "open_double": '"'}


@dataclass(slots=True)
class Word:
    """A word without its quotes. `quote` is the quote that is open at its end, or empty."""

    text: str = ""
    quote: str = ""
    redirection: bool = False
    """It follows an operator such as `>`, so it is the name of a file and no argument."""


@dataclass(slots=True)
class Line:
    """The words of a simple command up to the cursor. The last, which may be empty, is the one to complete."""

    words: list[Word] = field(default_factory=lambda: [Word()])

    @classmethod
    def read(cls, raw: str) -> Line:
        """Removes quotes and backslashes and expands nothing."""
        line = cls()
        started = False
        for piece in _PIECES.finditer(raw):
            kind = piece.lastgroup or ""
            if kind == "blank":
                line.words += [Word()] if started else []
                started = False
            elif kind == "operator":
                line.words += [Word()] if started else []
                line.words[-1], started = Word(redirection=True), False
            else:
                text = piece[kind]
                line.words[-1].text += _ESCAPED.sub(r"\1", text) if kind in ("double", "open_double") else text
                line.words[-1].quote = _OPEN.get(kind, "")
                started = True
        return line

    @property
    def arguments(self) -> list[str]:
        """The words between the program and the word to complete."""
        return [word.text for word in self.words[:-1] if not word.redirection][1:]


def inserted(candidate: str, kept: Word) -> str | None:
    """The text that bash inserts after the kept part of a word; None if the candidate does not continue that part."""
    if not candidate.startswith(kept.text):
        return None
    rest = candidate[len(kept.text) :]
    if kept.quote == "'":
        return rest.replace("'", "'\\''")
    if kept.quote:  # `!` recalls history even between double quotes
        return _IN_DOUBLE_QUOTES.sub(r"\\\g<0>", rest).replace("!", "\"'!'\"")
    return _UNSAFE.sub(r"\\\g<0>", rest)


def offer_completions() -> None:
    """Registers the shells with Typer, for `_CTL_COMPLETE=complete_SHELL ctl ...`."""
    if add_completion_class is None:
        sys.exit(0)  # no candidates
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell, shell.name)


class _Shell(ShellComplete):  # type: ignore[misc]  # Any, see there
    """The arguments are the words after the program, without quotes, up to the cursor."""

    name: ClassVar[str]

    def source(self) -> str:
        return SCRIPTS[self.name]

    def source_vars(self) -> dict[str, Any]:
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        *args, incomplete = sys.argv[1:] or [""]
        return args, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[Any]:
        """Typer's items with whole words: `--type=llm` where Typer gives `llm`."""
        args = with_optional_values([_hyphenated(argument) for argument in args])
        option, equals, value = incomplete.partition("=")
        if not (equals and option.startswith("--")):
            return list(super().get_completions(args, incomplete))
        if value.startswith("-"):
            return []
        items = list(super().get_completions(args, f"{_hyphenated(option)}={value}"))
        for item in items:
            item.value = f"{option}={item.value}"
        return items

    def complete(self) -> str:
        items = self.get_completions(*self.get_completion_args())
        if any(item.help == FILES for item in items):
            return "files"
        # The shell could read a candidate that is not printable as two lines, and the terminal could obey it.
        return "\n".join(["words", *self.lines(item for item in items if item.value.isprintable())])

    def lines(self, items: Iterable[Any]) -> Iterable[str]:
        return map(self.format_completion, items)

    def format_completion(self, item: Any) -> str:
        return f"{item.value}\t{_short(item.help or '')}"


class Bash(_Shell):
    """The arguments are the line up to the cursor, and the end of it that bash will replace."""

    name = "bash"
    kept = Word()
    """The part of the word to complete that stays on the line."""

    def get_completion_args(self) -> tuple[list[str], str]:
        raw, tail = sys.argv[1:]
        line = Line.read(raw)
        self.kept = Line.read(raw.removesuffix(tail)).words[-1]
        return line.arguments, line.words[-1].text

    def complete(self) -> str:
        return "files" if Line.read(sys.argv[1]).words[-1].redirection else super().complete()

    def lines(self, items: Iterable[Any]) -> Iterable[str]:
        return (word for item in items if (word := inserted(item.value, self.kept)) is not None)


class Zsh(_Shell):
    """As `_Shell`."""

    name = "zsh"


class Fish(_Shell):
    """As `_Shell`, but the last word comes as it was typed: fish cannot remove its quotes."""

    name = "fish"

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return args, Line.read(f"ctl {incomplete}").words[-1].text


def _hyphenated(argument: str) -> str:
    """`--registry-type=...` for `--registry_type=...`, which Typer does not find when it completes."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def _short(text: str) -> str:
    """The first sentence, on one line."""
    line = " ".join(text.split()).partition(". ")[0].rstrip(".")
    return line if len(line) <= _HELP_CHARS else f"{line[: _HELP_CHARS - 3]}..."
