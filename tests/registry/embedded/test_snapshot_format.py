"""A snapshot with any wrong value is refused, and the message says where; what is written is read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from dbgpt_ctl.domain.events import OPERATOR, Actor, ActorKind, Cause, Change, Event
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState, ModelInstance
from dbgpt_ctl.domain.registry_outage import Pulse
from dbgpt_ctl.registry.embedded.snapshot_format import Snapshot, WrongSnapshot, decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
KEY = InstanceKey("qwen@llm", "[fe80::1%eth0]", 8001)
INSTANCE = ModelInstance(
    *(KEY, -0.5, False, "chat", NOW, NOW + timedelta(seconds=1), NOW, NOW),
    *(DrainFacts(NOW, "10.0.0.1", "a disk", NOW), InstanceState.DEREGISTERED, 7, True),
)
PLAIN = ModelInstance(KEY._replace(port=8002), 1.0, True, None, NOW, NOW)
CHANGES = [
    Change(
        NOW,
        KEY,
        "absent",
        "healthy",
        Cause("drain", OPERATOR._replace(address="10.0.0.1", name="anna"), "a disk"),
        drained=True,
    ),
    Change(NOW, KEY, "healthy", "unhealthy", Cause("expire", Actor(ActorKind.EXPIRY))),
]
SNAPSHOT = Snapshot(
    (INSTANCE, PLAIN), Pulse(NOW, NOW, NOW), "s-1", 12, tuple(map(Event, (11, 12), CHANGES)), complete=True
)


def edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = orjson.loads(encoded(SNAPSHOT))
    edit(document)
    return orjson.dumps(document)


def wrong(text: bytes) -> str:
    with pytest.raises(WrongSnapshot) as caught:
        decoded(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_written_is_read_back() -> None:
    assert decoded(encoded(SNAPSHOT)) == SNAPSHOT
    assert decoded(encoded(Snapshot())) == Snapshot()


def test_a_file_of_a_release_without_names_of_tokens_is_read() -> None:
    def as_before(document: dict[str, Any]) -> None:
        assert document["event_columns"].pop() == "actor_name"
        document["events"] = [row[:-1] for row in document["events"]]

    again = decoded(edited(as_before))
    actors = [event.change.cause.actor for event in again.events]
    assert actors == [change.cause.actor._replace(name=None) for change in CHANGES]
    assert decoded(encoded(again)) == again


def test_what_a_header_or_an_application_may_have_written_is_read_back() -> None:
    """A refused snapshot keeps a controller from starting."""
    drain = DrainFacts(NOW, "\x80" * 4000, "two\nlines " + "x" * 4000, NOW)
    odd = Snapshot((PLAIN._replace(drain=drain),), Pulse(NOW), "s", 0)
    assert decoded(encoded(odd)) == odd


def test_an_edit_in_another_spelling_is_read() -> None:
    """A time of another zone, a whole number as weight, spaces, a key of one's own."""

    def edit(document: dict[str, Any]) -> None:
        document["note"] = "edited"
        row = document["instances"][1]
        row[0] = " qwen@llm "
        row[3] = 1
        row[6] = "2026-01-02T05:04:05.000678+02:00"

    again = decoded(edited(edit))
    assert again == SNAPSHOT
    assert again.instances[1].registered_at.tzinfo is UTC
    assert encoded(again) == encoded(SNAPSHOT)


COLUMNS: list[str] = orjson.loads(encoded(SNAPSHOT))["columns"]
EVENT_COLUMNS: list[str] = orjson.loads(encoded(SNAPSHOT))["event_columns"]
NOT_TIMES = ["", "now", 5, "2026-01-02T03:04:05", "1969-12-31T23:59:59+00:00", "9999-12-31T23:59:59+00:00", []]
WRONG_VALUES: dict[str, list[Any]] = {
    "model_name": [5, None, "qwen", "qwen@", "a@b@c", "", "x" * 200, "a\nb@llm", ["qwen@llm"], {}],
    "host": [5, None, "", "http://h", "a b", "x" * 200, []],
    "port": ["8001", 0, -1, 65536, 8001.0, True, None, [], 2**64 - 1],
    "weight": ["1.0", None, True, [1.0]],
    "check_healthy": ["true", 1, None],
    "prompt_template": [5, "x" * 200, "\x1b[2J", False],
    "registered_at": [*NOT_TIMES, None],
    "last_heartbeat": [*NOT_TIMES, None],
    "deregistered_at": NOT_TIMES,
    "refused_at": NOT_TIMES,
    "drain": [
        *(True, "x", [], [None] * 3, [None] * 5),
        *([5, None, None, None], [None, {}, None, None], [None, None, 5, None], [None, None, None, "soon"]),
    ],
    "announced_state": ["absent", "drained", "", None, 5, []],
    "flaps": [-1, 1.5, "1", True, None, 2**63],
    "removed": [0, None, "no"],
}
WRONG_EVENT_VALUES: dict[str, list[Any]] = {
    "id": [13, 0, -1, "12", None, 11, 2**64 - 1],
    "time": [*NOT_TIMES, None],
    **{name: WRONG_VALUES[name] for name in InstanceKey._fields},
    "old": ["drained", None, 5],
    "new": ["", None, []],
    "verb": [None, 5],
    "actor": ["nobody", None, 5],
    "address": [5, []],
    "reason": [5, {}],
    "drained": [None, 1, "yes"],
    "actor_name": [5, []],
}


