"""What a controller reports of itself: its status, and its tokens with the requests that it refuses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.wire.auth import AuthReportObject as SentAuthReport
from dbgpt_ctl.wire.auth import Tally
from dbgpt_ctl.wire.status import ModelCounts, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from dbgpt_ctl.client.results import Answer, KnownInstance

R = TypeVar("R", bound="ControllerStatus | AuthReport")


class ControllerStatus(Status):
    """An answer to `status`."""

    answered_by: str = ""
    """The URL that answered, without secrets."""

    @classmethod
    def read(cls, answer: Answer) -> ControllerStatus:
        """From /api/v1/status."""
        return _read(cls, answer)


class AuthReport(SentAuthReport):
    """An answer to `auth`. Times are the registry's, as far as the controller knows them."""

    answered_by: str = ""
    """The URL that answered, without secrets."""

    @property
    def digest(self) -> str | None:
        """Of the tokens; equal at controllers with the same tokens. None without a tokens file."""
        return self.tokens_file.digest if self.tokens_file else None

    @property
    def problem(self) -> str | None:
        """Why the tokens file of now is not in force."""
        return self.tokens_file.problem if self.tokens_file else None

    def since(self, begin: datetime) -> AuthReport:
        """The same with those refusals only that were seen since then."""
        refusals = self.refusals
        rows = [row for row in refusals.rows if row.last >= begin]
        other = [row for row in refusals.other if row.last >= begin]
        return replace(self, refusals=replace(refusals, rows=rows, other=other))

    @property
    def counted(self) -> Sequence[Tally]:
        """All rows, with those that have no row because there were too many: of these only some facts are known."""
        return (*self.refusals.rows, *self.refusals.other)

    @classmethod
    def read(cls, answer: Answer) -> AuthReport:
        """From /api/v1/auth."""
        return _read(cls, answer)


def _read(kind: type[R], answer: Answer) -> R:
    """Raises ValueError."""
    return msgspec.convert({**answer.fields, "answered_by": answer.controller}, kind)


def counts_of(instances: Iterable[KnownInstance], model_name: str = "") -> ModelCounts:
    """The counts of these instances."""
    known = tuple(instances)
    states = Counter(instance.state for instance in known)
    drained = [instance.state for instance in known if instance.drain is not None]
    return ModelCounts(
        model_name=model_name,
        healthy=states[InstanceState.HEALTHY],
        unhealthy=states[InstanceState.UNHEALTHY],
        deregistered=states[InstanceState.DEREGISTERED],
        routable=sum(instance.routable for instance in known),
        drained=len(drained),
        unhealthy_drained=drained.count(InstanceState.UNHEALTHY),
        held=sum(instance.held for instance in known),
        unchecked=sum(instance.state is InstanceState.HEALTHY and not instance.check_healthy for instance in known),
    )


def total(counts: Iterable[ModelCounts]) -> ModelCounts:
    """The sum of the counts of several models."""
    known = tuple(counts)
    numbers = {name: sum(getattr(each, name) for each in known) for name in ModelCounts.__struct_fields__[1:]}
    return ModelCounts(model_name="", **numbers)
