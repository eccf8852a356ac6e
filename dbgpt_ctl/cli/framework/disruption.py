"""What stands before a change of many instances: a question, and a refusal where a model would lose too many at once.

A command asks where a person can answer: standard input and standard error are terminals. Elsewhere, as in a script or
in a pipe, `--yes` is required.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.output.stdout import ask, say
from dbgpt_ctl.domain.filters import InstanceFilter
from dbgpt_ctl.domain.instance import SERVICE
from dbgpt_ctl.domain.references import first_references
from dbgpt_ctl.errors import NotConfirmed, UsageError, WouldDisrupt
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Self

    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the change; required without a terminal.")]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Asks before a change, unless it was confirmed on the command line. `action` is a verb, as in `drain`."""

    action: str
    asks: bool

    @classmethod
    def needed(cls, action: str, *, yes: bool, dry_run: bool = False) -> Self:
        """To be called before anything is sent. A dry run never asks.

        Raises UsageError where nobody can be asked, so that a script fails always and not only when something matches.
        """
        asks = not (yes or dry_run)
        if asks and not _can_ask():
            raise UsageError(
                f"there is no terminal to ask on before these changes: give --yes to {action} the instances, or "
                "--dry-run to see what would be done"
            )
        return cls(action, asks)

    def confirm(self, keys: Sequence[InstanceKey]) -> None:
        """Asks whether to change these instances; not if there is none. Raises NotConfirmed for all but y and yes."""
        if self.asks and keys and ask(self._question(keys)).strip().lower() not in ("y", "yes"):
            raise NotConfirmed("not confirmed: nothing was changed")

    def _question(self, keys: Sequence[InstanceKey]) -> str:
        count = "1 instance" if len(keys) == 1 else f"{len(keys)} instances"
        return f"{self.action} {count}: {first_references(keys)}? [y/N] "


def _can_ask() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


MOST_SHOWN = 5

Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Also where a model keeps no routable instance, or a selector takes more than half of them."
    ),
]


def refuse_disruption(
    keys: Collection[InstanceKey], instances: Iterable[KnownInstance], done: str, *, by_selector: bool
) -> None:
    """Raises WouldDisrupt if a model would lose its last routable instance, or by a selector more than half of them.

    `instances`: at least all instances of the models of the keys. `done`: what happens to the keys, as in `drained`.
    A model without a routable instance loses none, and type service is routed by nobody.
    """
    lines = [loss.line(done) for loss in _too_large(keys, instances, by_selector=by_selector)]
    if not lines:
        return
    end = f"nothing was {done}; --force does it all the same"
    if len(lines) == 1:
        raise WouldDisrupt(f"{lines[0]}: {end}")
    for line in lines[:MOST_SHOWN]:
        say(line)
    if len(lines) > MOST_SHOWN:
        say(f"and {len(lines) - MOST_SHOWN} more models")
    raise WouldDisrupt(f"too many instances of {len(lines)} models at once: {end}")


def refused_references(
    keys: Collection[InstanceKey], instances: Iterable[KnownInstance], done: str
) -> dict[InstanceKey, str]:
    """Of references, those that are not changed because their model would have no routable instance, each with the
    reason. The others may be changed. Arguments as in `refuse_disruption`.

    Raises WouldDisrupt if nothing else is to be changed.
    """
    instances = list(instances)
    losses = _too_large(keys, instances, by_selector=False)
    refused = {
        key: f"not {done}: {loss.line(done)}; --force does it all the same" for loss in losses for key in loss.keys
    }
    if refused and len(refused) == len(set(keys)):
        refuse_disruption(keys, instances, done, by_selector=False)
    return refused


@dataclass(frozen=True, slots=True)
class _Loss:
    """The routable instances that a model would lose."""

    model_name: str
    keys: list[InstanceKey]
    of: int
    """How many routable instances the model has."""

    def line(self, done: str) -> str:
        """As in `qwen@llm would have no routable instance, because 2 of 2 would be drained`."""
        loses = (
            "lose more than half of its routable instances" if len(self.keys) < self.of else "have no routable instance"
        )
        return f"{escaped(self.model_name)} would {loses}, because {len(self.keys)} of {self.of} would be {done}"


def _too_large(keys: Collection[InstanceKey], instances: Iterable[KnownInstance], *, by_selector: bool) -> list[_Loss]:
    """The models that lose too many, in order of their names. An instance to which not every controller routes counts
    only where a model has no other.
    """
    is_routable = InstanceFilter(routable=True).matches
    routable = [instance for instance in instances if is_routable(instance) and instance.key.type != SERVICE]
    routed_by_all = {instance.model_name for instance in routable if not instance.disputed}
    listed = {instance.key for instance in routable if not (instance.disputed and instance.model_name in routed_by_all)}
    before = Counter(key.model_name for key in listed)
    taken: defaultdict[str, list[InstanceKey]] = defaultdict(list)
    for key in sorted(listed & set(keys)):
        taken[key.model_name].append(key)
    losses = [_Loss(name, lost, before[name]) for name, lost in sorted(taken.items())]
    return [loss for loss in losses if len(loss.keys) == loss.of or (by_selector and len(loss.keys) * 2 > loss.of)]
