r"""What stands on the command line of bash at TAB, and what may be put there.

bash hands over the raw line. It cuts words at COMP_WORDBREAKS (`@ : =` among them, which stand in every reference) and
inserts what a completion gives it as it is, so both have to be minded here; zsh and fish do that by themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PLAIN = re.compile(r"[^A-Za-z0-9_./:@+%=,\u0080-\U0010ffff-]")
_IN_DOUBLE_QUOTES = re.compile(r'["$`\\]')
_REDIRECTIONS = "<>"


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
        started, escaping = False, False
        for char in raw:
            word = line.words[-1]
            if escaping:
                escaping = False
                if word.quote and char not in '"$`\\':
                    word.text += "\\"
                word.text += char
            elif char == "\\" and word.quote != "'":
                escaping = started = True
            elif word.quote:
                word.quote, word.text = ("", word.text) if char == word.quote else (word.quote, word.text + char)
            elif char in "\"'":
                word.quote, started = char, True
            elif char in _REDIRECTIONS:
                line.words += [Word()] if started and not word.text.isdigit() else []
                line.words[-1], started = Word(redirection=True), False
            elif char in " \t\n":
                line.words += [Word()] if started else []
                started = False
            else:
                word.text, started = word.text + char, True
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
