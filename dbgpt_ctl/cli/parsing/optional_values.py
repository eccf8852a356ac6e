"""Options whose value may be left out, as `--ping[=LEVEL]`: a value follows `=`, never a space, as in getopt_long.

Click has such options (`is_flag=False, flag_value=...`), and Typer does not: its parser takes the next word as the
value. So a bare option gets its value before Typer parses the line.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOOLEAN = ("true", "false")
OPTIONAL_VALUES = MappingProxyType(
    {
        "--ping": ("generate", "metadata"),
        **dict.fromkeys(
            ("--require-auth", "--no-http", "--no-console", "--deny-loopback-hosts", "--access-log"), _BOOLEAN
        ),
    }
)
"""The values of these options, in all commands that have them. A bare option means the first."""


def with_optional_values(args: Sequence[str]) -> list[str]:
    """`--ping=generate` for `--ping`, up to a `--`, after which nothing is an option."""
    options = args.index("--") if "--" in args else len(args)
    values = {name: OPTIONAL_VALUES.get(name.replace("_", "-")) for name in args[:options]}  # `serve` takes both
    given = [f"{word}={known[0]}" if (known := values[word]) else word for word in args[:options]]
    return [*given, *args[options:]]


def value_after_space(args: Sequence[str]) -> str | None:
    """`--ping=metadata` where the line has `--ping metadata`: most likely that was meant, if the line is wrong."""
    pairs = ((option, value) for option, value in pairwise(args) if value in OPTIONAL_VALUES.get(option, ()))
    return next((f"{option}={value}" for option, value in pairs), None)
