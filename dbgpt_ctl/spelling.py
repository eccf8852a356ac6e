"""The known word that somebody may have meant who wrote another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like `word`, ignoring case, if any does."""
    from difflib import get_close_matches  # slow to import, and needed after a typing error only

    folded = {other.casefold(): other for other in sorted(known, reverse=True)}
    close = get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def did_you_mean(suggestion: str | None) -> str:
    """The end of a message about an unknown word: `; did you mean qwen3@llm?`, or empty."""
    return f"; did you mean {suggestion}?" if suggestion else ""
