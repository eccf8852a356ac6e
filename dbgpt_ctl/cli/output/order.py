"""The orders of a list of instances."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.client.results import KnownInstance

_BY_SEVERITY = (
    (InstanceState.UNHEALTHY, False),
    (InstanceState.UNHEALTHY, True),
    (InstanceState.DEREGISTERED, False),
    (InstanceState.DEREGISTERED, True),
    (InstanceState.HEALTHY, True),
    (InstanceState.HEALTHY, False),
)
"""States, and whether an instance is drained: the worst first. What is drained and unhealthy is planned."""
_EPOCH = datetime.min.replace(tzinfo=UTC)
_NUMBER = re.compile(r"([0-9]+)")


def _weight(instance: KnownInstance) -> float:
    """A controller may report a weight that is no number."""
    return instance.weight if isinstance(instance.weight, int | float) else float("-inf")


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Sorts 10.0.0.9 before 10.0.0.10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _NUMBER.split(text)]


SORT_KEYS: dict[str, Callable[[KnownInstance], Any]] = {
    "name": lambda instance: _natural(instance.model_name),
    "type": lambda instance: instance.model_name.partition("@")[2],
    "host": lambda instance: _natural(instance.host),
    "port": lambda instance: instance.port,
    "state": lambda instance: _BY_SEVERITY.index((instance.state, instance.drain is not None)),
    "beat": lambda instance: instance.last_heartbeat or _EPOCH,
    "weight": _weight,
}
"""The keys of a stable sort, by the value of `--sort-by`. The oldest heartbeat and the worst state come first."""
