"""Each field of a request: the accepted values and the message of each wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.domain.fields import (
    canonical_host,
    is_visible,
    parse_bool,
    parse_host,
    parse_key,
    parse_model_name,
    parse_operator_weight,
    parse_port,
    parse_prompt_template,
    parse_reason,
    parse_registration,
    parse_text_filter,
    parse_weight,
    short_ipv6,
)
from dbgpt_ctl.domain.instance import Registration
from dbgpt_ctl.errors import InvalidInstance
from dbgpt_ctl.text.escaping import invisible_characters
from tests.domain.instances import KEY

if TYPE_CHECKING:
    from ipaddress import IPv6Address

WRONG_PORTS: list[Any] = [0, 65536, True, 1.5, "x", "-1", "\u0668", []]
WRONG_WEIGHTS: list[Any] = ["nan", "inf", True, "heavy", [], float("nan")]
PARSERS = {
    "model_name": parse_model_name,
    "host": parse_host,
    "port": parse_port,
    "weight": parse_weight,
    "prompt_template": parse_prompt_template,
    "reason": parse_reason,
}


@pytest.mark.parametrize(
    ("field", "value", "parsed"),
    [
        ("model_name", " qwen@llm ", "qwen@llm"),
        ("model_name", "x" * 124 + "@llm", "x" * 124 + "@llm"),
        ("host", " [::1] ", "[::1]"),
        ("host", "fe80::1", "[fe80::1]"),
        ("host", "GPU_1.Example", "GPU_1.Example"),
        ("host", "gpu_1.example", "gpu_1.example"),
        ("port", 1, 1),
        ("port", " 65535 ", 65535),
        ("port", 8001.0, 8001),
        ("weight", None, 1.0),
        ("weight", "", 1.0),
        ("weight", "-2.5", -2.5),
        ("weight", 3, 3.0),
        ("prompt_template", None, None),
        ("prompt_template", "", None),
        ("prompt_template", " chat ", "chat"),
        ("reason", None, None),
        ("reason", "  ", None),
        ("reason", " disk is full ", "disk is full"),
    ],
)
def test_what_is_accepted(field: str, value: Any, parsed: Any) -> None:
    assert PARSERS[field](value) == parsed


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_name", None, "model_name is missing"),
        ("model_name", 7, "model_name 7 is not a string"),
        ("model_name", " ", "model_name is empty"),
        *(
            ("model_name", name, f"model_name {name!a} is not NAME@TYPE with exactly one '@', as in qwen@llm")
            for name in ("qwen", "@llm", "qwen@", "a@b@c", "a@ @")
        ),
        ("model_name", "a\x00@llm", "model_name 'a\\x00@llm' holds control or invisible characters"),
        (
            "model_name",
            "x" * 125 + "@llm",
            f"model_name '{'x' * 56}... has 129 characters, the most is 128",
        ),
        ("host", "http://h", "host 'http://h' is not a host name or address: give it without scheme, path or spaces"),
        ("port", None, "port is missing"),
        *(("port", value, f"port {value!a} is not a whole number from 1 to 65535") for value in WRONG_PORTS),
        *(("weight", value, f"weight {value!a} is not a finite number") for value in WRONG_WEIGHTS),
        ("weight", 10**400, f"weight {str(10**400)[:57]}... is not a finite number"),
        ("prompt_template", 1, "prompt_template 1 is not a string"),
        ("reason", 1, "reason 1 is not a string"),
        ("reason", "x" * 256, "reason has 256 characters, the most is 255"),
        ("reason", "a\nb", "reason 'a\\nb' is not one line of printable characters"),
        ("reason", "a\u3164b", "reason 'a\\u3164b' is not one line of printable characters"),
    ],
)
def test_what_is_refused_and_how(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInstance) as caught:
        PARSERS[field](value)
    assert (caught.value.field, str(caught.value)) == (field, message)


@pytest.mark.parametrize(
    ("spellings", "host"),
    [
        (["fe80::1", "[fe80::1]", "FE80::1", "[fe80:0::0001]", "fe80:0:0:0:0:0:0:1"], "[fe80::1]"),
        (["fe80::1%eth0", "[FE80::1%eth0]"], "[fe80::1%eth0]"),
        (["fe80::1%Eth0"], "[fe80::1%Eth0]"),
        (["::ffff:10.0.0.4", "[::FFFF:a00:4]"], "[::ffff:10.0.0.4]"),
        (["::"], "[::]"),
    ],
)
def test_an_ipv6_address_has_one_form(spellings: list[str], host: str) -> None:
    """Those of a mapped IPv4 address too, which Python 3.11 and 3.13 write in different ways."""
    assert {canonical_host(each) for each in [*spellings, host]} == {host}


@given(st.ip_addresses(v=6))
def test_the_system_and_the_library_spell_alike(address: IPv6Address) -> None:
    assert short_ipv6(address.exploded) in (str(address), None)


@pytest.mark.parametrize(
    "host",
    ["gpu-1", "10.0.0.4", "a:b", "10.0.0.4:8001", "[::1", "::1]", "[gpu]", "[[::1]]", "fe80::1%", "::1:x", ":", ""],
)
def test_any_other_host_is_verbatim(host: str) -> None:
    assert canonical_host(host) == host


def test_a_zone_that_makes_the_canonical_form_too_long() -> None:
    with pytest.raises(InvalidInstance, match="has 129 characters, the most is 128"):
        parse_host("fe80::1%" + "x" * 119)


def test_an_operator_gives_no_negative_weight_and_a_worker_may() -> None:
    assert (parse_operator_weight("0"), parse_operator_weight(None), parse_weight("-2.5")) == (0, 1, -2.5)
    with pytest.raises(InvalidInstance, match=r"^weight '-2.5' is negative: give 0 or more$"):
        parse_operator_weight("-2.5")


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        *((text, True) for text in (True, 1, 1.0, "True", " yes ", "ON", "t", "y", "1")),
        *((text, False) for text in (False, 0, "false", "No", "off", "F", "n", "0")),
    ],
)
def test_a_boolean_in_every_spelling_of_dbgpt(value: Any, *, parsed: bool) -> None:
    assert parse_bool("enabled", value, default=not parsed) is parsed


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("default", [True, False])
def test_an_absent_boolean_is_the_default(value: Any, *, default: bool) -> None:
    assert parse_bool("enabled", value, default=default) is default


@pytest.mark.parametrize("value", [2, "maybe", [], " "])
def test_a_wrong_boolean(value: Any) -> None:
    with pytest.raises(InvalidInstance, match=r"^enabled .* is neither true nor false$"):
        parse_bool("enabled", value, default=True)


@pytest.mark.parametrize(("value", "name"), [(None, None), ("", None), (" ", None), (" qwen ", "qwen"), ("a@b", "a@b")])
def test_the_model_name_of_a_list(value: str | None, name: str | None) -> None:
    assert parse_text_filter("model_name", value) == name


@pytest.mark.parametrize("text", ["plain", "caf\u00e9", "\u4e2d\u6587", "e\u0301"])
def test_visible_text(text: str) -> None:
    assert is_visible(text)
    assert invisible_characters(text) is None


@pytest.mark.parametrize("text", ["a\u2800b", "a\ufe0fb", "a" + "\u0301" * 5])
def test_printable_characters_that_nobody_sees(text: str) -> None:
    pattern = invisible_characters(text)
    assert pattern is not None
    assert pattern.search(text)
    assert not is_visible(text)


def test_a_registration_is_read_as_leniently_as_dbgpt_does() -> None:
    fields = {"model_name": " qwen@llm ", "host": "10.0.0.4", "port": "8001", "weight": "", "enabled": "no", "x": 1}
    assert parse_registration(fields) == Registration(KEY, enabled=False)
    assert parse_key(fields) == KEY
    with pytest.raises(InvalidInstance, match="port is missing") as caught:
        parse_registration({"model_name": "qwen@llm", "host": "h"})
    assert caught.value.field == "port"
