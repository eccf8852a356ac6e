"""The controllers that share a registry, and the settings in which they differ. Pure: no I/O, time is an argument.

Each controller keeps a record of itself in the storage that it shares with others, and renews it while it lives. States
are derived with the heartbeat timeout of the controller that is asked. So controllers with different timeouts give
different states for one instance. That happens when an operator changes the timeout one controller at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

RENEWED_AFTER = timedelta(seconds=10)
"""A record is renewed when it is that old."""
LIVING_FOR = timedelta(seconds=60)
"""A controller whose record is older has ended, or cannot reach the storage."""
FORGOTTEN_AFTER = timedelta(days=1)
MAX_SETTING = timedelta(days=366)
"""The longest timeout or interval of a record; settings allow a year."""


EXPIRES_SOON = timedelta(days=14)
"""A token or a certificate that expires within this time has to be renewed now."""


class Check(NamedTuple):
    """What a health check found of one part of a controller. `name` is one word, for people and scripts.

    `detail` says in one line what is wrong with the part; None: nothing is.
    """

    name: str
    detail: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.detail is None


class ControllerCondition(StrEnum):
    """What a health check shows of a controller."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It serves, and says what is wrong: its registry is away, or states are held."""
    LEAVING = "leaving"
    """It ends soon. Only a controller of this package says so; an older one is unhealthy then, with that reason."""
    UNHEALTHY = "unhealthy"
    """It answers with an error, such as 503 while its registry cannot be read."""
    UNREACHABLE = "unreachable"
    """No controller answers there."""


class ControllerIdentity(NamedTuple):
    """One process of a controller. `id` is random, `address` is the URL at which it listens."""

    id: str
    version: str
    address: str


class ControllerRecord(NamedTuple):
    """What a controller reports of itself to those with which it shares a registry; times by the registry's clock."""

    id: str
    version: str
    address: str
    heartbeat_timeout: timedelta
    heartbeat_interval: timedelta
    started_at: datetime
    seen_at: datetime

    def is_living(self, now: datetime) -> bool:
        """Whether the controller has renewed its record lately. One that is ahead was written before the clock was set
        back: its controller renews it at once, and if it does not, a sweep removes the record.
        """
        return now - self.seen_at <= LIVING_FOR

    def is_due(self, now: datetime) -> bool:
        """Whether the controller has to renew its record."""
        return not -FUTURE_TOLERANCE <= now - self.seen_at < RENEWED_AFTER


def announcing_timeout(own: timedelta, controllers: Iterable[ControllerRecord]) -> timedelta:
    """The heartbeat timeout after which an expiry is announced: the largest one of the living controllers.

    With its own timeout, a controller would announce the expiry of an instance that another one still lists as
    healthy, and the next heartbeat would announce that it is back: the instance would flap for no reason of its own.
    """
    return max((own, *(controller.heartbeat_timeout for controller in controllers)))


@dataclass(frozen=True, slots=True)
class SettingDifference:
    """A setting that the living controllers of one registry do not share."""

    setting: str
    """Its name for people, such as `heartbeat timeout`."""
    flag: str
    values: tuple[tuple[timedelta, tuple[str, ...]], ...]
    """Each value with the addresses of its controllers, the smallest first."""

    def __str__(self) -> str:
        parts = (f"{_seconds(value)}s at {' and '.join(addresses)}" for value, addresses in self.values)
        return f"{self.setting}s differ: {', '.join(parts)}"

    @property
    def line(self) -> str:
        """The difference and its fix, for the log and the commands. Health has the difference only."""
        return f"{self}; {self.fix}"

    @property
    def fix(self) -> str:
        """What to do. Only a person knows which value is right: the controller that started last may have a mistake."""
        return f"choose one value, and restart the controllers that have another one with {self.flag}"


def setting_differences(controllers: Iterable[ControllerRecord]) -> Iterator[SettingDifference]:
    """The settings in which living controllers of one registry differ."""
    known = tuple(controllers)
    timeouts = [controller.heartbeat_timeout for controller in known]
    intervals = [controller.heartbeat_interval for controller in known]
    for setting, values in (("heartbeat timeout", timeouts), ("heartbeat interval", intervals)):
        if len(set(values)) > 1:
            by_value = tuple(
                (value, tuple(sorted({each.address for each, its in zip(known, values, strict=True) if its == value})))
                for value in sorted(set(values))
            )
            flag = f"--{setting.replace(' ', '-')}-secs"
            yield SettingDifference(setting, flag, by_value)


def differing_timeouts_secs(controllers: Iterable[ControllerRecord]) -> tuple[float, ...]:
    """The heartbeat timeouts of the controllers in seconds, the shortest first, where they differ; else none."""
    timeouts = sorted({controller.heartbeat_timeout.total_seconds() for controller in controllers})
    return tuple(timeouts) if len(timeouts) > 1 else ()


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.12g}"
