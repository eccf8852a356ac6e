"""The log of instances: a line per change of state or drain, and none per heartbeat.

When very many change at the same time, as when a network fails, each kind of change has a few lines of its own and one
line that counts the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.controller.logs.formats import instance_fields
from dbgpt_ctl.domain.events import ABSENT, DRAIN_ENDED, EXPIRE, ActorKind
from dbgpt_ctl.errors import VerbNotSupported

if TYPE_CHECKING:
    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.contract import ModelRegistry

log = logging.getLogger("dbgpt_ctl.instances")

PAGE = 1000
MAX_LINES = 10
"""Lines of one kind between two calls of `follow`; what is beyond them is counted."""
MAX_MODELS = 5
"""Models that a count names."""
MAX_REFUSED = 10_000
"""At most this many instances whose heartbeats are refused are remembered; beyond, a warning may be repeated."""


class ChangeKind(NamedTuple):
    """What happened to instances: the end of a sentence about some of them, how bad it is, and the event of a JSON
    line.
    """

    phrase: str
    level: int
    advice: str = "ctl events lists all"
    event: str = "instance.changed"


FORWARDED = (
    "the names and addresses of callers are those that the controller behind this one saw: for a call through here the "
    "token and the address of this controller"
)
REFUSED = ChangeKind(
    "deregistered, still beating: their beats are refused until they register",
    logging.WARNING,
    "ctl models list --state deregistered lists all",
    "instance.heartbeat_refused",
)


class SumLine(NamedTuple):
    """A line that counts the instances without a line of their own."""

    kind: ChangeKind
    text: str
    instances: int


@dataclass(slots=True)
class LineLimit:
    """Decides which instances have a line of their own, and counts the others per kind and model."""

    _lines: Counter[ChangeKind] = field(default_factory=Counter)
    _others: dict[ChangeKind, Counter[str]] = field(default_factory=dict)

    def admits(self, kind: ChangeKind, model_name: str) -> bool:
        """Whether there is to be a line for this one; if not, it is counted."""
        if self._lines[kind] < MAX_LINES:
            self._lines[kind] += 1
            return True
        self._others.setdefault(kind, Counter())[model_name] += 1
        return False

    def renew(self) -> list[SumLine]:
        """A line for each kind that was counted; all begins anew then."""
        lines = [SumLine(kind, _counted(kind, models), models.total()) for kind, models in self._others.items()]
        self._lines.clear()
        self._others.clear()
        return lines


def _counted(kind: ChangeKind, models: Counter[str]) -> str:
    """`4,990 more instances expired: qwen3@llm 3,000, glm@llm 1,990; ctl events lists all`."""
    shown = ", ".join(f"{name} {count:,}" for name, count in models.most_common(MAX_MODELS))
    others = len(models) - MAX_MODELS
    more = f" and {others:,} more {'model' if others == 1 else 'models'}" if others > 0 else ""
    noun = "instance" if models.total() == 1 else "instances"
    return f"{models.total():,} more {noun} {kind.phrase}: {shown}{more}; {kind.advice}"


class StateLog:
    """Follows the numbered events of a registry, and logs each change of state with the caller that made it.

    Of several controllers on one database, each logs all changes.
    """

    def __init__(self) -> None:
        self._stream: str | None = None
        self._last_id = 0
        self._must_count = False
        self._without_events: ModelRegistry | None = None
        self._refused: set[InstanceKey] = set()
        self._limit = LineLimit()

    async def follow(self, registry: ModelRegistry) -> None:
        """Logs the changes since the last call. Raises what `registry` raises; the next call then continues. It is
        called about once a second, so that a kind of change has one line a second beside its MAX_LINES.

        The first call, and the first one for another numbering of events, logs no change. The call after it logs how
        many instances are known, if any were before: to count them may take long, and the first call delays requests.
        """
        try:
            if registry is not self._without_events:
                await self._follow(registry)
        finally:
            for kind, text, count in self._limit.renew():
                log.log(kind.level, "%s", _on_one_line(text), extra={"event": kind.event, "count": count})

    async def _follow(self, registry: ModelRegistry) -> None:
        try:
            if self._must_count:
                known = len((await registry.list()).entries)
                self._must_count = False
                if known:
                    log.info(
                        "%d instance%s known",
                        known,
                        " is" if known == 1 else "s are",
                        extra={"event": "instances.known"},
                    )
            more = True
            while more:
                more = await self._follow_page(registry)
                await asyncio.sleep(0)  # heartbeats have their turn
        except VerbNotSupported:
            self._without_events = registry
            log.info("the registry has no events: changes of state are not logged")

    def refused(self, key: InstanceKey, caller: str) -> None:
        """Logs that a heartbeat was refused, once until the instance registers again (rule 4). It may log it twice for
        an instance that registers and is deregistered again between two calls of `follow`.
        """
        if key not in self._refused:
            if len(self._refused) >= MAX_REFUSED:
                self._refused.clear()
            self._refused.add(key)
            if self._limit.admits(REFUSED, key.model_name):
                log.warning(
                    "%s is deregistered, still beating (from %s): its beats are refused until it registers",
                    key,
                    caller,
                    extra={"event": REFUSED.event, **instance_fields(key)},
                )

    async def _follow_page(self, registry: ModelRegistry) -> bool:
        """Whether there may be more events now."""
        if self._stream is None:
            page = await registry.events(limit=1)
        else:
            page = await registry.events(after=self._last_id, limit=PAGE)
        if page.stream != self._stream:
            self._stream, self._last_id, self._must_count = page.stream, page.last_id, page.last_id > 0
            if registry.describe().kind == "remote":
                log.info("%s", FORWARDED)
            return False
        if page.missed:
            log.warning(
                "changes of state are missing here: the registry does not have their events any more",
                extra={"event": "instances.changes_missing"},
            )
        for event in page.events:
            self._log_change(event.change)
        self._last_id = page.next_after
        return page.next_after < page.last_id

    def _log_change(self, change: Change) -> None:
        if change.cause.verb == "register":
            self._refused.discard(change.key)
        kind = kind_of(change)
        if self._limit.admits(kind, change.key.model_name):
            actor = change.cause.actor
            fields = {
                "event": kind.event,
                "actor": str(actor.kind),
                "actor_name": actor.name,
                "address": actor.address,
                "reason": change.cause.reason,
                **instance_fields(change.key),
            }
            log.log(kind.level, "%s", _on_one_line(f"{change.key} {described(change)}"), extra=fields)


def _on_one_line(text: str) -> str:
    """The text without characters that a log must not hold: a controller behind this one may send any."""
    return text if text.isprintable() else ascii(text)[1:-1]


def kind_of(change: Change) -> ChangeKind:
    """Which changes are counted together: those of one operator are."""
    verb, actor, _ = change.cause
    if verb == EXPIRE:
        phrase, level = ("expired while drained", logging.INFO) if change.drained else ("expired", logging.WARNING)
        return ChangeKind(phrase, level, event="instance.expired")
    if change.cause == DRAIN_ENDED:
        phrase = "no longer drained: the time of the drain is over"
        return ChangeKind(phrase, logging.INFO, event="instance.undrained")
    is_new, is_removed = change.old == ABSENT, change.new == ABSENT
    known = {
        "register": ("registered", "instance.registered"),
        "heartbeat": ("new, by heartbeats", "instance.registered") if is_new else _RECOVERED,
        "deregister": ("removed", "instance.removed") if is_removed else ("deregistered", "instance.deregistered"),
        "drain": ("drained", "instance.drained"),
        "undrain": ("undrained", "instance.undrained"),
        "prune": ("pruned", "instance.removed"),
    }
    phrase, event = known.get(verb, (f"{change.new} (were {change.old})", "instance.changed"))
    by = f" by {actor.caller}" if actor.kind is ActorKind.OPERATOR else ""
    return ChangeKind(f"{phrase}{by}", logging.INFO, event=event)


_RECOVERED = "healthy again", "instance.recovered"


def described(change: Change) -> str:
    """A change as the log has it, after the name of the instance."""
    verb, actor, reason = change.cause
    if change.cause == DRAIN_ENDED:
        return f"is not drained any more: the time of the drain is over, it is {change.new}"
    caller = actor.caller or actor.kind
    since = change.time.isoformat(timespec="seconds")
    drained = f"; it is drained{f': {reason}' if reason else ''}" if change.drained else ""
    changed = f"is {change.new} (was {change.old})"
    phrases = {
        "register": f"registered by {caller}{drained}",
        "heartbeat": f"is {change.new}: new, by a heartbeat from {caller}" if change.old == ABSENT else changed,
        "deregister": f"{'removed' if change.new == ABSENT else 'deregistered'} by {caller}",
        "drain": f"drained by {caller}: {reason}" if reason else f"drained by {caller}",
        "undrain": f"undrained by {caller}, it is {change.new}",
        "prune": f"pruned by {caller}",
        EXPIRE: f"is unhealthy since {since}: its last heartbeat is too old{drained}",
    }
    return phrases.get(verb, changed)
