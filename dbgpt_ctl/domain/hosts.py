"""What a host means as an address, and which hosts are never registered. Nothing is looked up.

API servers call whatever host is registered, and return the answer to their users. So a host that means the metadata
service of a cloud is refused: whoever registers it could have an API server fetch the credentials of its machine.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.fields import quoted, short_ipv6
from dbgpt_ctl.errors import InvalidInstance
from dbgpt_ctl.text.escaping import invisible_characters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv6Address

METADATA_ADDRESSES = {
    "169.254.169.254": "AWS, Azure, Google Cloud and others",
    "169.254.170.2": "AWS ECS",
    "169.254.170.23": "AWS EKS",
    "fd00:ec2::254": "AWS",
    "fd00:ec2::23": "AWS EKS",
    "168.63.129.16": "Azure",
    "fd20:ce::254": "Google Cloud",
    "100.100.100.200": "Alibaba Cloud",
    "fd00:100::100:200": "Alibaba Cloud",
    "192.0.0.192": "Oracle Cloud",
    "fd00:c1::a9fe:a9fe": "Oracle Cloud",
    "fe80::a9fe:a9fe": "OpenStack",
    "169.254.0.23": "Tencent Cloud",
    "169.254.10.10": "Tencent Cloud",
    "169.254.42.42": "Scaleway",
    "fd00:42::42": "Scaleway",
    "fd00:a9fe:a9fe::1": "Linode",
}
"""The addresses at which clouds give a machine its credentials, as their documentation names them."""
METADATA_NAMES = {
    "metadata.google.internal": "Google Cloud",
    "metadata.goog": "Google Cloud",
    "instance-data.ec2.internal": "AWS",
    "metadata.tencentyun.com": "Tencent Cloud",
    "api.metadata.cloud.ibm.com": "IBM Cloud",
}
"""The names of the same services. A short name, such as `metadata`, may be the name of a worker's machine."""
_LOCAL_DOMAINS = (".localdomain", ".localdomain4", ".localdomain6")
LOOPBACK_NAMES = frozenset(
    {f"localhost{family}{domain}" for family in ("", "4", "6") for domain in ("", *_LOCAL_DOMAINS)}
    | {"ip6-localhost", "ip6-loopback"}
)
"""The names of loopback in the files of hosts that systems bring."""
_USUAL_IPV4 = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
"""Four decimal numbers without leading zeros: every resolver reads the same address in them."""
_LEADING_ZEROS = re.compile(r"(?<![0-9a-z])0+(?=[0-9])")
_IPV4_PREFIXES = frozenset({0, 0xFFFF << 32, 0xFFFF << 48, 0x64FF9B << 96})
"""The /96 networks whose last 32 bits are an IPv4 address: compatible, mapped, translated, and NAT64."""
_LOCAL_NAT64_PREFIX = 0x64FF9B0001
"""Of the /48 in which a site chooses a prefix of 48, 56, 64 or 96 bits for NAT64 (RFC 8215)."""
_6TO4_PREFIX = 0x2002
_WITH_IPV4 = ("::", "64:ff9b:", "2002:")
"""How the shortest spellings of those IPv6 addresses begin that contain an IPv4 address, and of `::1` and `::`."""


def require_registrable(host: str, *, deny_loopback: bool = False) -> None:
    """Raises InvalidInstance if the host may not be registered: a metadata service, in any spelling.

    `deny_loopback`: also a host by which any machine calls itself.
    """
    refusal = None if _is_usual(host) else _refusal(host, deny_loopback=deny_loopback)
    if refusal is not None:
        raise InvalidInstance("host", refusal)


def metadata_service(host: str) -> tuple[str, str] | None:
    """The address or name of the metadata service that the host means, and the clouds that have it; None: none."""
    name = _name(host)
    if name in METADATA_NAMES:
        return name, METADATA_NAMES[name]
    found = map(str, addresses_of(host))
    return next(((text, METADATA_ADDRESSES[text]) for text in found if text in METADATA_ADDRESSES), None)


def is_loopback(host: str) -> bool:
    """Whether this may be a name or an address by which any machine calls itself."""
    name = _name(host)
    if name in LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    return any(address.is_loopback for address in addresses_of(host))


def is_this_machine(host: str) -> bool:
    """Whether a call to it reaches the machine of the caller: loopback, or an unspecified address."""
    return is_loopback(host) or any(address.is_unspecified for address in addresses_of(host))


