from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from dbgpt_ctl.cli.commands.models.list import API_KEYS, CSV_KEYS
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.cli.schemas import validated
from tests.support.fake_controller import FakeController, listed

if TYPE_CHECKING:
    from tests.cli.clusters import Cluster
    from tests.cli.conftest import Run

SOME = [
    listed("bge@text2vec", "[::1]", 8003, enabled=False, prompt_template="chatml", weight=2.5),
    listed("qwen@llm", "10.0.0.4", 8001),
    listed("qwen@reranker", "10.0.0.5", 8002, healthy=False, last_heartbeat=None, check_healthy=False),
]


def test_the_table(run: Run, fake: FakeController) -> None:
    fake.body = SOME
    assert run("models", "list").out == (
        "NAME  TYPE      HOST      PORT  STATE            LAST BEAT  WEIGHT\n"
        "bge   text2vec  [::1]     8003  healthy,drained  12s ago    2.5\n"
        "qwen  llm       10.0.0.4  8001  healthy          12s ago    1\n"
        "qwen  reranker  10.0.0.5  8002  unhealthy        never      1\n"
    )
    assert (fake.requests[0], fake.requests[-1]) == ("GET /api/v1/instances", "GET /api/controller/models")


def test_the_wide_table(run: Run, fake: FakeController) -> None:
    fake.body = SOME
    lines = run("models", "list", "-o", "wide").lines
    narrow = run("models", "list").lines
    assert [line.startswith(short) for line, short in zip(lines, narrow, strict=True)] == [True] * 4
    assert [line[len(narrow[0]) :].split() for line in lines[1:]] == [
        ["chatml", "yes", "2026-01-02T11:59:48Z", "-", "-", "yes", "-", "-"],
        ["-", "yes", "2026-01-02T11:59:48Z", "-", "-", "-", "-", "-"],
        ["-", "no", "-", "-", "-", "-", "-", "-"],
    ]


def test_the_wide_table_shows_a_drain_from_the_first_register_on(run: Run, controller: str) -> None:
    with ControllerClient(controller) as client:
        client.register(Registration(InstanceKey("qwen@llm", "10.0.0.4", 8001), enabled=False))
    assert run("models", "list", "-o", "wide").lines[1].split()[-3:] == ["yes", "undrain", "-"]


def test_json_and_yaml_are_the_objects_as_they_came(run: Run, fake: FakeController) -> None:
    fake.body = [*SOME, {**listed("深度求索@llm"), "of a later release": {"a": [1, None]}}]
    assert json.loads(run("models", "list", "-o", "json").out) == fake.body
    assert yaml.safe_load(run("models", "list", "-o", "yaml").out) == fake.body
    for form in ("json", "yaml"):
        out = run("models", "list", "-o", form).out
        assert "深度求索@llm" in out
        assert list(API_KEYS) == [key for key in API_KEYS if key in out]


def test_csv(run: Run, fake: FakeController) -> None:
    fake.body = [listed('with "quotes", and commas@llm', prompt_template=None, weight=-1.0), SOME[2]]
    out = run("models", "list", "-o", "csv").out
    assert "\r" not in out
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == list(CSV_KEYS)
    assert [row[:9] for row in rows] == [
        list(API_KEYS),
        [
            'with "quotes", and commas@llm',
            "10.0.0.4",
            "8001",
            "-1.0",
            "true",
            "true",
            "true",
            "",
            "2026-01-02T11:59:48+00:00",
        ],
        ["qwen@reranker", "10.0.0.5", "8002", "1.0", "false", "false", "true", "", ""],
    ]
    assert {cell for row in rows[1:] for cell in row[9:]} == {""}, "this controller does not report these"
    assert run("models", "list", "-o", "csv", "--no-headers").lines == out.splitlines()[1:]


def test_names(run: Run, fake: FakeController) -> None:
    fake.body = [*SOME, listed("without a type")]
    assert run("models", "list", "-o", "name").lines == [
        "bge@text2vec/[::1]:8003",
        "qwen@llm/10.0.0.4:8001",
        "qwen@reranker/10.0.0.5:8002",
        "without a type@/10.0.0.4:8001",
    ]


