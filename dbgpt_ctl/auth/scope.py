"""The scope of a token: the models and the hosts of the instances that it may register.

`models` are patterns of NAME@TYPE in which `*` stands for any characters and `?` for one. They are compared with the
case. Instances of the type `service` are exempt: each DB-GPT worker process registers one for itself.

`hosts` are ranges of addresses such as 10.1.0.0/16, single addresses, and patterns of names such as *.example.com. A
range is compared with registered addresses only, a pattern with registered names only. So `*` means every name and no
address. A name is never resolved: its answer may change after the check.

A host is an address in every spelling for which a caller might connect to an address: 127.1, 0x7f000001, 2130706433 and
digits of other scripts. None of them passes as a name. What is neither an address nor a usual host name is allowed by
no pattern. An IPv4 address that is written as IPv6 (::ffff:10.1.2.3) is the IPv4 address.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.fields import ipv6_of
from dbgpt_ctl.domain.instance import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

MAX_REMEMBERED = 16_384
"""How many models and hosts a scope remembers as allowed, each. They come with every heartbeat."""
_LABEL = r"[a-z0-9_-]+"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_GLOB = re.compile(r"[a-z0-9_.*?-]+")
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""A name that ends in a number is an address, or none that a resolver knows: the rule of WHATWG's URL standard."""
_OCTAL = re.compile(r"(?:.*\.)?0[0-9].*")
_LIKE_ADDRESSES = re.compile(r"(?=.*[0-9])[0-9*?]+(?:\.[0-9*?]+)+")


class TokenScope:
    """What `models` and `hosts` of a token allow; an empty one allows everything.

    It remembers what it has allowed: checking an instance a second time costs two look-ups in sets. Raises ValueError
    for a wrong pattern; its text is the end of a sentence that begins with the pattern.
    """

    def __init__(self, models: Iterable[str], hosts: Iterable[str]) -> None:
        self._models = tuple(parse_model_pattern(pattern) for pattern in models)
        parsed = [parse_host_pattern(pattern) for pattern in hosts]
        self._any_host = not parsed
        self._names = tuple(pattern for pattern in parsed if isinstance(pattern, re.Pattern))
        self._networks = tuple(pattern for pattern in parsed if not isinstance(pattern, re.Pattern))
        self._allowed_models: set[str] = set()
        self._allowed_hosts: set[str] = set()

    def allows_model(self, model_name: str) -> bool:
        """Whether an instance of this NAME@TYPE is within the scope."""
        if not self._models or model_name in self._allowed_models:
            return True
        if model_name.endswith(f"@{SERVICE}") or any(pattern.match(model_name) for pattern in self._models):
            _remember(self._allowed_models, model_name)
            return True
        return False

    def allows_host(self, host: str) -> bool:
        """Whether an instance on this host, as `fields.parse_host` gives it, is within the scope."""
        if self._any_host or host in self._allowed_hosts:
            return True
        if self._matches_host(host):
            _remember(self._allowed_hosts, host)
            return True
        return False

    def _matches_host(self, host: str) -> bool:
        place = _address_or_name(host)
        if place is None:
            return False
        if isinstance(place, str):
            return any(pattern.match(place) for pattern in self._names)
        return any(place in network for network in self._networks)


def parse_model_pattern(text: str) -> re.Pattern[str]:
    """The pattern as a regular expression for a whole NAME@TYPE. Raises ValueError for one that matches nothing."""
    name, at, kind = text.partition("@")
    if not at or "@" in kind or not name or not kind:
        raise ValueError("is no pattern of NAME@TYPE with one '@', as in 'qwen*@llm' or '*@text2vec'")
    if text != text.strip() or not text.isprintable():
        raise ValueError("has blanks around it or holds control characters, and matches no model")
    return re.compile(_translated(text))


def parse_host_pattern(text: str) -> re.Pattern[str] | IPv4Network | IPv6Network:
    """The range, or the regular expression for a whole name in lower case, without a dot at its end.

    Raises ValueError for a range that is wrong, and for a pattern that matches nothing.
    """
    if "/" in text or ":" in text or _is_ipv4(text):
        return _parse_network(text)
    glob = text.lower().removesuffix(".")
    if not _GLOB.fullmatch(glob) or ".." in glob or glob.startswith("."):
        raise ValueError("is neither a range of addresses (10.1.0.0/16) nor a pattern of host names (*.example.com)")
    if _NUMBER_AT_END.fullmatch(glob):
        raise ValueError("ends in a number, as no host name does: write an address as in 10.1.2.3")
    if _LIKE_ADDRESSES.fullmatch(glob):
        raise ValueError("would have to match addresses, and a pattern matches names only: write a range (10.1.0.0/16)")
    return re.compile(_translated(glob))


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    from ipaddress import IPv4Network, IPv6Network, ip_network  # `ctl` starts faster without it

    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        network = ip_network(text, strict=False)
        exact = network.network_address == ip_network(text.partition("/")[0]).network_address
    except ValueError:
        raise ValueError("is no range of addresses: write one as in 10.1.0.0/16 or fd00::/8") from None
    if not exact:
        raise ValueError(f"is an address with the length of a range: write {network}, or the address alone")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:  # noqa: PLR2004 - the bits before the IPv4 address
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


def _address_or_name(host: str) -> IPv4Address | IPv6Address | str | None:
    """The address that the host is, or its name in lower case without a dot at its end; None if it is neither."""
    address = ipv6_of(host)
    if address is not None:
        return address.ipv4_mapped or address
    name = _usual_name(host)
    return name if name is None or not _NUMBER_AT_END.fullmatch(name) else _ipv4_of(name)


def _usual_name(host: str) -> str | None:
    name = host.lower().removesuffix(".") if host.isascii() else _ascii_name(host)
    return name if name is not None and _NAME.fullmatch(name) else None


def _ascii_name(host: str) -> str | None:
    """The ASCII form of a name with other characters; None if callers may differ about it.

    Python's own name look-up follows IDNA 2003, and some HTTP clients follow newer rules: they keep `ß`, which is `ss`
    for Python, and make ASCII digits of characters that Python keeps. All agree if the result decodes to the same name,
    or is an address.
    """
    from unicodedata import normalize

    try:
        name = host.encode("idna").decode().lower().removesuffix(".")
        decoded = name.encode().decode("idna")
    except UnicodeError:
        return None
    if _NUMBER_AT_END.fullmatch(name):
        return name
    plain = normalize("NFKC", host).replace("\u3002", ".").removesuffix(".").lower()
    return name if plain == decoded else None


def _ipv4_of(text: str) -> IPv4Address | None:
    """The address, in any spelling that `connect` takes; None if there is none, or if callers differ about it."""
    from ipaddress import IPv4Address
    from socket import inet_aton

    if _OCTAL.fullmatch(text):  # 010.0.0.1 is 8.0.0.1 for some callers and 10.0.0.1 for others
        return None
    try:
        return IPv4Address(inet_aton(text))
    except OSError:
        return None


def _is_ipv4(text: str) -> bool:
    from ipaddress import AddressValueError, IPv4Address

    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _translated(glob: str) -> str:
    """The regular expression of a glob with `*` and `?` only: `[` stands for itself.

    `fnmatch.translate` makes one whose time does not explode with the number of `*`.
    """
    return translate(glob.replace("[", "[[]"))


def _remember(allowed: set[str], text: str) -> None:
    """Adds the text. When there are too many, it begins anew: what callers send must not fill the memory."""
    if len(allowed) >= MAX_REMEMBERED:
        allowed.clear()
    allowed.add(text)
