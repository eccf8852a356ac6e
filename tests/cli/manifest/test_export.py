"""What is written of each instance, and that `ctl apply` reads it back as the same instance."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dbgpt_ctl.cli.manifest.declarations import Declaration, read_declarations
from dbgpt_ctl.cli.manifest.export import Export, export_of
from dbgpt_ctl.cli.output.stdout import print_json, print_yaml
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
UNHEALTHY, DEREGISTERED = InstanceState.UNHEALTHY, InstanceState.DEREGISTERED
PLAIN = {"model": "qwen@llm", "host": "10.0.0.4", "port": 8001}


def known(model_name: str = "qwen@llm", host: str = "10.0.0.4", port: int = 8001, **facts: Any) -> KnownInstance:
    return KnownInstance(model_name, host, port, **facts)


def exported(*instances: KnownInstance, all_states: bool = False) -> Export:
    return export_of(instances, all_states=all_states)


@pytest.mark.parametrize(
    ("facts", "more"),
    [
        ({}, {}),
        ({"weight": 2.5}, {"weight": 2.5}),
        ({"weight": 0}, {"weight": 0.0}),
        ({"prompt_template": "chat"}, {"prompt_template": "chat"}),
        ({"prompt_template": ""}, {}),
        ({"check_healthy": False}, {"check_healthy": False}),
        ({"drain": DrainFacts()}, {"enabled": False}),
        ({"drain": DrainFacts(reason="new disk")}, {"drain": {"reason": "new disk"}}),
        ({"drain": DrainFacts(until=NOON)}, {"drain": {"until": "2026-01-02T12:00:00Z"}}),
        (
            {"drain": DrainFacts(NOON, "10.0.0.1", "new disk", NOON + timedelta(hours=1, microseconds=9))},
            {"drain": {"reason": "new disk", "until": "2026-01-02T13:00:00Z"}},
        ),
        ({"state": UNHEALTHY, "drain": DrainFacts()}, {"enabled": False}),
    ],
)
def test_what_differs_from_the_default_is_written(facts: dict[str, Any], more: dict[str, Any]) -> None:
    assert exported(known(**facts)).entries == [PLAIN | more]


@pytest.mark.parametrize(
    "facts",
    [{"state": UNHEALTHY}, {"state": DEREGISTERED}, {"state": DEREGISTERED, "drain": DrainFacts()}],
)
def test_what_gets_no_requests_is_written_if_asked_for(facts: dict[str, Any]) -> None:
    assert exported(known(**facts)) == Export(excluded=1)
    found = exported(known(**facts), all_states=True)
    assert (len(found.entries), found.not_routable, found.excluded) == (1, 1, 0)


def test_the_order_is_that_of_the_identities() -> None:
    keys = [("b@llm", "h", 1), ("a@llm", "h", 2), ("a@llm", "g", 3), ("a@llm", "g", 1)]
    found = [tuple(entry.values()) for entry in exported(*(known(*key) for key in keys)).entries]
    assert found == sorted(keys)


@pytest.mark.parametrize(
    ("first", "second", "weight"),
    [
        ({"state": UNHEALTHY, "last_heartbeat": NOON}, {"last_heartbeat": NOON - timedelta(days=1)}, 2.0),
        ({"last_heartbeat": NOON}, {"last_heartbeat": NOON - timedelta(days=1)}, 1.0),
        ({"last_heartbeat": None}, {"last_heartbeat": NOON}, 2.0),
        ({}, {"model_name": " qwen@llm", "host": "10.0.0.4 ", "last_heartbeat": NOON}, 2.0),
        ({"host": "[fe80::1]", "last_heartbeat": NOON}, {"host": "FE80::1", "state": UNHEALTHY}, 1.0),
    ],
)
@pytest.mark.parametrize("order", [list, lambda pair: pair[::-1]])
def test_of_duplicates_the_healthy_or_the_latest_one_counts(
    first: dict[str, Any], second: dict[str, Any], weight: float, order: Callable[[Any], Any]
) -> None:
    found = exported(*order([known(**first, weight=1.0), known(**second, weight=2.0)]))
    assert (found.duplicates, [entry.get("weight", 1.0) for entry in found.entries]) == (1, [weight])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (
            {"model_name": "qwen"},
            "qwen@/10.0.0.4:8001 left out: model_name 'qwen' is not NAME@TYPE with exactly one '@'",
        ),
        ({"model_name": "a@b@c"}, "is not NAME@TYPE"),
        (
            {"model_name": "\x1b[31mq@llm"},
            "\\x1b[31mq@llm/10.0.0.4:8001 left out: model_name '\\x1b[31mq@llm' holds control",
        ),
        ({"model_name": "a\nb@llm"}, "holds control"),
        ({"host": "http://h"}, "is not a host name or address"),
        ({"host": "h:1"}, "contains a colon and is no IPv6 address"),
        ({"host": "169.254.169.254"}, "it is never registered"),
        ({"port": 0}, "port 0 is not a whole number from 1 to 65535"),
        ({"port": 70000}, "port 70000 is not"),
        ({"weight": float("nan")}, "weight nan is not a finite number"),
        ({"weight": "heavy"}, "weight 'heavy' is not"),
        ({"prompt_template": "a\u202eb"}, "holds control or invisible"),
        ({"prompt_template": "x" * 129}, "the most is 128"),
        ({"prompt_template": ["chat"]}, "is not a string"),
        ({"drain": DrainFacts(reason="x" * 256)}, "reason has 256 characters"),
    ],
)
def test_what_apply_would_refuse_is_no_entry(facts: dict[str, Any], reason: str) -> None:
    found = exported(known(**facts), known(host="10.0.0.5"))
    assert [entry["host"] for entry in found.entries] == ["10.0.0.5"]
    [line] = found.problems
    assert reason in line
    assert line.isprintable()


def test_what_would_be_excluded_anyway_is_not_called_a_problem() -> None:
    assert exported(known(port=0, state=UNHEALTHY)).problems == []
    assert len(exported(known(port=0, state=UNHEALTHY), all_states=True).problems) == 1


def test_a_negative_weight_loses_no_instance() -> None:
    """A worker may register it, and DB-GPT's clients ignore it; an operator's file may not hold it."""
    found = exported(known(weight=-2.0))
    assert found.entries == [PLAIN]
    assert found.problems == ["qwen@llm/10.0.0.4:8001 exported without its weight: -2 is negative"]


# --- what is written is read back ---

WORDS = st.one_of(
    st.text(min_size=1, max_size=20),
    st.sampled_from(
        [
            *("no", "on", "~", "null", "true", "1e5", "1.5e5", "0o17", "0x1f", "08", "1_000", "22:22", "2026-01-31"),
            *(
                "=",
                "<<",
                "- a",
                "# a",
                "a #b",
                "a: b",
                "'",
                '"',
                "&a",
                "*a",
                "!a",
                "%a",
                "{",
                "[",
                ",",
                "?",
                "|",
                ">",
                "`",
            ),
        ]
    ),
)
WEIGHTS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
UNTILS = st.datetimes(NOON.replace(tzinfo=None), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def instances(draw: st.DrawFn) -> KnownInstance:
    name = draw(WORDS) + "@" + draw(WORDS)
    host = draw(st.one_of(WORDS, st.ip_addresses().map(str)))
    drains = st.builds(DrainFacts, reason=st.none() | WORDS, until=st.none() | UNTILS)
    return known(
        name,
        host,
        draw(st.integers(-1, 66000)),
        weight=draw(WEIGHTS),
        prompt_template=draw(st.none() | WORDS),
        check_healthy=draw(st.booleans()),
        drain=draw(st.none() | drains),
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(instances(), max_size=5))
@example([known("1e5@llm", "1e5", prompt_template="1e5", drain=DrainFacts(reason="1e5"))])
@pytest.mark.parametrize("write", [print_yaml, print_json], ids=["yaml", "json"])
def test_a_file_is_read_back_as_what_was_written(write: Callable[[Any], None], some: list[KnownInstance]) -> None:
    written: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dbgpt_ctl.cli.output.stdout.print_lines", written.extend)
        found = export_of(some, all_states=False)
        write({"instances": found.entries})
    text = "\n".join(written)
    assert all(char.isprintable() or char == "\n" for char in text)
    declarations, problems = read_declarations((text.encode(), "f"))
    assert problems == []
    assert [as_entry(each) for each in declarations] == json.loads(json.dumps(found.entries))
    assert len(found.entries) + len(found.problems) + found.duplicates == len(some)


def as_entry(declaration: Declaration) -> dict[str, Any]:
    """The entry of a declaration whose values are all given."""
    fields = dict(declaration.fields)
    drain = {name: fields.pop(f"drain_{name}") for name in ("reason", "until") if f"drain_{name}" in fields}
    if "until" in drain:
        drain["until"] = drain["until"].isoformat().replace("+00:00", "Z")
    if drain:
        assert fields.pop("enabled") is False
        fields["drain"] = drain
    key = declaration.key
    return {"model": key.model_name, "host": key.host, "port": key.port, **fields}
