"""What `ctl apply` takes as a file, and where it says that a mistake is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from dbgpt_ctl.cli.manifest import documents
from dbgpt_ctl.cli.manifest.declarations import Declaration, read_declarations
from dbgpt_ctl.cli.manifest.documents import MAX_BYTES, ValueCount, read_document
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import UsageError

YAML = """\
instances:
  - {model: qwen, host: 10.0.0.4, port: 8001, weight: 2, enabled: false}
  - model: org/b b@reranker
    host: '[::1]'
    port: 1
    prompt_template: null
    check_healthy: false
"""
DECLARED = [
    Declaration(InstanceKey("qwen@llm", "10.0.0.4", 8001), {"weight": 2.0, "enabled": False}),
    Declaration(InstanceKey("org/b b@reranker", "[::1]", 1), {"prompt_template": None, "check_healthy": False}),
]


def problems(text: str) -> list[str]:
    return read_declarations((text.encode(), "f"))[1]


def entry(**fields: object) -> str:
    """A file with one instance, as JSON; `...` leaves a field out."""
    whole = {"model": "qwen", "host": "h", "port": 1} | fields
    return json.dumps({"instances": [{name: value for name, value in whole.items() if value is not ...}]})


def test_yaml() -> None:
    assert read_declarations((YAML.encode(), "f")) == (DECLARED, [])


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "null"])
def test_an_empty_file_is_called_empty(text: str) -> None:
    """As the end of a pipe is whose first command failed."""
    assert problems(text) == ["f:1: it is empty: the list 'instances:' is missing"]


def test_json_is_read_as_json() -> None:
    text = (
        '{\t"instances": [{"model":"qwen","host":"10.0.0.4","port":8001,"weight":2,"enabled":false},'
        '{"model":"org\\/b b@reranker","host":"[::1]","port":1,"prompt_template":null,"check_healthy":false}]}'
    )
    assert read_declarations((text.encode(), "f")) == (DECLARED, [])


def test_json_beyond_the_basic_plane() -> None:
    assert read_declarations((entry(model="\U0001f600").encode(), "f"))[0][0].key.model_name == "\U0001f600@llm"


def test_yaml_in_flow_style_that_looks_like_json() -> None:
    assert len(read_declarations((b"{instances: [{model: qwen, host: h, port: 1}]}", "f"))[0]) == 1


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert read_declarations((b"\xef\xbb\xbf" + YAML.encode(), "f")) == (DECLARED, [])


def test_no_instances() -> None:
    assert read_declarations((b"instances: []", "f")) == ([], [])


def test_all_mistakes_are_reported_at_once_with_their_places() -> None:
    text = "instances:\n- {model: qwen, host: h, port: 0}\n- model: qwen\n  hosst: h\n  port: 1\n- 7\n"
    assert problems(text) == [
        "f:2: instances[0].port: port 0 is not a whole number from 1 to 65535",
        "f:4: instances[1]: unknown key 'hosst'; did you mean host?",
        "f:3: instances[1]: host is missing",
        (
            "f:6: instances[2]: 7 is not a mapping with model, host, port, weight, enabled, drain, prompt_template, "
            "check_healthy"
        ),
    ]


def test_twins_are_a_mistake() -> None:
    text = "instances:\n- {model: qwen, host: h, port: 1}\n- {model: ' qwen@llm ', host: h, port: 1}"
    assert problems(text) == ["f:3: instances[1]: qwen@llm/h:1 is declared already, at f:2: instances[0]"]


def test_twins_in_two_files_are_named_with_both_places() -> None:
    first = b"instances:\n- {model: other, host: h, port: 1}\n- {model: qwen, host: h, port: 1}"
    second = json.dumps({"instances": [{"model": "qwen@llm", "host": "h", "port": 1}]}).encode()
    declarations, found = read_declarations((first, "a.yaml"), (second, "b.json"))
    assert found == ["b.json: instances[0]: qwen@llm/h:1 is declared already, at a.yaml:3: instances[1]"]
    assert [declaration.key.name for declaration in declarations] == ["other", "qwen"]
    _, found = read_declarations((first, "a.yaml"), (first, "a.yaml"))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model": ...}, "instances[0]: model is missing"),
        ({"model": 7}, "instances[0].model: 7 is not a text, as in qwen@llm (a number in quotes is one)"),
        ({"model": "a@b@c"}, "instances[0].model: model_name 'a@b@c' is not NAME@TYPE"),
        ({"model": ""}, "instances[0].model: model_name is empty"),
        ({"model": "a\x1b[31m"}, r"instances[0].model: model_name 'a\x1b[31m@llm' holds control"),
        ({"host": "http://h"}, "instances[0].host: host 'http://h' is not a host name or address"),
        ({"host": "h:1"}, "instances[0].host: host 'h:1' contains a colon and is no IPv6 address"),
        ({"host": "0xa9fea9fe"}, "instances[0].host: host '0xa9fea9fe' is 169.254.169.254, the metadata service of"),
        ({"port": "8001"}, "instances[0].port: '8001' is not a whole number"),
        ({"port": True}, "instances[0].port: true is not a whole number"),
        ({"port": 1.5}, "instances[0].port: 1.5 is not a whole number"),
        ({"port": None}, "instances[0].port: null is not a whole number"),
        ({"weight": -1}, "instances[0].weight: weight -1 is negative: give 0 or more"),
        ({"weight": True}, "instances[0].weight: true is not a number"),
        ({"weight": float("nan")}, "instances[0].weight: 'NaN' is not a number"),
        ({"weight": None}, "instances[0].weight: null is not a number"),
        ({"enabled": 1}, "instances[0].enabled: 1 is not true or false"),
        ({"check_healthy": "yes"}, "instances[0].check_healthy: 'yes' is not true or false"),
        ({"prompt_template": []}, "instances[0].prompt_template: a list is not a text or null"),
        ({"prompt_template": "x" * 129}, "instances[0].prompt_template: prompt_template"),
    ],
)
def test_a_wrong_field(fields: dict[str, object], problem: str) -> None:
    (found,) = problems(entry(**fields))
    assert found.startswith(f"f: {problem}")


@pytest.mark.parametrize("word", ["yes", "no", "on", "22:22", "0x10", "010", ".inf", ".nan", "1_000"])
def test_a_word_has_the_value_that_it_looks_like(word: str) -> None:
    assert read_document(f"- {word}".encode(), "f", ValueCount()).value[0].value == word


@pytest.mark.parametrize(
    ("text", "value"), [("- ! 7", 7), ('- ! ""', ""), ("- '7'", "7"), ("- |\n  7", "7"), ("- 7", 7)]
)
def test_only_a_plain_word_is_a_number_or_null(text: str, value: object) -> None:
    assert read_document(text.encode(), "f", ValueCount()).value[0].value == value


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [*x]",
        "instances: &all []\nmore: *all",
        "instances: !!python/object/apply:os.system [true]",
        "instances: []\n---\ninstances: []",
        "? [a]\n: 1",
        "instances: [",
        "\tinstances: []",
        "a\0b: 1",
        "[" * 50_000,
        '{"a":' * 50_000,
        "- " * 5_000 + "a",
        '{"instances": ' + "[" * 500 + "]" * 500 + "}",
    ],
)
def test_tricks_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        read_declarations((text.encode(), "f"))
    assert str(error.value).startswith("f")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "# nothing", "null", "[]", "7", "instances:", "instances: 7", "{}"])
def test_a_file_without_declarations_is_a_mistake(text: str) -> None:
    assert len(problems(text)) == 1


def test_a_key_that_stands_there_twice() -> None:
    assert problems("instances: []\ninstances: []") == ["f:2: the file: key 'instances' is there twice"]


def test_too_large() -> None:
    with pytest.raises(UsageError, match="larger than 32 MiB"):
        read_declarations((b" " * (MAX_BYTES + 1), "f"))


def test_values_are_counted_over_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file has a field with a list, and an entry with three fields."""
    monkeypatch.setattr(documents, "MAX_VALUES", 10)
    yaml_file = b"instances: [{model: a, host: h, port: 1}]"
    json_file = entry(model="b").encode()
    assert read_declarations((yaml_file, "a"), (json_file, "b"))[1] == []
    for third in (b"[1]", b"instances: []", b"{'instances': []}"):
        with pytest.raises(UsageError, match="c is too large: a command reads at most 10 values"):
            read_declarations((yaml_file, "a"), (json_file, "b"), (third, "c"))