def addresses_of(host: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses that some resolver reads in the host; none for a name.

    There may be several: a number with a leading zero is octal or decimal, and an IPv6 address may contain an IPv4
    address, to which a gateway or the system passes a call.
    """
    name = _plain(host)
    if not name[:1].isdigit() and ":" not in name:
        return ()
    return tuple(dict.fromkeys(_read_ipv6(name) if ":" in name else _read_ipv4(name)))


def _plain(host: str) -> str:
    """The host in lower case and in ASCII where HTTP clients would make it so, without brackets, final dots, and the
    zone or the port of an IPv6 address, whatever characters a zone has.
    """
    name = host
    if not name.isascii():
        from unicodedata import normalize

        invisible = invisible_characters(name)
        name = normalize("NFKC", invisible.sub("", name) if invisible else name).replace("\u3002", ".")
    if "%" in name and ":" not in name.partition("%")[0]:  # behind an IPv6 address it begins the zone
        from urllib.parse import unquote

        name = unquote(name)
    name = name.lower().removeprefix("[")
    if ":" in name:
        name = name.partition("%")[0]
    return name.partition("]")[0].rstrip(".")


def _name(host: str) -> str:
    """The host as `_plain` makes it, without a port: some clients read what is before it."""
    return _plain(host).partition(":")[0].rstrip(".")


def _read_ipv4(name: str) -> Iterator[IPv4Address]:
    """By `inet_aton`, as resolvers do: one to four numbers, each decimal, octal or hexadecimal."""
    from ipaddress import IPv4Address
    from socket import inet_aton

    for spelling in {name, _LEADING_ZEROS.sub("", name)}:
        with suppress(OSError, UnicodeError):
            yield IPv4Address(inet_aton(spelling))


def _read_ipv6(name: str) -> Iterator[IPv4Address | IPv6Address]:
    from ipaddress import AddressValueError, IPv4Address, IPv6Address

    try:
        address = IPv6Address(name)
    except AddressValueError:
        yield from _read_ipv4(name.partition(":")[0])  # a port behind it: some clients read what is before
        return
    yield address
    number = int(address)
    if number >> 32 << 32 in _IPV4_PREFIXES:
        yield IPv4Address(number & 0xFFFFFFFF)
    elif number >> 80 == _LOCAL_NAT64_PREFIX:
        yield from _read_local_nat64(number)
    elif number >> 112 == _6TO4_PREFIX:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)


def _read_local_nat64(number: int) -> Iterator[IPv4Address]:
    """The IPv4 address behind a prefix of 96, 64, 56 and 48 bits, without bits 64 to 71 (RFC 6052)."""
    from ipaddress import IPv4Address

    yield IPv4Address(number & 0xFFFFFFFF)
    shorter = (
        number >> 24 & 0xFFFFFFFF,
        (number >> 64 & 0xFF) << 24 | number >> 32 & 0xFFFFFF,
        (number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF,
    )
    yield from map(IPv4Address, filter(None, shorter))  # zero where the prefix is a longer one


def _is_usual(host: str) -> bool:
    """Whether it is an address that every reader understands in one way, and that is accepted.

    Each heartbeat has a host, and nearly all are usual: this takes 1 us, where a full examination takes 10 to 20.
    """
    if host.startswith("["):
        address = host[1:-1]
        is_usual = not address.startswith(_WITH_IPV4) and short_ipv6(address) == address
    else:
        address = host
        is_usual = _USUAL_IPV4.fullmatch(host) is not None and not host.startswith(("0.", "127."))
    return is_usual and address not in METADATA_ADDRESSES


def _refusal(host: str, *, deny_loopback: bool) -> str | None:
    fix = "set the worker's worker_register_host to its own address, which API servers can reach"
    service = metadata_service(host)
    if service is not None:
        address, clouds = service
        spelled = "" if address == host else f"{address}, "
        return (
            f"host {quoted(host)} is {spelled}the metadata service of {clouds}: it is never registered, because API "
            f"servers would call it and return its answer; {fix}"
        )
    if deny_loopback and is_this_machine(host):
        return (
            f"host {quoted(host)} means the machine of whoever calls it, and this controller refuses such hosts "
            f"(deny_loopback_hosts): {fix}"
        )
    return None