@pytest.mark.parametrize(
    ("args", "ports", "query"),
    [
        (["qwen"], [8001, 8002], ""),
        (["bge@text2vec"], [8003], "?model_name=bge%40text2vec"),
        (["bge", "--type", "text2vec"], [8003], "?model_name=bge%40text2vec"),
        (["--type", "llm"], [8001], ""),
    ],
)
def test_filters(run: Run, fake: FakeController, args: list[str], ports: list[int], query: str) -> None:
    fake.body = SOME
    assert [each["port"] for each in json.loads(run("models", "list", *args, "-o", "json").out)] == ports
    assert fake.requests == [f"GET /api/controller/models{query}"]


def test_healthy_only_is_the_controllers_to_decide(run: Run, fake: FakeController) -> None:
    fake.body = SOME
    run("models", "list", "--healthy-only")
    assert fake.requests == ["GET /api/controller/models?healthy_only=true"]


@pytest.mark.parametrize(
    ("form", "out"),
    [("table", ""), ("wide", ""), ("name", ""), ("json", "[]\n"), ("yaml", "[]\n"), ("csv", ",".join(CSV_KEYS) + "\n")],
)
def test_an_empty_list_is_no_error(run: Run, fake: FakeController, form: str, out: str) -> None:
    done = run("models", "list", "-o", form)
    assert (done.out, done.err) == (out, f"ctl: no instances registered at {fake.url}\n")


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["qwen"], "no instances of qwen"),
        (["qwen@llm", "--healthy-only"], "no healthy instances of qwen@llm"),
        (["--type", "llm"], "no instances of type llm"),
    ],
)
def test_the_message_of_an_empty_list(run: Run, fake: FakeController, args: list[str], what: str) -> None:
    assert run("models", "list", *args).err == f"ctl: {what} registered at {fake.url}\n"


