"""A module or a style sheet without what no browser needs: comments, and spaces that divide nothing. Each statement
stays on a line of its own.

It reads the JavaScript of the console, not just any: a `/` begins a regular expression after a sign, and divides after
a word, a `)` or a `]`; texts are between double quotes or are templates.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"(?P<gap>(?:\s|/\*.*?\*/|//[^\n]*)+)"
    r'|(?P<text>"(?:[^"\\\n]|\\.)*")'
    r"|(?P<word>[\w$#]+)"
    r"|(?P<signs>[^\w$#\s\"`/{}]+)"
    r"|(?P<mark>[`/{}])",
    re.DOTALL,
)
_EXPRESSION = re.compile(r"(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/\w*")
"""A regular expression after its first slash."""
_TEMPLATE = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.DOTALL)
"""The text of a template up to its end, or to its next expression."""
_NOTHING = re.compile("")
_DIVIDED = re.compile(r"[\w$#]{2}|[+-]{2}")
"""Two tokens that would be another one without a space."""
_OPEN, _CLOSE = "{([,", "})]"
"""After and before these, a new line means nothing."""
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_SPARE = re.compile(r"(?<=[:;,{}\n])\s+|\s+(?=\{)")


def compact_styles(source: str) -> str:
    """A style sheet without its comments, its indentation, and the spaces after signs."""
    return _SPARE.sub("", _COMMENT.sub("", source))


def compact_module(source: str) -> str:
    """A module without its comments, its indentation, and the spaces around signs."""
    found: list[str] = []
    open_braces: list[int] = []  # in each expression of a template that has begun
    position, gap, before = 0, "", ""
    while match := _TOKEN.match(source, position):
        position, token = match.end(), match[0]
        if match.lastgroup == "gap":
            gap = token
            continue
        if match.lastgroup == "mark" and (rest := _rest_of(token, before, open_braces).match(source, position)):
            position, token = rest.end(), token + rest[0]
            if token.endswith("${"):
                open_braces.append(0)
        found += _divider(gap, before, token), token
        gap, before = "", token
    return "".join(found)


def _rest_of(mark: str, before: str, open_braces: list[int]) -> re.Pattern[str]:
    """What belongs to a mark: the text of a template, a regular expression, or nothing."""
    if mark == "/":
        return _NOTHING if re.search(r"[\w)\]]$", before) else _EXPRESSION
    if mark == "`":
        return _TEMPLATE
    if open_braces:
        open_braces[-1] += 1 if mark == "{" else -1
        if open_braces[-1] < 0:
            open_braces.pop()
            return _TEMPLATE
    return _NOTHING


def _divider(gap: str, before: str, after: str) -> str:
    """What remains of the gap between two tokens."""
    if "\n" in gap and before[-1:] not in _OPEN and after[:1] not in _CLOSE:
        return "\n"
    return " " if gap and _DIVIDED.fullmatch(before[-1:] + after[:1]) else ""
