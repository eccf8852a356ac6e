"""Generated parts of a document stand between two comments: `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""

from __future__ import annotations


def replaced(text: str, name: str, part: str) -> str:
    """The text with `part` between the markers of that name. Raises ValueError for a text without them."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the text needs the lines {begin} and {end}")
    return f"{before}{begin}\n\n{part}\n\n{end}{after}"
