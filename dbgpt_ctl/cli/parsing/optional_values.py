"""Options whose value may be left out, as `--ping[=LEVEL]`: a value follows `=`, never a space, as in getopt_long.

Click has such options (`is_flag=False, flag_value=...`), and Typer does not: its parser takes the next word as the
value. So a bare option gets its value before Typer parses the line.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONAL_VALUES = MappingProxyType({"--ping": "generate"})
"""What a bare option means, in all commands that have it."""


def with_optional_values(args: Sequence[str]) -> list[str]:
    """`--ping=generate` for `--ping`, up to a `--`, after which nothing is an option."""
    options = args.index("--") if "--" in args else len(args)
    given = [f"{word}={OPTIONAL_VALUES[word]}" if word in OPTIONAL_VALUES else word for word in args[:options]]
    return [*given, *args[options:]]
