"""What a host means as an address, in every spelling that a resolver or an HTTP client takes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.domain.fields import parse_host
from dbgpt_ctl.domain.hosts import (
    LOOPBACK_NAMES,
    METADATA_ADDRESSES,
    METADATA_NAMES,
    addresses_of,
    is_loopback,
    is_this_machine,
    metadata_service,
    require_registrable,
)
from dbgpt_ctl.errors import InvalidInstance

if TYPE_CHECKING:
    from collections.abc import Callable

BASES: list[Callable[[int], str]] = [str, hex, lambda number: f"0{number:o}", lambda number: f"0{number}"]
FULL_WIDTH = {ord(digit): chr(ord(digit) - ord("0") + 0xFF10) for digit in "0123456789"}
METADATA_IPV4 = [IPv4Address(text) for text in METADATA_ADDRESSES if ":" not in text]
METADATA_IPV6 = [IPv6Address(text) for text in METADATA_ADDRESSES if ":" in text]


@st.composite
def spelled_ipv4(draw: st.DrawFn, addresses: st.SearchStrategy[IPv4Address]) -> str:
    """One to four numbers, each in any base, or all of them inside an IPv6 address."""
    address = draw(addresses)
    number = int(address)
    if draw(st.booleans()):
        return draw(spelled_ipv6(st.just(address).map(embedded(draw))))
    parts = [number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255]
    kept = draw(st.integers(0, 3))
    rest = sum(part << 8 * place for place, part in enumerate(reversed(parts[kept:])))
    # Of one text, a resolver reads all numbers with a leading zero as octal, or all as decimal.
    zeros = draw(st.sampled_from([BASES[:3], [BASES[0], BASES[1], BASES[3]]]))
    if kept != len(parts) - 1:
        zeros = [base for base in zeros if base is not BASES[3]] or BASES[:1]
    text = ".".join(draw(st.sampled_from(zeros))(part) for part in [*parts[:kept], rest])
    if draw(st.booleans()):
        text = text.upper().replace("X", draw(st.sampled_from("xX")))
    text = draw(st.sampled_from([text, text.translate(FULL_WIDTH), text.replace(".", "%2e"), text.replace(".", "。")]))
    return text + draw(st.sampled_from(["", "."]))


def embedded(draw: st.DrawFn) -> Callable[[IPv4Address], IPv6Address]:
    prefix = draw(st.sampled_from(["::ffff:0:0", "64:ff9b::", "::", "::ffff:0:0:0", "64:ff9b:1::", "2002::"]))
    shift = 80 if prefix == "2002::" else 0
    return lambda address: IPv6Address(int(IPv6Address(prefix)) | int(address) << shift)


@st.composite
def spelled_ipv6(draw: st.DrawFn, addresses: st.SearchStrategy[IPv6Address]) -> str:
    address = draw(addresses)
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    mixed = f"{':'.join(address.exploded.split(':')[:6])}:{last}"
    text = draw(st.sampled_from([str(address), address.exploded, address.exploded.upper(), mixed]))
    zone = draw(st.sampled_from(["", "%eth0", "%25eth0", "%1"]))
    return draw(st.sampled_from(["{}", "[{}]"])).format(text + zone)


@given(spelled_ipv4(st.sampled_from(METADATA_IPV4)) | spelled_ipv6(st.sampled_from(METADATA_IPV6)))
def test_a_metadata_address_is_refused_in_every_spelling(host: str) -> None:
    assert metadata_service(host)
    for text in (host, parse_host(host)):
        with pytest.raises(InvalidInstance, match="never registered") as refusal:
            require_registrable(text)
        assert str(refusal.value).isascii()
        assert refusal.value.field == "host"


@given(spelled_ipv4(st.integers(0, 2**32 - 1).map(IPv4Address)))
def test_every_spelling_of_an_address_contains_it(host: str) -> None:
    assert addresses_of(host)


@given(st.ip_addresses())
def test_a_plain_address_is_itself_and_no_other_is_refused(address: IPv4Address | IPv6Address) -> None:
    assert addresses_of(str(address))[0] == address
    if str(address) not in METADATA_ADDRESSES and len(addresses_of(str(address))) == 1:
        require_registrable(str(address))


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254:80",
        "169.254.169.254:",
        "[169.254.169.254]:80",
        "[fd00:ec2::254]:80",
        "[fd00:ec2::254]:",
        "[::ffff:169.254.169.254]:80",
        "metadata.google.internal:80",
        "metadata.google.internal.:80",
        "metadata.google.internal:",
        "metadata%2egoogle.internal:80",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:2:3:4:a9fe:a9fe",
        "64:ff9b:1:2:a9:fea9:fe00::",
        "64:ff9b:1:2a9:fe:a9fe::",
        "64:ff9b:1:a9fe:a9:fe00::",
        "fe80::a9fe:a9fe%eth]0",
        "fe80::a9fe:a9fe%eth:0",
        "fe80::a9fe:a9fe%eth.0",
        "fe80::a9fe:a9fe%]",
        "fe80::a9fe:a9fe%.",
        "fe80::a9fe:a9fe%a%b",
        "[fe80::a9fe:a9fe%eth0]]",
        "[fe80::a9fe:a9fe]%eth0",
    ],
)
def test_a_metadata_service_is_refused_with_a_port_a_zone_or_a_prefix_of_nat64(host: str) -> None:
    with pytest.raises(InvalidInstance, match="never registered"):
        require_registrable(host)


@pytest.mark.parametrize("name", METADATA_NAMES)
def test_a_metadata_name_is_refused_in_any_case_and_with_a_final_dot(name: str) -> None:
    for host in (name, name.upper(), f"{name}."):
        with pytest.raises(InvalidInstance):
            require_registrable(host)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.4",
        "169.254.10.1",
        "169.254.169.25",
        "fe80::1%eth0",
        "[fd00:ec2::1]",
        "64:ff9b::a00:4",
        "64:ff9b:1::a00:4",
        "gpu.localdomain",
        "gpu-1",
        "1",
        "3f2a9c01b4de",
        "metadata",
        "metadata.example.com",
        "my-metadata.google.internal",
        "169.254.169.254.example.com",
        "0x",
        "08.example",
        "[",
        "a:b:c",
        "模型-1",
        "0.0.0.0",
        "127.0.0.1",
        "localhost",
    ],
)
def test_any_other_host_may_be_registered(host: str) -> None:
    require_registrable(host)


LOOPBACK = ["127.0.0.1", "127.255.0.3", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0127.0.0.1", "[::1]", "::1"]
LOOPBACK += [
    "::ffff:127.0.0.1",
    "[64:ff9b::7f00:1]",
    "LocalHost",
    "localhost.",
    "gpu.localhost",
    "localhost:80",
    "localhost:",
    "127.0.0.1:80",
    "[::1]:80",
    "::1%]",
    "64:ff9b:1:7f00:0:100::",
    *sorted(LOOPBACK_NAMES),
]
UNSPECIFIED = ["0.0.0.0", "0", "0x0", "::", "[::]", "[::ffff:0:0]"]


@pytest.mark.parametrize("host", LOOPBACK + UNSPECIFIED)
def test_a_host_that_means_its_caller_is_refused_where_that_is_denied(host: str) -> None:
    assert is_this_machine(host)
    assert is_loopback(host) == (host in LOOPBACK)
    require_registrable(host)
    with pytest.raises(InvalidInstance, match="worker_register_host"):
        require_registrable(host, deny_loopback=True)


@pytest.mark.parametrize("host", ["10.0.0.4", "[fd00::4]", "gpu-1", "localhost.example.com", "mylocalhost", "128.1"])
def test_other_hosts_are_registered_where_loopback_is_denied(host: str) -> None:
    require_registrable(host, deny_loopback=True)


def test_a_refusal_says_what_the_host_means_and_what_to_set() -> None:
    with pytest.raises(InvalidInstance) as refusal:
        require_registrable("0xa9fea9fe")
    assert str(refusal.value) == (
        "host '0xa9fea9fe' is 169.254.169.254, the metadata service of AWS, Azure, Google Cloud and others: it is "
        "never registered, because API servers would call it and return its answer; set the worker's "
        "worker_register_host to its own address, which API servers can reach"
    )


def test_every_listed_address_is_in_its_shortest_form() -> None:
    assert [str(ip_address(text)) for text in METADATA_ADDRESSES] == list(METADATA_ADDRESSES)
