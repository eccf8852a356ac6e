"""Writes registered instances as the entries of a file for `ctl apply`. Pure.

    export_of     instances of a controller -> an `Export`
    Export        the entries, and what is not among them

`declarations` reads each entry as the instance that it was made of. What it would refuse is no entry: DB-GPT's own
controller registers names and ports that this one refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.fields import (
    parse_host,
    parse_model_name,
    parse_port,
    parse_prompt_template,
    parse_reason,
    parse_weight,
)
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.domain.references import reference_of, require_callable
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.times import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbgpt_ctl.cli.documents.instances import DeclaredDrain, DeclaredInstance
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.domain.instance import DrainFacts

_EPOCH = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Export:
    """The entries of a file, in order of identity, and what the file lacks."""

    entries: list[DeclaredInstance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A line for each instance, or weight of an instance, that is not in the file because `ctl apply` would refuse it.
    """
    duplicates: int = 0
    """Rows that are not in the file because another row of the same instance is."""
    excluded: int = 0
    """Unhealthy and deregistered instances that are not in the file, because it should not have them."""
    not_routable: int = 0
    """Entries that are unhealthy or deregistered, and not drained."""


def export_of(instances: Iterable[KnownInstance], *, all_states: bool) -> Export:
    """The entries of routable instances and of drained ones that are not deregistered; with `all_states` of all.

    Only DB-GPT's own controller lists an instance more than once. Of such rows a routable one counts, else the one with
    the latest heartbeat, as for a controller that forwards to it (`registry.remote`).
    """
    export = Export()
    kept: dict[InstanceKey, KnownInstance] = {}
    for instance in instances:
        try:
            key = _key(instance)
        except UsageError as error:
            if _is_exported(instance) or all_states:
                export.problems.append(f"{reference_of(instance.key)} left out: {error}")
            continue
        other = kept.get(key)
        export.duplicates += other is not None
        if other is None or _precedence(instance) > _precedence(other):
            kept[key] = instance
    for key in sorted(kept):
        _add(export, key, kept[key], all_states=all_states)
    return export


def _key(instance: KnownInstance) -> InstanceKey:
    """The identity, stripped as this project's controllers do it. Raises UsageError."""
    key = InstanceKey(parse_model_name(instance.model_name), parse_host(instance.host), parse_port(instance.port))
    require_callable(key.host)
    return key


def _precedence(instance: KnownInstance) -> tuple[bool, datetime]:
    """The row with the highest one counts."""
    return instance.routable, instance.last_heartbeat or _EPOCH


def _is_exported(instance: KnownInstance) -> bool:
    """A drain is the decision of an operator, so a drained instance is exported also while its worker is away."""
    return instance.routable or (instance.drain is not None and instance.state is not InstanceState.DEREGISTERED)


def _add(export: Export, key: InstanceKey, instance: KnownInstance, *, all_states: bool) -> None:
    if not _is_exported(instance):
        export.excluded += not all_states
        if not all_states:
            return
    try:
        entry = _entry(key, instance)
    except UsageError as error:
        export.problems.append(f"{reference_of(key)} left out: {error}")
        return
    if entry.get("weight", 0.0) < 0:
        # A worker may register it so, and DB-GPT ignores it: no reason to lose an instance that serves.
        weight = entry.pop("weight")
        export.problems.append(f"{reference_of(key)} exported without its weight: {weight:g} is negative")
    export.entries.append(entry)
    export.not_routable += not _is_exported(instance)


def _entry(key: InstanceKey, instance: KnownInstance) -> DeclaredInstance:
    """The fields of the file in their order; those at their default are left out. Raises UsageError."""
    weight, template = parse_weight(instance.weight), parse_prompt_template(instance.prompt_template)
    entry: DeclaredInstance = {"model": key.model_name, "host": key.host, "port": key.port}
    if weight != 1:
        entry["weight"] = weight
    if instance.drain is not None:
        _add_drain(entry, instance.drain)
    if template is not None:
        entry["prompt_template"] = template
    if not instance.check_healthy:
        entry["check_healthy"] = False
    return entry


def _add_drain(entry: DeclaredInstance, drain: DrainFacts) -> None:
    known: DeclaredDrain = {}
    if (reason := parse_reason(drain.reason)) is not None:
        known["reason"] = reason
    if drain.until is not None:
        known["until"] = utc_text(drain.until)
    if known:
        entry["drain"] = known
    else:
        entry["enabled"] = False
