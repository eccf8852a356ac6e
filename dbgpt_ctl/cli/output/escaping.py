r"""Strangers' text on an operator's terminal: shown escaped, read back exactly.

A model's name comes from whoever registered it, and may hold escape codes, line breaks or marks that turn the
direction of writing. What is not printable is shown as `\x1b`, `\u202e`, `\U000e0001`, and so is a backslash that would
look like the start of such an escape: two different texts never look the same, and `unescaped` restores what `escaped`
was given.
"""

from __future__ import annotations

import re

from dbgpt_ctl.domain.fields import invisible_characters

_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})")
_LONGEST_QUOTE = 200


def escaped(text: str) -> str:
    """One line without anything that a terminal obeys or does not show; printable text stays as it is."""
    if "\\" in text:
        text = _ESCAPE.sub(lambda found: "\\x5c" + found.group()[1:], text)
    return defused(text)


def defused(text: str) -> str:
    """The same without the care for backslashes: for lines in which parts may be escaped already."""
    if pattern := invisible_characters(text):
        text = pattern.sub(lambda found: escape_of(found[0]), text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape_of(char) for char in text)


def unescaped(text: str) -> str:
    """The text that `escaped` showed as this one."""
    return _ESCAPE.sub(lambda found: chr(int(found.group().lstrip("\\xuU"), 16)), text)


def quoted(text: str) -> str:
    """An argument in an error line: escaped, in quotes, and short."""
    shown = escaped(text)
    return f"'{shown}'" if len(shown) <= _LONGEST_QUOTE else f"'{shown[:_LONGEST_QUOTE]}...'"


def escape_of(char: str) -> str:
    r"""`\xNN`, `\uNNNN` or `\UNNNNNNNN`, the shortest that holds the character."""
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004 - what \x can hold
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - what \u can hold