def test_what_separates_values_counts_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 12)
    text = entry(prompt_template='\\",{[,' * 20)
    assert read_declarations((text.encode(), "f"))[1] == []
    quoted = b"instances: [{model: a, host: h, port: 1, prompt_template: '[,,,,,{{{{{{'}]"
    assert read_declarations((quoted, "f"))[1] == []


@pytest.mark.parametrize("text", ["instances:\n" + "- 1\n" * 5000, "a:\n" * 5000, "instances:\n" + "- {}\n" * 5000])
def test_mistakes_without_an_end_are_not_collected(text: str) -> None:
    assert len(problems(text)) == 1000


def test_not_utf_8() -> None:
    with pytest.raises(UsageError, match="byte 3 is wrong"):
        read_declarations((b"a:\xff", "f"))


@pytest.mark.parametrize(
    ("drain", "fields"),
    [
        (None, {"enabled": True}),
        ({}, {"enabled": False}),
        ({"reason": " disk "}, {"enabled": False, "drain_reason": "disk"}),
        ({"until": None}, {"enabled": False, "drain_until": None}),
        (
            {"until": "2026-01-31T14:00:00+02:00"},
            {"enabled": False, "drain_until": datetime(2026, 1, 31, 12, tzinfo=UTC)},
        ),
    ],
)
def test_a_drain(drain: object, fields: dict[str, object]) -> None:
    for others in ({}, {"enabled": fields["enabled"]}):
        declarations, found = read_declarations((entry(drain=drain, **others).encode(), "f"))
        assert ([each.fields for each in declarations], found) == ([fields], [])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"drain": True}, "true is not a mapping with reason and until, or null for not drained"),
        ({"drain": None, "enabled": False}, "drain: null contradicts enabled: leave one of them out"),
        ({"drain": {}, "enabled": True}, "drain: a drain contradicts enabled: leave one of them out"),
        ({"drain": {"reason": None}}, "drain.reason: null is not a text"),
        ({"drain": {"reason": " "}}, "drain.reason: it is empty: leave it out"),
        ({"drain": {"until": "tomorrow"}}, "drain.until: 'tomorrow' is not a time such as 2026-01-31T12:00:00Z"),
        ({"drain": {"until": "2026-01-31T12:00:00"}}, "drain.until: '2026-01-31T12:00:00' has no time zone"),
        ({"drain": {"until": "9999-12-31T23:59:59-12:00"}}, "is not a time"),
        ({"drain": {"for": "2h"}}, "drain: unknown key 'for'; known keys are reason, until"),
    ],
)
def test_a_wrong_drain(fields: dict[str, object], problem: str) -> None:
    (found,) = problems(entry(**fields))
    assert problem in found
