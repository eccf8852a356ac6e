r"""Escapes text from unknown clients for an operator's terminal, and reads it back exactly.

Any client can register a model, and its name may contain escape codes, line breaks or marks that reverse the direction
of text. A character that is not printable is shown as `\x1b`, `\u202e` or `\U000e0001`; so is a backslash that would
look like the start of such an escape. Two different texts therefore never look the same, and `unescaped` restores what
`escaped` was given.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})")
_LONGEST_QUOTE = 200
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_OUTSIDE, _BETWEEN = re.compile(r"['\\]"), r"'\\\g<0>'"
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
    "|(?<=[\u0300-\u036f]{4})[\u0300-\u036f]"
)
"""Characters that Python counts as printable and nobody sees: fillers, blanks, selectors, marks piled on one letter."""


def escaped(text: str) -> str:
    """The text on one line, without characters that a terminal obeys or hides. Printable text stays as it is."""
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: "\\x5c" + match.group()[1:], text)
    return defused(text)


def defused(text: str) -> str:
    """The same, but backslashes stay: for lines with parts that are escaped already."""
    if pattern := invisible_characters(text):
        text = pattern.sub(lambda match: escape_of(match[0]), text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape_of(char) for char in text)


def unescaped(text: str) -> str:
    """The text that `escaped` turned into this one."""
    return _ESCAPE.sub(lambda match: chr(int(match.group().lstrip("\\xuU"), 16)), text)


def quoted(text: str) -> str:
    """An argument in an error message: escaped, in quotes, and cut to 200 characters."""
    shown = escaped(text)
    return f"'{shown}'" if len(shown) <= _LONGEST_QUOTE else f"'{shown[:_LONGEST_QUOTE]}...'"


def shell_argument(text: str) -> str:
    """The text as one argument of a command that a person pastes into a shell.

    Quotes and backslashes stand outside of the quotes. `shlex.quote` leaves backslashes inside, where fish obeys them:
    a stranger's name could end the quotes there, and be a command.
    """
    return text if _PLAIN.fullmatch(text) else f"'{_OUTSIDE.sub(_BETWEEN, text)}'"


def escape_of(char: str) -> str:
    r"""The shortest of `\xNN`, `\uNNNN` and `\UNNNNNNNN` for the character."""
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004 - what \x can hold
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - what \u can hold


def invisible_characters(text: str) -> re.Pattern[str] | None:
    """A pattern that finds the printable and invisible characters in the text; None if there are none."""
    return None if text.isascii() or not _INVISIBLE.search(text) else _INVISIBLE
