"""The fields of a controller error, and the message that is composed from them."""

from __future__ import annotations

import copy
import pickle

import pytest

from dbgpt_ctl.errors import (
    Attempt,
    ControllerError,
    ControllerFailed,
    ControllerRefused,
    ControllerUnreachable,
    ErrorKind,
    NotAllowed,
    NotFound,
    NotSupported,
)

ONE, TWO = Attempt("http://one", "Connection refused"), Attempt("http://two", "503 Service Unavailable")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ControllerUnreachable.of_attempts([ONE, TWO], ErrorKind.NO_ANSWER, "restart it"),
            "no controller answers: http://one: Connection refused; http://two: 503 Service Unavailable; restart it",
        ),
        (
            ControllerUnreachable.of_attempts([TWO], ErrorKind.UNAVAILABLE),
            "no controller can serve now: http://two: 503 Service Unavailable",
        ),
        (
            ControllerUnreachable("the watch broke off", controller="http://one", kind=ErrorKind.STREAM_BROKEN),
            "http://one: the watch broke off",
        ),
        (ControllerFailed("500 oh no", controller="http://one"), "the controller failed: http://one: 500 oh no"),
        (
            NotAllowed("401 Unauthorized", controller="http://one", advice="check the token"),
            "http://one does not allow it: 401 Unauthorized; check the token",
        ),
        (ControllerRefused("422 no", controller="http://one"), "http://one refused: 422 no"),
        (
            NotSupported("it has no /api/v1", controller="http://one"),
            "http://one does not support this: it has no /api/v1",
        ),
        (NotFound("it is not known", controller="http://one"), "it is not known"),
        (
            NotFound("not registered", advice="ctl models list shows what is"),
            "not registered; ctl models list shows what is",
        ),
        (ControllerUnreachable("the controller ended the watch"), "the controller ended the watch"),
    ],
)
def test_the_message_is_composed_from_the_fields(error: ControllerError, message: str) -> None:
    assert str(error) == message


def test_one_attempt_names_its_controller_and_several_name_none() -> None:
    one = ControllerFailed.of_attempts([ONE], ErrorKind.FAILED)
    both = ControllerUnreachable.of_attempts([ONE, TWO], ErrorKind.NO_ANSWER)
    assert (one.controller, one.detail, one.attempts) == ("http://one", "Connection refused", (ONE,))
    assert (both.controller, both.attempts) == (None, (ONE, TWO))
    assert both.detail == "http://one: Connection refused; http://two: 503 Service Unavailable"


def test_advised_leaves_the_original_as_it_is() -> None:
    error = NotSupported("it has no /api/v1", controller="http://one", problem_code="not_supported")
    advised = error.advised("ctl health works")
    assert str(advised) == f"{error}; ctl health works"
    assert (type(advised), advised.kind, advised.problem_code) == (
        NotSupported,
        ErrorKind.NOT_SUPPORTED,
        "not_supported",
    )
    assert error.advice is None


def test_the_fields_outlive_a_copy_and_a_pickle() -> None:
    error = NotAllowed("401", controller="http://one", advice="check the token", problem_code="x")
    for other in (copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (vars(other), str(other)) == (vars(error), str(error))
