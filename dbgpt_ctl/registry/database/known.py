"""The last full list: what lists are answered from while the database is away (rule 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.registry.contract import Listing

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.instance import ListedInstance


class LastKnown:
    """States stay as they were at `at`: nobody can beat while the database is away, so nobody is expired either."""

    def __init__(self, listing: Listing, at: datetime) -> None:
        self.at = at
        self._all = listing
        self._by_model: dict[str, list[ListedInstance]] | None = None
        self._listings: dict[tuple[str | None, bool], Listing] = {}

    def listing(self, model_name: str | None, *, healthy_only: bool) -> Listing:
        """The answer to a list, marked as stale."""
        query = (model_name, healthy_only)
        if query not in self._listings:
            entries = self._all.entries if model_name is None else self._models().get(model_name, ())
            chosen = tuple(each for each in entries if not healthy_only or each.state is InstanceState.HEALTHY)
            if not chosen:
                return Listing((), stale_since=self.at)  # not kept: a stranger may ask for any name
            self._listings[query] = Listing(chosen, stale_since=self.at)
        return self._listings[query]

    def _models(self) -> dict[str, list[ListedInstance]]:
        if self._by_model is None:
            self._by_model = {}
            for entry in self._all.entries:
                self._by_model.setdefault(entry.instance.key.model_name, []).append(entry)
        return self._by_model
