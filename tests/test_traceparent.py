"""The header of W3C Trace Context, from any caller."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbgpt_ctl.traceparent import TraceContext, incoming, parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_header_that_the_standard_says_to_read(text: str, sampled: bool) -> None:
    assert parse(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01 ",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0X",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}{SPAN}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01-{'x' * 1_000_000}",
    ],
)
def test_a_header_that_the_standard_says_to_ignore(text: str) -> None:
    assert parse(text) is None


@given(st.text() | st.from_regex(r"[0-9a-fA-F]{2}-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}-?.{0,3}"))
@example(f"00-{TRACE}-{SPAN}-01")
def test_any_text_is_read_whole_or_not_at_all(text: str) -> None:
    read = parse(text)
    if read is not None:
        assert re.fullmatch("[0-9a-f]{32}", read.trace_id)
        assert re.fullmatch("[0-9a-f]{16}", read.span_id)
        assert int(read.trace_id, 16) > 0
        assert int(read.span_id, 16) > 0
        assert text[2:53] == f"-{read.trace_id}-{read.span_id}-"
        assert parse(str(read)) == read


@given(st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"x"]), st.binary())))
def test_raw_headers_never_raise(headers: list[tuple[bytes, bytes]]) -> None:
    incoming(headers)


def test_a_repeated_header_is_ignored() -> None:
    header = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    assert incoming([(b"host", b"x"), header]) == TraceContext(TRACE, SPAN, sampled=True)
    assert incoming([header, header]) is None
    assert incoming([]) is None


@given(st.integers())
def test_a_header_that_is_made_can_be_read(seed: int) -> None:
    bits = Random(seed).getrandbits
    first = TraceContext.new(bits)
    second = first.child(bits)
    assert parse(str(first)) == first
    assert parse(str(second)) == second
    assert (second.trace_id, second.sampled) == (first.trace_id, True)
    assert second.span_id != first.span_id


def test_ids_are_never_all_zero() -> None:
    def zero(_: int) -> int:
        return 0

    context = TraceContext.new(zero)
    assert parse(str(context)) == context
    assert parse(str(context.child(zero))) is not None


def test_ids_of_the_system_are_whole_and_different() -> None:
    made = [TraceContext.new() for _ in range(100)]
    assert len({each.trace_id for each in made} | {each.span_id for each in made}) == 200
    assert all(parse(str(each)) == each for each in made)
