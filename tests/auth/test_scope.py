"""What a token's `models` and `hosts` allow. A host is given as `fields.parse_host` stores it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import inet_aton

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbgpt_ctl.auth import scope as scopes
from dbgpt_ctl.auth.scope import TokenScope, parse_host_pattern, parse_model_pattern
from dbgpt_ctl.domain.fields import parse_host
from dbgpt_ctl.errors import InvalidInstance


def on(*hosts: str) -> TokenScope:
    return TokenScope((), hosts)


def of(*models: str) -> TokenScope:
    return TokenScope(models, ())


@pytest.mark.parametrize(
    ("pattern", "model", "allowed"),
    [
        ("qwen@llm", "qwen@llm", True),
        ("qwen@llm", "Qwen@llm", False),
        ("qwen@llm", "qwen@llm2", False),
        ("qwen*@llm", "qwen3-8b@llm", True),
        ("qwen*@llm", "my-qwen@llm", False),
        ("qwen?@llm", "qwen3@llm", True),
        ("qwen?@llm", "qwen@llm", False),
        ("*@llm", "bge@text2vec", False),
        ("*@*", "bge@text2vec", True),
        ("qwen[23]@llm", "qwen2@llm", False),
        ("qwen[23]@llm", "qwen[23]@llm", True),
        ("q.en@llm", "qwen@llm", False),
        ("qwen@llm", "WorkerManager@service", True),
        ("qwen@llm", "other@service", True),
        ("qwen@llm", "other@service2", False),
    ],
)
def test_models(pattern: str, model: str, allowed: bool) -> None:
    assert of(pattern).allows_model(model) is allowed


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "10.2.0.1", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.0.0/16", "::ffff:10.1.2.3", True),
        ("10.1.0.0/16", "::ffff:a01:203", True),
        ("::ffff:10.1.0.0/112", "10.1.2.3", True),
        ("fd00::/8", "fd00:0::0001", True),
        ("fd00::/8", "[fd12::1]", True),
        ("[fd00::1]", "fd00::1", True),
        ("fd00::/8", "fe80::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::/0", "::ffff:10.1.2.3", False),
        ("*.gpu.example.com", "n1.gpu.example.com", True),
        ("*.gpu.example.com", "N1.GPU.Example.COM.", True),
        ("*.GPU.example.com.", "n1.gpu.example.com", True),
        ("*.gpu.example.com", "gpu.example.com", False),
        ("*.gpu.example.com", "n1.gpu.example.com.evil.net", False),
        ("gpu-?", "gpu-7", True),
        ("gpu-?", "gpu-17", False),
        ("*", "anything", True),
        ("*.xn--r8jz45g", "n1.例え", True),
        ("*.xn--r8jz45g", "N1。例え.", True),
        ("*.example.com", "ｎ1.example.com", True),
        ("strasse.example", "straße.example", False),
        ("*.example.com", "\U0001f130.example.com", False),
    ],
)
def test_hosts(pattern: str, host: str, allowed: bool) -> None:
    assert on(pattern).allows_host(parse_host(host)) is allowed


@pytest.mark.parametrize(
    "host",
    [
        *("10.1.2.3", "127.1", "127.1.", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "010.0.0.1", "127.0.0.1."),
        *("１２７.0.0.1", "127。0。0。1", "::1", "[::ffff:127.0.0.1]", "fe80::1%eth0", "1.2.3.4.5", "999.1", "0x", "5"),
        *("a b", "a%2e1", "127%2e1", "a..b", ".", "", "-.%", "a:b", "x" * 70 + "é", "\udcff"),
        "\U0001fbf1\U0001fbf0.\U0001fbf0.\U0001fbf0.\U0001fbf1",  # 10.0.0.1 for an HTTP client with newer tables
    ],
)
def test_no_address_and_nothing_strange_passes_as_a_name(host: str) -> None:
    assert not on("*", "192.168.0.0/16").allows_host(host)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0x7f.1", "127.1.", "１２７.0.0.1", "127.0.0.1"])
def test_every_spelling_of_an_address_is_compared_with_ranges(host: str) -> None:
    assert on("127.0.0.0/8").allows_host(host)


def test_a_spelling_that_callers_read_differently_is_in_no_range() -> None:
    assert not on("0.0.0.0/0").allows_host("010.0.0.1")


def test_an_empty_scope_allows_everything() -> None:
    empty = TokenScope((), ())
    assert empty.allows_model("qwen@llm")
    assert empty.allows_host("127.1")


@pytest.mark.parametrize("pattern", ["qwen", "", "@llm", "qwen@", "a@b@c", " qwen@llm", "qwen@llm ", "q\n@llm"])
def test_patterns_that_match_no_model(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^(is no pattern|has blanks)"):
        parse_model_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("10.1.2.3/16", r"write 10\.1\.0\.0/16, or the address alone"),
        ("fd00::1/8", "write fd00::/8"),
        ("10.1.0.0/33", "is no range of addresses"),
        ("10.1/16", "is no range of addresses"),
        ("gpu/16", "is no range of addresses"),
        ("fd00::x", "is no range of addresses"),
        ("gpu:8000", "is no range of addresses"),
        ("127.1", "ends in a number"),
        ("gpu.7", "ends in a number"),
        ("2130706433", "ends in a number"),
        ("10.1.*", r"write a range \(10\.1\.0\.0/16\)"),
        ("10.?.0.*", r"write a range"),
        ("", "is neither a range"),
        (".", "is neither a range"),
        ("a..b", "is neither a range"),
        ("gpu[12]", "is neither a range"),
        ("gpu 1", "is neither a range"),
        ("例え", "is neither a range"),
        ("gpu@x", "is neither a range"),
    ],
)
def test_patterns_that_match_no_host(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_host_pattern(pattern)


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4), st.booleans())
def test_ranges_are_those_of_the_addresses(base: IPv4Address, length: int, host: IPv4Address, mapped: bool) -> None:
    network = IPv4Network((base, length), strict=False)
    text = parse_host(f"::ffff:{host}") if mapped else str(host)
    assert on(str(network)).allows_host(text) is (host in network)


@given(st.ip_addresses(v=6), st.integers(0, 128), st.ip_addresses(v=6))
def test_ranges_of_ipv6(base: IPv6Address, length: int, host: IPv6Address) -> None:
    network = IPv6Network((base, length), strict=False)
    if host.ipv4_mapped is None and network.network_address.ipv4_mapped is None:
        assert on(str(network)).allows_host(parse_host(str(host))) is (host in network)


@given(st.text(alphabet="0123456789abcdefxX.:[]%*g１。", max_size=20))
@example("0x7F.1")
def test_no_pattern_of_names_allows_what_connects_to_an_address(host: str) -> None:
    try:
        stored = parse_host(host)
        inet_aton(stored.encode("idna").decode() if not stored.isascii() else stored)
    except (InvalidInstance, OSError, UnicodeError):
        return
    assert not on("*", "*.*", "*.*.*.*").allows_host(stored)


@given(st.text(max_size=30))
def test_any_text_gets_an_answer(host: str) -> None:
    first = on("*", "10.0.0.0/8").allows_host(host)
    assert isinstance(first, bool)


@given(st.text(alphabet="ab*?[]!^-", min_size=1, max_size=8), st.text(alphabet="ab[]!^-", max_size=8))
def test_only_star_and_question_mark_are_special(pattern: str, name: str) -> None:
    def matches(glob: str, text: str) -> bool:
        """The definition, one character at a time."""
        if not glob:
            return not text
        if glob[0] == "*":
            return matches(glob[1:], text) or bool(text and matches(glob, text[1:]))
        return bool(text) and glob[0] in ("?", text[0]) and matches(glob[1:], text[1:])

    assert of(f"{pattern}@llm").allows_model(f"{name}@llm") is matches(pattern, name)


def test_many_stars_take_no_long_time() -> None:
    assert not of("*a" * 60 + "@llm").allows_model("a" * 59 + "b" * 60 + "@llm")


def test_a_second_check_looks_at_no_pattern() -> None:
    scope = TokenScope(("qwen*@llm",), ("10.0.0.0/8",))
    assert scope.allows_host("10.0.0.1")
    assert scope.allows_model("qwen3@llm")
    scope._networks = scope._models = ("of no use",)  # type: ignore[assignment]
    assert scope.allows_host("10.0.0.1")
    assert scope.allows_model("qwen3@llm")


def test_what_callers_send_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "MAX_REMEMBERED", 4)
    scope = TokenScope(("*@*",), ("*",))
    for number in range(20):
        assert scope.allows_host(f"h{number}x")
        assert scope.allows_model(f"m{number}@llm")
        assert len(scope._allowed_hosts) <= 4
        assert len(scope._allowed_models) <= 4
    assert not scope.allows_host("127.1")
    assert "127.1" not in scope._allowed_hosts
