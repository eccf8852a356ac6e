from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.client.body import BodyReader
from dbgpt_ctl.client.failover import MAX_SHORT_ANSWER_BYTES, Request
from dbgpt_ctl.client.responses import NoResponse, Response
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.settings.addresses import parse_addresses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.client.failover import Outcome

(ADDRESS,) = parse_addresses("http://one:8000")
REQUEST = Request("GET", ADDRESS, "/", None, 5.0, max_bytes=10)


def read(
    *chunks: bytes, status: int = 200, request: Request = REQUEST, headers: Mapping[str, str] | None = None
) -> tuple[Outcome, int]:
    """The outcome, and how many chunks were wanted."""
    named = headers or {}
    reader = BodyReader(status, named, request)
    wanted = 0
    for chunk in chunks:
        if not reader.wanted:
            break
        wanted += 1
        reader.add(chunk)
    return reader.outcome(), wanted


def test_a_body_of_exactly_the_most_bytes_is_read() -> None:
    outcome, _ = read(b"12345", b"67890", headers={"content-length": "10"})
    assert isinstance(outcome, Response)
    assert outcome.body == b"1234567890"


def test_a_body_without_an_end_is_left_at_the_limit() -> None:
    outcome, wanted = read(*[b"1234"] * 100)
    assert outcome == NoResponse("its answer is larger than 1e-05 MB", FailureCause.ANSWER_TOO_LARGE)
    assert wanted == 3


@pytest.mark.parametrize("length", ["11", "9" * 10_000, "11 "])
def test_a_body_whose_declared_length_is_too_large_is_not_read(length: str) -> None:
    outcome, wanted = read(b"12345", b"67890", b"1", headers={"content-length": length})
    assert isinstance(outcome, NoResponse)
    assert outcome.cause is FailureCause.ANSWER_TOO_LARGE
    assert wanted == (3 if length.endswith(" ") else 0)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, deflate", "GZIP", "zstd", "\x1b[31m"])
def test_a_compressed_body_is_not_read(encoding: str) -> None:
    outcome, wanted = read(b"x", headers={"content-encoding": encoding})
    assert isinstance(outcome, NoResponse)
    assert outcome.cause is FailureCause.NOT_A_CONTROLLER
    assert outcome.detail.isprintable()
    assert wanted == 0


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_a_body_that_is_declared_as_it_is_is_read(encoding: str) -> None:
    assert isinstance(read(b"x", headers={"content-encoding": encoding})[0], Response)


@pytest.mark.parametrize("headers", [{"content-encoding": "gzip"}, {"content-length": "11"}, {}])
def test_an_error_keeps_its_status_without_a_body_that_is_too_large(headers: dict[str, str]) -> None:
    outcome, _ = read(b"123456", b"789012", status=503, headers=headers)
    assert isinstance(outcome, Response)
    assert (outcome.status, outcome.body) == (503, b"")


def test_an_error_is_short_whatever_the_answer_may_be() -> None:
    request = Request("GET", ADDRESS, "/", None, 5.0, max_bytes=10 * MAX_SHORT_ANSWER_BYTES)
    outcome, _ = read(bytes(MAX_SHORT_ANSWER_BYTES + 1), status=500, request=request)
    assert isinstance(outcome, Response)
    assert outcome.body == b""
    outcome, _ = read(bytes(MAX_SHORT_ANSWER_BYTES + 1), request=request)
    assert isinstance(outcome, Response)
    assert len(outcome.body) == MAX_SHORT_ANSWER_BYTES + 1