KNOWN = [listed("qwen3@llm"), listed("qwen3@reranker"), listed("bge-m3@text2vec"), listed("odd\x1b@llm", enabled=False)]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["qwen2"], "no instances of qwen2 registered at {url}; did you mean qwen3@llm?"),
        (["QWEN3"], "no instances of QWEN3 registered at {url}; did you mean qwen3@llm?"),
        (["qwen2@reranker"], "no instances of qwen2@reranker registered at {url}; did you mean qwen3@reranker?"),
        (["bge-m3@llm"], "no instances of bge-m3@llm registered at {url}; did you mean bge-m3@text2vec?"),
        (["odd"], "no instances of odd registered at {url}; did you mean odd\\x1b@llm?"),
        (["zzz"], "no instances of zzz registered at {url}"),
        (["--type", "lmm"], "no instances of type lmm registered at {url}; did you mean llm?"),
        (["--type", "x"], "no instances of type x registered at {url}; registered types are llm, reranker, text2vec"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        if path.startswith("/api/v1"):
            return 404, b"{}"
        asked = parse_qs(urlsplit(path).query).get("model_name", [""])[0]
        return 200, json.dumps([each for each in KNOWN if asked in ("", each["model_name"])]).encode()

    monkeypatch.setattr(fake, "answer", answer)
    done = run("models", "list", *args)
    assert done.out == ""
    assert done.err == f"ctl: {said.format(url=fake.url)}\n"
    assert len(fake.requests) <= 4
    fake.requests.clear()
    assert run("models", "list", *args, "-q", "-o", "name").err == ""
    assert len(fake.requests) == 1


def test_where_no_instance_gets_requests_the_others_are_counted(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([b"[]", json.dumps(KNOWN).encode()])
    monkeypatch.setattr(fake, "answer", lambda _path: (200, next(answers)))
    done = run("models", "list", "qwen3", "--healthy-only", "-o", "json")
    assert done.out == "[]\n"
    assert done.err == (
        f"ctl: none of the 2 instances of qwen3 at {fake.url} gets requests: "
        "all are unhealthy, drained or deregistered\n"
    )


def test_a_hint_that_cannot_be_had_is_no_error(run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(404, b"{}"), (200, b"[]"), (200, b"[]"), (500, b"{}")])
    monkeypatch.setattr(fake, "answer", lambda _path: next(answers))
    assert run("models", "list", "a@llm").err == f"ctl: no instances of a@llm registered at {fake.url}\n"


def test_quiet_leaves_errors(run: Run, fake: FakeController) -> None:
    fake.body, fake.headers = SOME, {"X-Ctl-Stale-Since": "2026-01-02T11:59:15+00:00"}
    assert run("models", "list", "-q", "-v").err == ""
    assert run("health", "-qv").err == ""
    fake.status, fake.body = 500, {"detail": "oops"}
    assert "oops" in run("models", "list", "--quiet", expect=1).err
    assert "oops" in run("models", "register", "a/h:1", "-q", expect=1).err


def test_a_stale_list_comes_with_a_warning(run: Run, fake: FakeController) -> None:
    fake.body, fake.headers = SOME, {"X-Ctl-Stale-Since": "2026-01-02T11:59:15+00:00"}
    done = run("models", "list", "-o", "name")
    assert len(done.lines) == 3
    assert done.err == (
        f"ctl: warning: {fake.url}: its registry is away; this is what was known 45s ago [registry-stale]\n"
    )


def test_ages_count_against_the_clock_that_wrote_the_beats(run: Run, fake: FakeController) -> None:
    """Not against the controller's, where the two differ."""
    fake.body = SOME
    before = [line.split() for line in run("models", "list", "--no-headers").lines]
    fake.headers = {"X-Ctl-Time": "2026-01-02T13:00:00+00:00"}
    after = [line.split() for line in run("models", "list", "--no-headers").lines]
    assert [line[5] for line in after if line[6] == "ago"] == ["60m"] * sum(line[6] == "ago" for line in before)


def test_held_states_come_with_a_warning(run: Run, fake: FakeController) -> None:
    fake.body, fake.headers = SOME, {"X-Ctl-Held-Until": "2026-01-02T12:00:45+00:00"}
    assert run("models", "list", "-o", "name").err == (
        f"ctl: warning: {fake.url}: its registry was away; until 12:00:45 UTC, "
        "some instances are shown as they were before [states-held]\n"
    )
    assert run("models", "list", "-o", "name", "-q").err == ""


def test_a_time_without_a_zone_is_shown_as_it_is(run: Run, fake: FakeController) -> None:
    """DB-GPT's controller sends its own local time: an age could be hours off."""
    fake.body = [listed("qwen@llm", last_heartbeat="2026-01-02T08:15:30.123456")]
    assert "2026-01-02 08:15:30" in run("models", "list").out
    assert " ago" not in run("models", "list").out
    assert "2026-01-02 08:15:30" in run("models", "list", "-o", "wide").out.split("yes")[1]


def test_without_a_date_ages_count_against_this_clock(run: Run, fake: FakeController) -> None:
    fake.body, fake.date = [listed("qwen@llm", last_heartbeat=datetime.now(UTC).isoformat())], None
    assert "s ago" in run("models", "list").out


def test_values_that_no_controller_should_send_are_shown(run: Run, fake: FakeController) -> None:
    fake.body = [
        listed("q@llm", weight=None, prompt_template=7, last_heartbeat="yesterday"),
        listed("q@llm", weight="\x1b"),
    ]
    out = run("models", "list", "-o", "wide").out
    assert "None" in out
    assert "\\x1b" in out


OWN = "qwen@llm/10.0.0.{}:8001"


@pytest.fixture
def four(run: Run, there: Cluster) -> Cluster:
    """Instances on 10.0.0.1 to 4: one is fresh, one silent, one silent and drained, one deregistered."""
    for number in (2, 3, 4):
        there.register("qwen@llm", f"10.0.0.{number}")
    there.client.drain(InstanceKey("qwen@llm", "10.0.0.3", 8001), reason="new drivers", duration=timedelta(hours=2))
    there.client.deregister(InstanceKey("qwen@llm", "10.0.0.4", 8001))
    there.come_to_now()
    there.register("qwen@llm", "10.0.0.1")
    return there


def test_a_deregistered_instance_is_shown_as_such(run: Run, four: Cluster) -> None:
    """Not as unhealthy, which an operator would look into."""
    states = {1: "healthy", 2: "unhealthy", 3: "unhealthy,drained", 4: "deregistered"}
    for form in ("table", "wide"):
        rows = [line.split() for line in run("models", "list", "-o", form, "--no-headers").lines]
        assert {int(row[2][-1]): row[4] for row in rows} == states
    names = [OWN.format(number) for number in states]
    assert run("models", "list", "-o", "name").lines == names
    assert run("models", "list", "-o", "name", "--state", "deregistered").lines == names[3:]
    assert run("models", "list", "-o", "name", "--sort-by", "state").lines == [*names[1:], names[0]]
    assert run("models", "list", "-o", "name", "--state", "unhealthy").lines == names[1:3]
    assert run("models", "list", "-o", "name", "--healthy-only").lines == names[:1]
    for form in ("wide", "yaml", "csv", "table"):
        assert "10.0.0.4" not in run("models", "list", "-o", form, "--healthy-only").out


def test_json_is_the_array_of_dbgpt_whatever_is_filtered(run: Run, four: Cluster) -> None:
    """The nine keys, also where the filter needed more; and the call that is cheap where it did not."""
    with httpx.Client(trust_env=False) as http:
        wanted = http.get(f"{four.url}/api/controller/models").json()
    assert [list(each) for each in wanted] == [list(API_KEYS)] * 4
    assert json.loads(run("models", "list", "-o", "json").out) == wanted
    assert json.loads(run("models", "list", "-o", "json", "--state", "deregistered").out) == wanted[3:]
    asked = run("models", "list", "-o", "json", "-v").err
    assert "/api/controller/models" in asked
    assert "/api/v1" not in asked


def test_json_with_full_yaml_and_csv_have_all_facts(run: Run, four: Cluster) -> None:
    with httpx.Client(trust_env=False) as http:
        told = http.get(f"{four.url}/api/v1/instances").json()["instances"]
        answer = http.get(f"{four.url}/openapi.json").json()["paths"]["/api/v1/instances"]["get"]["responses"]["200"]
    full = validated("models-list-full", json.loads(run("models", "list", "-o", "json", "--full").out))
    described = answer["content"]["application/json"]["schema"]["properties"]["instances"]
    Draft202012Validator(described).validate(full)
    assert {*described["items"]["properties"]} == {*full[0]}
    assert full == told
    assert yaml.safe_load(run("models", "list", "-o", "yaml").out) == told
    rows = list(csv.DictReader(io.StringIO(run("models", "list", "-o", "csv").out)))
    assert list(rows[0]) == list(CSV_KEYS)
    flat = told[2] | {f"drain_{name}": value for name, value in told[2]["drain"].items()}
    assert {name: rows[2][name] for name in CSV_KEYS[9:]} == {
        name: "" if flat[name] is None else str(flat[name]).replace("False", "false") for name in CSV_KEYS[9:]
    }
    assert rows[2]["drain_reason"] == "new drivers"
    assert [row["state"] for row in rows] == ["healthy", "unhealthy", "unhealthy", "deregistered"]


def test_full_of_dbgpts_own_controller_says_what_is_missing(run: Run, fake: FakeController) -> None:
    fake.body = SOME
    done = run("models", "list", "-o", "json", "--full")
    assert json.loads(done.out) == SOME
    assert done.err.count("\n") == 1
    assert "only DB-GPT's nine keys" in done.err
    assert run("models", "list", "-o", "csv").err == ""


@pytest.mark.parametrize("args", [("--full",), ("--full", "-o", "name"), ("--full", "-o", "json", "-w")])
def test_full_where_it_means_nothing_is_wrong_usage(run: Run, fake: FakeController, args: tuple[str, ...]) -> None:
    assert "--full goes with" in run("models", "list", *args, expect=2).err
    assert fake.requests == []
