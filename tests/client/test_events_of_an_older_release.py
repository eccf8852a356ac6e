"""Events of a controller of release 0.1.0, which filters the first 10,000 of them only, and knows fewer fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.domain.events import EventFilter
from dbgpt_ctl.domain.instance import InstanceKey
from tests.client.v1_samples import EVENT, STATUS

if TYPE_CHECKING:
    from tests.client.clients import MakeCalls

OTHER = InstanceKey("qwen@llm", "10.0.0.4", 8001)._asdict()
GLM = InstanceKey("glm4@llm", "10.0.0.5", 8001)._asdict()
DRAIN = {**EVENT, **GLM, "id": 10_696, "actor_name": "anna"}
ALL = [
    EVENT | OTHER | {"id": number, "verb": "expire", "actor": "expiry", "actor_name": None}
    for number in range(1, 10_696)
] + [DRAIN]


def older(request: httpx.Request) -> httpx.Response:
    """As release 0.1.0 answers."""
    if request.url.path.endswith("/status"):
        return httpx.Response(200, json=STATUS)
    query = dict(request.url.params)
    assert set(query) <= {"model_name", "host", "port", "after", "since", "limit"}
    names = [name for name in ("model_name", "host", "port") if name in query]
    after, limit = int(query.get("after", 0)), int(query["limit"])
    most = 10_000 if len(names) in {1, 2} else limit
    found = [event for event in ALL if event["id"] > after]
    found = found[:most] if "after" in query else found[-most:]
    found = [event for event in found if all(str(event[name]) == query[name] for name in names)]
    found = found[:limit] if "after" in query else found[-limit:]
    answer: dict[str, Any] = {"version": 1, "stream": "s", "last_id": 10_696, "missed": False, "events": found}
    return httpx.Response(200, content=json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("where", "after", "expected", "next_after"),
    [
        (EventFilter("glm4@llm"), 0, [10_696], 10_696),
        (EventFilter("glm4@llm"), None, [10_696], 10_696),
        (EventFilter(name="glm4"), 0, [10_696], 10_696),
        (EventFilter(by="anna"), None, [10_696], 10_696),
        (EventFilter(by="bob"), 0, [], 10_696),
        (EventFilter(verb="expire"), 10_690, [10_691, 10_692], 10_692),
        (EventFilter(verb="expire"), None, [10_694, 10_695], 10_696),
        (EventFilter(), 10_690, [10_691, 10_692], 10_692),
    ],
)
def test_all_pages_are_filtered_here(
    make_calls: MakeCalls, where: EventFilter, after: int | None, expected: list[int], next_after: int
) -> None:
    def ask(client: Any) -> Any:
        return client.events(where=where, after=after, limit=2)

    (page,) = make_calls("http://one", ask, handler=older)
    assert [event.id for event in page.events] == [found["id"] for found in page.objects] == expected
    assert (page.next_after, page.last_id) == (next_after, 10_696)
