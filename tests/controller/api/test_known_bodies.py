from __future__ import annotations

import orjson
import pytest

from dbgpt_ctl.controller.api.known_bodies import MAX_KNOWN_BODY_BYTES, KnownBodies
from dbgpt_ctl.controller.api.request import parse_body
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import InvalidInstance


def body(port: int, **fields: object) -> bytes:
    return orjson.dumps({"model_name": "qwen@llm", "host": "127.0.0.1", "port": port, **fields})


class Bodies(KnownBodies):
    """Notes the ports in the bodies that it had to parse."""

    def __init__(self, limit: int) -> None:
        self.parsed: list[int] = []
        super().__init__(self.parse, limit=limit)

    def parse(self, body: bytes) -> Registration:
        registration = parse_body(body)
        self.parsed.append(registration.key.port)
        return registration


def test_a_body_is_parsed_once() -> None:
    bodies = Bodies(limit=2)
    for _ in range(3):
        assert bodies.read(body(1)).key == InstanceKey("qwen@llm", "127.0.0.1", 1)
        assert bodies.read(body(2, weight=2.5)).weight == 2.5
    assert bodies.parsed == [1, 2]


def test_bodies_beyond_the_limit_do_not_push_out_those_that_are_known() -> None:
    bodies = Bodies(limit=2)
    for port in (1, 2, 3, 1, 2):
        bodies.read(body(port))
    assert bodies.parsed == [1, 2, 3]


def test_places_become_free_when_as_many_bodies_found_none() -> None:
    bodies = Bodies(limit=2)
    for port in (1, 2, 3, 4, 3, 4, 3, 4):
        bodies.read(body(port))
    assert bodies.parsed == [1, 2, 3, 4, 3, 4]


def test_a_long_body_is_parsed_each_time() -> None:
    bodies, long = Bodies(limit=2), body(1, more="x" * MAX_KNOWN_BODY_BYTES)
    assert bodies.read(long) == bodies.read(long)
    assert bodies.parsed == [1, 1]


def test_a_body_that_is_refused_is_refused_again() -> None:
    bodies = Bodies(limit=2)
    for _ in range(2):
        with pytest.raises(InvalidInstance, match="port"):
            bodies.read(body(0))
    bodies.read(body(1))
    bodies.read(body(1))
    assert bodies.parsed == [1]
