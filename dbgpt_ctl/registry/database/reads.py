"""The reads of a registry in a database, each for a batch of calls that came together. Blocking."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dbgpt_ctl.registry.database.tables.events import read_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from dbgpt_ctl.domain.events import EventPage
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.contract import Listing, Lookup
    from dbgpt_ctl.registry.database.lanes import Query
    from dbgpt_ctl.registry.database.reader import Lists
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.events import EventQuery

__all__ = ["Reads"]


class Reads:
    """Who asks the same gets the same object. Answers are in the order of the calls. Raises as `Database.read`."""

    def __init__(self, database: Database, lists: Lists) -> None:
        self._database = database
        self._lists = lists

    def list(self, queries: Sequence[Query]) -> Sequence[Listing]:
        """Either lists of models, or of all."""
        answers = self._database.read(partial(self._lists.answer, set(queries)))
        return [answers[query] for query in queries]

    def get(self, keys: Sequence[InstanceKey]) -> Sequence[Lookup | None]:
        """None for what is not remembered."""
        found = self._database.read(partial(self._lists.look_up, set(keys)))
        return [found.get(key) for key in keys]

    def events(self, queries: Sequence[EventQuery]) -> Sequence[EventPage]:
        """A page for each."""

        def read(connection: Connection) -> dict[EventQuery, EventPage]:
            return {query: read_events(connection, query) for query in set(queries)}

        answers = self._database.read(read)
        return [answers[query] for query in queries]
