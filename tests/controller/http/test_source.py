"""The source of a request: of the peer, or what a trusted proxy reports."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import initialize_controller
from dbgpt_ctl.controller.http.source import MAX_HOPS, TrustedProxies, address_in, source_of
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.server import running_app

if TYPE_CHECKING:
    from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry

PROXIES = TrustedProxies(["10.0.0.5", "10.1.0.0/16", "::1", "fe80::/10"])
PROXY = "10.0.0.5"


def source(
    *values: str | bytes, peer: str = PROXY, proxies: TrustedProxies = PROXIES, name: bytes = b"x-forwarded-for"
) -> str | None:
    """The source of a request from `peer` whose header has these values, each on a line of its own."""
    lines = [(name, value if isinstance(value, bytes) else value.encode("latin-1")) for value in values]
    scope = {"client": (peer, 4711), "headers": [(b"host", b"ctl"), *lines]}
    PROXIES.note_source(scope)
    return source_of(scope)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.4", "10.0.0.4"),
        ("10.0.0.4:5678", "10.0.0.4"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:5678", "2001:db8::1"),
        ("::ffff:10.0.0.4", "10.0.0.4"),
        ("[::ffff:10.0.0.4]:1", "10.0.0.4"),
        *(
            (text, None)
            for text in (
                *("", "unknown", "_hidden", "ctl.example", "for=10.0.0.4", '"10.0.0.4"', "10.0.0.4 ", "10.0.0", "10"),
                *("10.0.0.4:", "10.0.0.4:port", "10.0.0.256", "010.0.0.4", "10.0.0.4/8", "2001:db8::1:5678:x"),
                *("[10.0.0.4", "2001:db8::1]", "[]", "fe80::1%eth0", "[fe80::1%eth0]:80", "١٠.0.0.4", "10.0.0.4\n"),
            )
        ),
    ],
)
def test_an_address_in_the_header(text: str, address: str | None) -> None:
    found = address_in(text)
    assert (found and str(found)) == address


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], PROXY),
        ([""], PROXY),
        ([" , ,"], PROXY),
        (["192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1:443"], "192.0.2.1"),
        (["  192.0.2.1\t"], "192.0.2.1"),
        (["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        (["198.51.100.7,192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        (["198.51.100.7,192.0.2.1,,10.1.2.3,"], "192.0.2.1"),
        (["198.51.100.7", "192.0.2.1", "10.1.2.3"], "192.0.2.1"),
        (["2001:DB8::1, ::1, fe80::7"], "2001:db8::1"),
        (["10.1.0.1, 10.1.0.2"], "10.1.0.1"),
        (["::ffff:10.1.0.1"], "10.1.0.1"),
        (["192.0.2.1, ::ffff:10.1.0.1"], "192.0.2.1"),
        (["unknown"], PROXY),
        (["192.0.2.1, unknown"], PROXY),
        (["192.0.2.1, for=198.51.100.7"], PROXY),
        (["unknown, 192.0.2.1"], "192.0.2.1"),
        ([b"192.0.2.1, \xff\x1b[2J"], PROXY),
    ],
)
def test_the_source_behind_a_trusted_proxy(values: list[str], expected: str) -> None:
    assert source(*values) == expected
    assert source(*values) == expected, "the second time it is in the cache"


@pytest.mark.parametrize("peer", ["192.0.2.9", "10.0.0.6", "10.2.0.1", "::2", "unix:/run/x", "testclient", ""])
def test_nobody_else_is_believed(peer: str) -> None:
    assert source("198.51.100.7", peer=peer) == peer


@pytest.mark.parametrize("peer", ["10.0.0.5", "10.1.255.255", "::1", "::ffff:10.0.0.5", "fe80::1%eth0"])
def test_the_spellings_of_a_trusted_peer(peer: str) -> None:
    assert source("198.51.100.7", peer=peer) == "198.51.100.7"


@pytest.mark.parametrize("name", [b"x-real-ip", b"forwarded", b"x-client-ip", b"x-forwarded", b"x_forwarded_for"])
def test_no_other_header_is_read(name: bytes) -> None:
    assert source("198.51.100.7", name=name) == PROXY


def test_without_a_peer_there_is_no_source() -> None:
    scope: dict[str, Any] = {"client": None, "headers": [(b"x-forwarded-for", b"198.51.100.7")]}
    PROXIES.note_source(scope)
    assert source_of(scope) is None
    assert source_of({}) is None


def test_a_long_chain_is_read_up_to_a_bound() -> None:
    nearest = ["10.1.0.1"] * (MAX_HOPS - 1)
    assert source(",".join(["192.0.2.1", *nearest])) == "192.0.2.1"
    assert source(",".join(["192.0.2.1", "10.1.0.9", *nearest])) == "10.1.0.9"
    assert source("x" * 60_000 + ",192.0.2.1") == "192.0.2.1"


_TRUSTED = st.ip_addresses(v=4, network="10.1.0.0/16") | st.ip_addresses(v=6, network="fe80::/10")
_OTHERS = (st.ip_addresses(v=4) | st.ip_addresses(v=6)).filter(
    lambda address: (
        not any(address in ip_network(each) for each in ("10.0.0.5", "10.1.0.0/16", "::1", "fe80::/10"))
        and not (address.version == 6 and address.ipv4_mapped)
    )
)


def _spelled(draw: st.DrawFn, address: Any) -> str:
    port = draw(st.sampled_from(["", ":80", ":65535"]))
    text = draw(st.sampled_from([str(address), address.exploded, address.exploded.upper()]))
    return f"{text}{port}" if address.version == 4 else f"[{text}]{port}" if port else text


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[str], str]:
    """The lines of a header, and the address that the first proxy saw."""
    claimed = draw(st.lists(st.text(st.characters(max_codepoint=255), max_size=20), max_size=3))
    client = draw(_OTHERS)
    hops = draw(st.lists(_TRUSTED, max_size=5))
    values = [*claimed, *(_spelled(draw, address) for address in (client, *hops))]
    lines, line = [], values[0]
    for value in values[1:]:
        if draw(st.booleans()):
            lines.append(line)
            line = value
        else:
            line += draw(st.sampled_from([",", ", ", " ,\t", ",,"])) + value
    return [*lines, line], str(client)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chains())
def test_a_client_cannot_choose_its_source(chain: tuple[list[str], str]) -> None:
    """Whatever the client wrote into the header, the source is the address that the first trusted proxy saw."""
    lines, client = chain
    assert source(*lines) == client


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_have_an_address_as_source(values: list[bytes]) -> None:
    found = source(*values)
    assert found is not None
    assert str(ip_address(found)) == found


def test_without_the_setting_no_header_is_read() -> None:
    scope = {"client": (PROXY, 4711), "headers": [(b"x-forwarded-for", b"198.51.100.7")]}
    assert source_of(scope) == PROXY


@pytest.mark.parametrize(("trusted", "expected"), [("127.0.0.1", "198.51.100.7"), (None, "127.0.0.1")])
@pytest.mark.parametrize("mounted", [False, True])
def test_the_source_is_the_address_in_events(
    registry: EmbeddedModelRegistry, trusted: str | None, expected: str, *, mounted: bool
) -> None:
    settings = ControllerSettings(trusted_proxies=trusted)
    app = FastAPI()
    if mounted:
        initialize_controller(app, registry=registry, settings=settings)
    else:
        app = create_app(settings, registry)
    headers = {"X-Forwarded-For": "198.51.100.7"}
    with running_app(app) as url, httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        client.post("/api/controller/models", json={"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001})
        drained = client.post("/api/v1/drain", json={"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001})
        events = client.get("/api/v1/events").json()["events"]
    assert [event["address"] for event in events] == [expected, expected]
    assert drained.json()["instance"]["drain"]["by"] == expected