def test_every_column_has_wrong_values() -> None:
    assert list(WRONG_VALUES) == COLUMNS
    assert list(WRONG_EVENT_VALUES) == EVENT_COLUMNS


@pytest.mark.parametrize(("column", "value"), [(name, value) for name in WRONG_VALUES for value in WRONG_VALUES[name]])
def test_a_wrong_value_of_an_instance(column: str, value: Any) -> None:
    message = wrong(edited(lambda document: document["instances"][1].__setitem__(COLUMNS.index(column), value)))
    assert message.startswith("instances[1], ")
    assert column in message or column == "drain"


@pytest.mark.parametrize(
    ("column", "value"), [(name, value) for name in WRONG_EVENT_VALUES for value in WRONG_EVENT_VALUES[name]]
)
def test_a_wrong_value_of_an_event(column: str, value: Any) -> None:
    message = wrong(edited(lambda document: document["events"][1].__setitem__(EVENT_COLUMNS.index(column), value)))
    assert message.startswith(("events[1], ", "the ids of its events do not rise"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda document: document.pop("instances"), "instances is not a list"),
        (lambda document: document["instances"].append({}), "instances[2] is not a list of 14 values"),
        (lambda document: document["instances"][0].pop(), "instances[0] is not a list of 14 values"),
        (lambda document: document["columns"].pop(), "columns is not the list model_name, host, port, weight"),
        (lambda document: document["columns"].append("zone"), "columns is not the list model_name, host, port"),
        (lambda document: document.pop("event_columns"), "event_columns is not the list id, time, model_name"),
        (lambda document: document["events"].pop(0) and document["events"].append([]), "events[1] is not a list of 13"),
        (lambda document: document.update(last_id=11), "the ids of its events do not rise up to last_id, which is 11"),
        (lambda document: document.update(last_id="12"), "last_id '12' is not a whole number"),
        (lambda document: document.update(stream=5), "stream 5 is not a text or null"),
        (
            lambda document: document.update(stream="a\n\nid: 1"),
            "stream 'a\\n\\nid: 1' is not one line of",
        ),
        (lambda document: document.update(complete=None), "complete None is not true or false"),
        (lambda document: document.update(pulse=[]), "its pulse is not an object with ticked_at, gone_at, back_at"),
        (lambda document: document["pulse"].pop("gone_at"), "its pulse is not an object with ticked_at"),
        (lambda document: document["pulse"].update(ticked_at=None), "ticked_at None is not a text"),
        (lambda document: document["pulse"].update(back_at="2026-01-02"), "back_at '2026-01-02' has no time zone"),
    ],
)
def test_a_wrong_document(edit: Callable[[dict[str, Any]], object], message: str) -> None:
    assert wrong(edited(edit)).startswith(message)


def test_an_instance_that_is_there_twice_or_contradicts_itself() -> None:
    twice = wrong(edited(lambda document: document["instances"].append(document["instances"][1])))
    assert twice == "instances[2]: 'qwen@llm/[fe80::1%eth0]:8002' is there twice"
    contradiction = wrong(edited(lambda document: document["instances"][1].__setitem__(-1, True)))
    assert contradiction == "instances[1]: 'qwen@llm/[fe80::1%eth0]:8002' is removed and not deregistered"


def test_the_message_says_which_instance_and_which_value() -> None:
    message = wrong(edited(lambda document: document["instances"][1].__setitem__(2, "8002")))
    assert message == "instances[1], ['qwen@llm', '[fe80::1%eth0]', '8002']: port '8002' is not a whole number"
    message = wrong(edited(lambda document: document["instances"][1].__setitem__(6, "2026-01-02T03:04:05")))
    assert message.endswith(": registered_at '2026-01-02T03:04:05' has no time zone")


@pytest.mark.parametrize("text", [b"NaN", b"[1e999]", b"Infinity", b'"\\ud800"', b"[" * 100_000])
def test_numbers_and_texts_that_are_no_json(text: bytes) -> None:
    assert wrong(text)
