from __future__ import annotations

import pytest

from dbgpt_ctl import forwarding
from dbgpt_ctl.forwarding import HOPS, MAX_HOPS, incoming, is_loop, outgoing

NAME = b"x-ctl-forwarded-by"


@pytest.mark.parametrize(
    ("headers", "hops"),
    [
        ([], ()),
        ([(b"via", b"a")], ()),
        ([(NAME, b"a")], ("a",)),
        ([(NAME, b"a, b ,c")], ("a", "b", "c")),
        ([(NAME, b"a"), (NAME, b"b")], ("a", "b")),
        ([(NAME, b"a,,\xff,b c,d\r\nX: 1," + b"x" * 65 + b",e")], ("a", "e")),
    ],
)
def test_the_ids_of_a_request(headers: list[tuple[bytes, bytes]], hops: tuple[str, ...]) -> None:
    assert incoming(headers) == hops


def test_what_is_sent_is_read_back_with_the_own_id_at_the_end() -> None:
    assert outgoing("own") == "own"
    token = HOPS.set(("a", "b"))
    try:
        sent = outgoing("own")
    finally:
        HOPS.reset(token)
    hops = incoming([(forwarding.HEADER.lower().encode(), sent.encode())])
    assert hops == ("a", "b", "own")
    assert is_loop(hops, "own")
    assert not is_loop(hops, "another")


def test_a_request_of_very_many_hops_is_taken_for_one_in_a_loop() -> None:
    assert not is_loop(("a",) * MAX_HOPS, "own")
    assert is_loop(("a",) * (MAX_HOPS + 1), "own")
