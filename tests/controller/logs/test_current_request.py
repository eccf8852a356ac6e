"""The id and the trace of a request, for the lines that are written while it is served."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dbgpt_ctl.auth.tokens import new_token
from dbgpt_ctl.controller.http.request import REGISTRATION
from dbgpt_ctl.controller.logs.current_request import INSTANCE, TRACE_ID, instance_of, request_id, trace_id
from dbgpt_ctl.domain.instance import InstanceKey, Registration

KEY = InstanceKey("qwen3@llm", "10.0.0.4", 8001)


def scope(**headers: str) -> dict[str, Any]:
    return {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize("sent", ["1", "abc-1", "4BF92F35.77b_34", "0123456789abcdef" * 4])
def test_a_short_token_is_the_id(sent: str) -> None:
    assert request_id(scope(x_request_id=sent)) == sent


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "a b",
        "a\nb",
        "x" * 65,
        "é",
        "a/b",
        "\x1b[2J",
        new_token(lambda length: bytes(range(length))),
        'a"b',
        "aB1" * 12,
    ],
)
def test_for_all_else_there_is_a_new_id(sent: str) -> None:
    request = scope(x_request_id=sent)
    assert re.fullmatch("[0-9a-f]{16}", request_id(request))
    assert request_id(request) == request_id(request)
    assert request_id(request) != request_id(scope(x_request_id=sent))


def test_the_trace_that_is_recorded_goes_before_that_of_the_caller() -> None:
    request = scope(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    assert trace_id(request) == "4bf92f3577b34da6a3ce929d0e0e4736"
    request[TRACE_ID] = "0" * 31 + "1"
    assert trace_id(request) == "0" * 31 + "1"
    assert trace_id(scope(traceparent="\x1b[2J")) is None


def test_the_instance_is_that_of_the_body_or_of_the_change() -> None:
    assert instance_of({}) is None
    assert instance_of({INSTANCE: KEY}) == KEY
    assert instance_of({REGISTRATION: Registration(KEY)}) == KEY
