"""Suggestions for a name that is not registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.parsing.suggestions import Suggestions, warn_of_types
from dbgpt_ctl.client.results import Inventory
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import ControllerUnreachable
from tests.support.fake_controller import listed

if TYPE_CHECKING:
    from collections.abc import Callable

OBJECTS = [listed("qwen3@llm"), listed("qwen3@reranker", "10.0.0.5"), listed("bge@text2vec", "10.0.0.6", 8002)]


class Client:
    """Lists OBJECTS and counts the calls."""

    def __init__(
        self, answer: Callable[[], Any] = lambda: Inventory(OBJECTS, complete=False, controller="http://c", time=None)
    ) -> None:
        self.answer = answer
        self.calls = 0

    def list(self) -> Any:
        self.calls += 1
        return self.answer()


def suggestions(client: Any = None) -> Suggestions:
    fake: Any = client or Client()
    return Suggestions(fake)


@pytest.mark.parametrize(
    ("name", "model_type", "end"),
    [
        ("qwen", None, "; did you mean qwen3@llm?"),
        ("QWEN3@lm", None, "; did you mean qwen3@llm?"),
        ("bge@llm", None, "; did you mean bge@text2vec?"),
        ("zzz", None, ""),
        (None, "rerank", "; did you mean reranker?"),
        (None, "zzz", "; registered types are llm, reranker, text2vec"),
    ],
)
def test_a_model(name: str | None, model_type: str | None, end: str) -> None:
    assert suggestions().for_models(ModelFilter.parse(name, model_type)) == end


@pytest.mark.parametrize(
    ("key", "end"),
    [
        (InstanceKey("qwen3@llm", "10.0.0.40", 8001), "; did you mean qwen3@llm/10.0.0.4:8001?"),
        (InstanceKey("bge@llm", "10.0.0.6", 8002), "; did you mean bge@text2vec/10.0.0.6:8002?"),
        (InstanceKey("x", "y", 1), "; ctl models list shows what is"),
    ],
)
def test_an_instance(key: InstanceKey, end: str) -> None:
    assert suggestions().for_instance(key) == end


def test_one_list_call_serves_all_suggestions() -> None:
    client = Client()
    found = suggestions(client)
    assert client.calls == 0
    found.for_models(ModelFilter.parse("qwen"))
    found.for_instance(InstanceKey("qwen@llm", "h", 1))
    assert client.calls == 1


def test_a_controller_that_does_not_answer_gives_no_suggestion() -> None:
    def fail() -> Any:
        raise ControllerUnreachable("no controller answers")

    assert suggestions(Client(fail)).for_models(ModelFilter.parse("qwen")) == ""


def test_a_type_that_looks_like_one_of_dbgpt_gets_a_warning() -> None:
    keys = [InstanceKey(f"a@{model_type}", "h", 1) for model_type in ("llm", "LLM", "rerank", "something")]
    assert [line.partition("; ")[2] for line in warn_of_types(keys)] == [
        "did you mean llm?",
        "did you mean reranker?",
    ]
