"""Refuses a change that would take too many instances of a model out of service at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.cli.parsing.instance_filter import InstanceFilter
from dbgpt_ctl.domain.instance import SERVICE
from dbgpt_ctl.errors import WouldDisrupt

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from dbgpt_ctl.client.responses import KnownInstance
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
    lines = list(_disruptions(set(keys), instances, done, by_selector=by_selector))
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


def _disruptions(
    keys: set[InstanceKey], instances: Iterable[KnownInstance], done: str, *, by_selector: bool
) -> Iterator[str]:
    """A line for each model that loses too many."""
    routable = InstanceFilter().only_routable()
    listed = {instance.key for instance in instances if routable.matches(instance)}
    before = Counter(key.model_name for key in listed if key.type != SERVICE)
    taken = Counter(key.model_name for key in listed & keys if key.type != SERVICE)
    for name, count in sorted(taken.items()):
        of = f"{count} of {before[name]} would be {done}"
        if count == before[name]:
            yield f"{escaped(name)} would have no routable instance, because {of}"
        elif by_selector and count * 2 > before[name]:
            yield f"{escaped(name)} would lose more than half of its routable instances, because {of}"
