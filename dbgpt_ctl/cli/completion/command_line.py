r"""What stands on the command line of bash at TAB, and what may be put there.

bash hands over the raw line. It cuts words at COMP_WORDBREAKS (`@ : =` among them, which stand in every reference) and
inserts what a completion gives it as it is, so both have to be minded here; zsh and fish do that by themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PLAIN = re.compile(r"[^A-Za-z0-9_./:@+%=,\u0080-\U0010ffff-]")
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
    """One word, its quotes taken off. `quote` is the quote that is open at its end, or empty."""

    text: str = ""
    quote: str = ""
    redirection: bool = False
    """It follows an operator such as `>`: the name of a file, and no argument."""


@dataclass(slots=True)
class Line:
    """The words of a simple command up to the cursor; the last is the one to complete, maybe empty."""

    words: list[Word] = field(default_factory=lambda: [Word()])

    @classmethod
    def read(cls, raw: str) -> Line:
        """Takes quotes and backslashes off, expands nothing."""
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
        """All words but the first, which is the program, and the last."""
        return [word.text for word in self.words[:-1] if not word.redirection][1:]


def inserted(candidate: str, kept: Word) -> str | None:
    """What bash has to put after what it keeps of the word on the line; None if the candidate is no continuation."""
    if not candidate.startswith(kept.text):
        return None
    rest = candidate[len(kept.text) :]
    if kept.quote == "'":
        return rest.replace("'", "'\\''")
    if kept.quote:  # `!` recalls history even between double quotes
        return _IN_DOUBLE_QUOTES.sub(r"\\\g<0>", rest).replace("!", "\"'!'\"")
    return _PLAIN.sub(r"\\\g<0>", rest)
