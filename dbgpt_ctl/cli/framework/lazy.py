"""Commands that are imported and built when they are used: of some thirty, a command line needs one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.main import get_command, get_group

from dbgpt_ctl.cli.framework.errors import Command, Group

if TYPE_CHECKING:
    Places = Mapping[str, "str | typer.Typer"]
    """By the name of a verb or noun: `module:function`, or `module:app`, in dbgpt_ctl.cli; or a noun's application."""


def lazily(places: Places) -> type[Group]:
    """A group of these, in their order."""

    class LazyGroup(Group):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.commands = Commands(places)  # type: ignore[assignment]  # nobody adds to it

    return LazyGroup


def application(help: str, places: Places, **options: Any) -> typer.Typer:  # noqa: A002 - Typer's own word
    """A noun whose verbs are these."""
    return typer.Typer(cls=lazily(places), help=help, add_completion=False, rich_markup_mode=None, **options)


class Commands(Mapping[str, Any]):
    """What Click keeps in a dictionary. Names are known at once; a command is built when it is first looked at."""

    def __init__(self, places: Places) -> None:
        self._places = dict(places)
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _build(name, self._places[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places  # Mapping's own would build it


def _build(name: str, place: str | typer.Typer) -> Any:
    if isinstance(place, typer.Typer):
        return _group(name, place)
    module, _, attribute = place.partition(":")
    home = import_module(f"dbgpt_ctl.cli.{module}")
    found = getattr(home, attribute)
    if isinstance(found, typer.Typer):
        return _group(name, found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(name, cls=Command, context_settings=getattr(home, "CONTEXT_SETTINGS", None))(found)
    return get_command(alone)


def _group(name: str, app: typer.Typer) -> Any:
    group = get_group(app)
    group.name = name
    return group
