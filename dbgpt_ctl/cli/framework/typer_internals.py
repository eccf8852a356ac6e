"""Every use of what Typer does not document: attributes of its parameters, and the Click that it carries inside.

Typer 0.29 and 0.30 are supported; pyproject.toml excludes 0.31. Each function below leaves Typer as it is where it does
not find what it expects, so that a command works without it, only slower; tests/cli/framework/test_typer_internals.py
fails with a plain message then.

    skip_pydantic      `ctl models list` takes FIGURE_SKIP
    hide_type          no effect on time: the help shows `NAME`, not `NAME <list[str]>`
    ShellComplete      the base class of completion, and its registration; Typer exports neither. It is `object` where
                       Typer has none, and completion offers nothing then
"""

from __future__ import annotations

from enum import EnumType
from typing import TYPE_CHECKING, Any

from typer import BadParameter
from typer.core import TyperArgument

from dbgpt_ctl.cli.output.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

ShellComplete: Any
add_completion_class: Any
try:
    from typer._click.shell_completion import ShellComplete, add_completion_class
except ImportError:
    ShellComplete, add_completion_class = object, None


def adapt(params: Iterable[Any]) -> None:
    """Makes the parameters of a command cheap to read and short to show."""
    for param in params:
        skip_pydantic(param)
        hide_type(param)


def skip_pydantic(param: Any) -> None:
    """Converts texts, choices and switches without pydantic, which takes 0.1 s to import. Other types keep Typer's way.

    Typer converts each value through `_runtime_param`, which it makes when that is None.
    """
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    simple = annotation in (str, list[str], bool) or isinstance(annotation, EnumType)
    if simple and hasattr(param, "_runtime_param"):
        vars(param)["_runtime_param"] = _Converter()


def hide_type(param: Any) -> None:
    """Leaves `<list[str]>` out after an argument's name in the help."""
    if isinstance(param, TyperArgument) and hasattr(param, "display_type_rich"):
        vars(param)["display_type_rich"] = lambda ctx: ""  # noqa: ARG005 - Typer's signature


class _Converter:
    """Stands in for Typer's RuntimeParam."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        choices, parser = param.type_descriptor.choices, param.type_descriptor.parameter_info.parser
        try:
            if parser is not None:
                return parser(value)
            return value if choices is None else next(choice for choice in choices if choice == value)
        except StopIteration:
            words = ", ".join(choice.value for choice in choices)
            raise BadParameter(f"{quoted(value)} is not one of {words}", ctx=ctx, param=param) from None
        except ValueError as error:
            raise BadParameter(str(error), ctx=ctx, param=param) from None
