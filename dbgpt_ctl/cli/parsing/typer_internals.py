"""Every use of what Typer does not document: attributes of its parameters, and the Click that it contains.

Written for Typer 0.29; pyproject.toml has the upper pin. Where Typer lacks what a function below expects, the function
leaves Typer as it is: commands work without it. tests/cli/parsing/test_typer_internals.py fails with a plain message
then.

    skip_pydantic    `ctl models list` takes 0.15 s of CPU time, and 0.22 s without it (medians of 20 pairs)
    hide_type        costs and saves nothing: the help shows `NAME` instead of `NAME <list[str]>`
    narrow           gives the text of a help 50 of 80 columns, the length of the longest variable; without it, the name
                     of that variable is cut in two
    ShellComplete    the base class of completion and its registration, which Typer does not export; without them,
                     completion offers nothing
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from typer import BadParameter
from typer.core import TyperArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


ShellComplete: Any
add_completion_class: Any
try:
    from typer._click.shell_completion import ShellComplete, add_completion_class
except ImportError:
    ShellComplete, add_completion_class = object, None


def adapt(params: Iterable[Any]) -> None:
    """Applies `skip_pydantic` and `hide_type` to the parameters of a command."""
    for param in params:
        skip_pydantic(param)
        hide_type(param)


def skip_pydantic(param: Any) -> None:
    """Converts the values of texts, switches and options with a parser without pydantic, whose import takes 0.07 s.

    Typer converts a value through `_runtime_param`, and makes one with pydantic where that is None.
    """
    try:
        descriptor, _ = param.type_descriptor, param._runtime_param  # noqa: SLF001 - what this module is for
        annotation, parser = descriptor.annotation, descriptor.parameter_info.parser
    except AttributeError:
        return
    if parser is not None or annotation in (str, list[str], bool):
        vars(param)["_runtime_param"] = _Converter(parser)


def hide_type(param: Any) -> None:
    """Leaves `<list[str]>` out after an argument's name in the help."""
    if isinstance(param, TyperArgument) and hasattr(param, "display_type_rich"):
        vars(param)["display_type_rich"] = lambda ctx: ""  # noqa: ARG005 - Typer's signature


def narrow(context: Any, first_column: int) -> None:
    """Makes the first column of a help narrower: the names of options and commands."""
    known = getattr(context, "formatter_class", None)
    if known is None:
        return

    class Formatter(known):  # type: ignore[misc, valid-type]  # the class that the context would use
        def write_dl(self, rows: Any, col_max: int = first_column, col_spacing: int = 2) -> None:
            super().write_dl(rows, col_max, col_spacing)

    vars(context)["formatter_class"] = Formatter


class _Converter:
    """Stands in for Typer's RuntimeParam. No dataclass: making one takes longer than all its conversions."""

    def __init__(self, parser: Callable[[str], Any] | None) -> None:
        self.parser = parser

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        try:
            return value if self.parser is None else self.parser(value)
        except ValueError as error:
            raise BadParameter(str(error), ctx=ctx, param=param) from None


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
