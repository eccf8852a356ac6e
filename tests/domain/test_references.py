from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgpt_ctl.client.results import read_key
from dbgpt_ctl.domain.fields import parse_key
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.references import model_word, parse_model, parse_reference, parse_targets, reference_of
from dbgpt_ctl.errors import InvalidInstance, UsageError

if TYPE_CHECKING:
    from dbgpt_ctl.domain.instance import InstanceKey

NAMES = st.text(
    st.sampled_from("\\/:[] x41u深") | st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12
)
HOSTS = st.text(st.sampled_from(":[]x41uf.-é"), min_size=1, max_size=12)
PARTS = st.text(st.characters() | st.sampled_from("\\/:@[] x41u"), max_size=20)


def key_of(model_name: str, host: str, port: int) -> InstanceKey | None:
    try:
        return parse_key({"model_name": model_name, "host": host, "port": port})
    except InvalidInstance:
        return None


@settings(deadline=None)
@given(NAMES, NAMES, HOSTS, st.integers(1, 65535))
def test_every_instance_that_can_be_registered_is_read_back_from_its_reference(
    name: str, kind: str, host: str, port: int
) -> None:
    key = key_of(f"{name}@{kind}", host, port)
    if key is not None:
        assert parse_reference(reference_of(key)) == key
        assert parse_model(model_word(key.model_name), None) == key.model_name
        assert not model_word(key.model_name).startswith("-")
        assert str(key) == f"{key.model_name}/{key.host}:{key.port}"


@settings(deadline=None)
@given(PARTS, PARTS, st.integers(-1, 70000))
def test_no_reference_of_whatever_a_strange_controller_lists_names_another_instance(
    model_name: str, host: str, port: int
) -> None:
    key = read_key({"model_name": model_name, "host": host, "port": port})
    try:
        parsed = parse_reference(reference_of(key))
    except UsageError:
        return
    assert parsed == key


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("qwen/10.0.0.4:8001", ("qwen@llm", "10.0.0.4", 8001)),
        ("qwen@text2vec/10.0.0.4:8001", ("qwen@text2vec", "10.0.0.4", 8001)),
        (" qwen/h:1 ", ("qwen@llm", "h", 1)),
        ("THUDM/glm 4:9b@llm/h:1", ("THUDM/glm 4:9b@llm", "h", 1)),
        ("qwen/[::1]:1", ("qwen@llm", "[::1]", 1)),
        ("qwen/[FE80::1%eth0]:1", ("qwen@llm", "[fe80::1%eth0]", 1)),
        (r"qwen/a\x3ab:1", ("qwen@llm", "a:b", 1)),
        (r"qwen@llm/http:\x2f/h:1", ("qwen@llm/http:/", "h", 1)),
        ("qwen@a/b/h:1", ("qwen@a/b", "h", 1)),
        (r"C:\models\q@llm/h:1", (r"C:\models\q@llm", "h", 1)),
        (r"\x5cx41@llm/h:1", (r"\x41@llm", "h", 1)),
    ],
)
def test_references(word: str, key: tuple[str, str, int]) -> None:
    assert parse_reference(word) == key


def test_a_type_may_be_given_apart_and_may_agree() -> None:
    assert parse_reference("qwen/h:1", "reranker").model_name == "qwen@reranker"
    assert parse_reference("qwen@reranker/h:1", "reranker").model_name == "qwen@reranker"
    with pytest.raises(UsageError, match="different types"):
        parse_reference("qwen@reranker/h:1", "llm")


def test_a_name_with_host_and_port_apart() -> None:
    for host in ("[fe80::1]", "fe80::1"):
        keys = parse_targets(["org/qwen:7b"], "text2vec", host, "8001", creates=True)
        assert keys == [("org/qwen:7b@text2vec", "[fe80::1]", 8001)]


@pytest.mark.parametrize(
    ("word", "fix"),
    [
        ("qwen/fe80::1:8001", "write qwen/[fe80::1]:8001"),
        ("qwen/2001:DB8:0:0:0:0:0:1:8001", "write qwen/[2001:db8::1]:8001"),
        ("qwen/fe80::abcd", "write qwen/[fe80::abcd]:PORT"),
        ("qwen/::1", "write qwen/[::1]:PORT"),
        ("qwen/[fe80::1]", "write qwen/[fe80::1]:PORT"),
        ("fe80::1:8001", "write NAME/[fe80::1]:8001"),
        ("qwen/http://10.0.0.4:8001", "write qwen/10.0.0.4:8001"),
        ("org/qwen@llm/HTTPS://user:secret@10.0.0.4:8001/", "write org/qwen@llm/10.0.0.4:8001"),
        ("http://10.0.0.4:8001", "write NAME/10.0.0.4:8001"),
        ("/10.0.0.4:8001", "model '' has no name: write NAME[@TYPE], as in qwen@llm"),
        ("@llm/10.0.0.4:8001", "model '@llm' has no name: write NAME[@TYPE], as in qwen@llm"),
    ],
)
def test_a_mistake_and_its_fix(word: str, fix: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_reference(word)
    assert str(error.value).endswith(fix)
    assert "secret" not in str(error.value)


def test_a_host_that_no_url_can_hold_may_only_be_deregistered() -> None:
    assert parse_targets(["qwen/a:b:1"], None, None, None, creates=False) == [("qwen@llm", "a:b", 1)]
    with pytest.raises(UsageError, match="'a:b' contains a colon"):
        parse_targets(["qwen/a:b:1"], None, None, None, creates=True)


@pytest.mark.parametrize(
    ("name", "kind", "matching", "asked"),
    [
        (None, None, {"a@llm", "a@text2vec", "b@llm", "A@llm"}, None),
        ("a", None, {"a@llm", "a@text2vec"}, None),
        ("a@llm", None, {"a@llm"}, "a@llm"),
        ("a", "llm", {"a@llm"}, "a@llm"),
        (None, "llm", {"a@llm", "b@llm", "A@llm"}, None),
        ("c", None, set(), None),
    ],
)
def test_a_filter(name: str | None, kind: str | None, matching: set[str], asked: str | None) -> None:
    wanted = ModelFilter.parse(name, kind)
    assert {each for each in ("a@llm", "a@text2vec", "b@llm", "A@llm") if wanted.matches(each)} == matching
    assert wanted.model_name == asked
