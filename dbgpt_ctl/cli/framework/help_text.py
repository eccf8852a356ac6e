"""What a help text has beside Typer's own parts: the exit codes of a command, its examples, and wider columns."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIRST_COLUMN = 24
"""Characters for the names of options: with Typer's 30, the longest variable does not fit beside them."""


class Sections(NamedTuple):
    """The sections after the options. `exit_codes` are those with a meaning of their own for the command."""

    examples: tuple[str, ...] = ()
    exit_codes: Mapping[int, str] = MappingProxyType({})

    def write(self, formatter: Any) -> None:
        """Writes the sections that are not empty; an example is never wrapped, so that it can be copied."""
        if self.exit_codes:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), meaning) for code, meaning in self.exit_codes.items()])
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def explained(
    *examples: str, exit_codes: Mapping[int, str] = MappingProxyType({})
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives the help of a command its examples, each a line that can be copied, and its exit codes."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        vars(command)["sections"] = Sections(examples, exit_codes)
        return command

    return decorate


def sections_of(command: Callable[..., Any]) -> Sections:
    """What `explained` gave the command."""
    found: Sections = vars(command).get("sections", Sections())
    return found
