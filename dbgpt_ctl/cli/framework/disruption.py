"""Refuses a change that would take too many instances of a model out of service at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.client.instance_filter import InstanceFilter
from dbgpt_ctl.domain.instance import SERVICE
from dbgpt_ctl.errors import WouldDisrupt
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey

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
    is_routable = InstanceFilter().only_routable().matches
    routable = [instance for instance in instances if is_routable(instance) and instance.key.type != SERVICE]
    routed_by_all = {instance.model_name for instance in routable if not instance.disputed}
    listed = {instance.key for instance in routable if not (instance.disputed and instance.model_name in routed_by_all)}
    before = Counter(key.model_name for key in listed)
    taken: defaultdict[str, list[InstanceKey]] = defaultdict(list)
    for key in sorted(listed & set(keys)):
        taken[key.model_name].append(key)
    losses = [_Loss(name, lost, before[name]) for name, lost in sorted(taken.items())]
    return [loss for loss in losses if len(loss.keys) == loss.of or (by_selector and len(loss.keys) * 2 > loss.of)]
