"""Addresses of controllers: the text that a person writes becomes the URL that is called and may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.masking import mask_own_tokens, mask_url

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEMES = ("http", "https")
_IPV6 = "an IPv6 address stands in brackets, as in http://[::1]:8000"
_TOKEN = re.compile(r"dctl_[A-Za-z0-9_-]{43}", re.IGNORECASE)
_HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """One controller. `url` has neither credentials nor a trailing slash; `str()` of it may be printed anywhere."""

    url: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """User and token, decoded; sent as Basic."""

    @property
    def is_https(self) -> bool:
        """Whether certificates are needed."""
        return self.url.startswith("https:")

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, so that nobody on a network reads what is sent."""
        return is_loopback_host(urlsplit(self.url).hostname or "")

    @property
    def url_with_credentials(self) -> str:
        """The URL with user and token in it, as `parse_address` takes it. A secret: never shown."""
        if self.credentials is None:
            return self.url
        scheme, _, rest = self.url.partition("://")
        user, token = (quote(part, safe="") for part in self.credentials)
        return f"{scheme}://{user}:{token}@{rest}"

    @property
    def other_scheme(self) -> Address:
        """The same host and port, called by https instead of http, or by http instead of https; without credentials."""
        parts = urlsplit(self.url)
        scheme, default = ("http", 443) if self.is_https else ("https", 80)
        place = parts.netloc if parts.port else f"{parts.netloc}:{default}"
        return Address(f"{scheme}://{place}{parts.path}")

    def __str__(self) -> str:
        return self.url


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Comma separated URLs, in their order, without duplicates.

    Blanks around them, trailing slashes and a missing scheme (http) are accepted. Raises UsageError, which names the
    wrong address without its secret.
    """
    pieces = [piece.strip() for piece in text.split(",")]
    if any("@" in piece and "://" not in piece for piece in pieces[1:]):
        # A comma in a token cuts it into two pieces, which would be taken for addresses and be shown.
        raise UsageError(
            "the list of controller addresses cannot be read: an address with NAME:TOKEN@ begins with http:// or "
            "https://, and a comma in a token is written %2C"
        )
    addresses = tuple(dict.fromkeys(parse_address(piece) for piece in pieces if piece))
    if not addresses:
        raise UsageError("the controller's address is empty: give a URL such as http://127.0.0.1:8000")
    return addresses


def parse_address(text: str) -> Address:
    """One URL: `[http[s]://][NAME:TOKEN@]host[:port][/prefix]`; an IPv6 host stands in brackets. Raises UsageError."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        raise _malformed(text, "its scheme is neither http nor https")
    if not rest.isprintable() or " " in rest:
        raise _malformed(text, "it holds blanks or control characters")
    parts, port = _split(text, f"{scheme}://{rest}")
    url = f"{scheme}://{_host(text, parts)}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
    if _TOKEN.search(url):  # it would be shown wherever the address is
        raise _malformed(text, "a token stands in its host or path: write it as in http://NAME:TOKEN@host:8000")
    if parts.username is None:
        return Address(url)
    return Address(url, (unquote(parts.username), unquote(parts.password or "")))


def is_loopback_host(host: str) -> bool:
    """Whether a host name, or an address without brackets, is that of this machine only. No name is looked up."""
    from ipaddress import IPv6Address, ip_address  # slow to import, and needed for a token and by `ctl serve` only
    from socket import inet_aton, inet_ntoa

    try:
        address = ip_address(host)
    except ValueError:
        try:
            address = ip_address(inet_ntoa(inet_aton(host)))  # 127.1
        except (OSError, UnicodeError):
            return host.lower().rstrip(".") == "localhost"
    return ((isinstance(address, IPv6Address) and address.ipv4_mapped) or address).is_loopback


def clear_text_remarks(receivers: Iterable[Address]) -> list[str]:
    """A line if some of these, which get a token, get it over a network by plain HTTP: their URLs, and what to do."""
    urls = [str(address) for address in receivers if not address.is_https and not address.is_loopback]
    if not urls:
        return []
    what = "a token goes" if len(urls) == 1 else "tokens go"
    return [f"{what} to {', '.join(urls)} in plain text, and who reads the traffic can use it: write https://"]


def _split(text: str, url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        if "@" in parts.path + parts.query + parts.fragment:
            raise _malformed(text, "write / ? # and @ of a user or token percent-encoded, as %2F %3F %23 %40")
        port = parts.port
    except ValueError:
        raise _malformed(text, f"its host or port is wrong; {_IPV6}") from None
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise _malformed(text, "it has a query or a fragment")
    if port == 0:
        raise _malformed(text, "its port is 0")
    return parts, port


def _host(text: str, parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        return f"[{host}]"
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        ascii_host = ""
    if not _HOST.fullmatch(ascii_host):
        raise _malformed(text, "it has no host" if not host else "its host is not a host name or address")
    return ascii_host


def _malformed(text: str, why: str) -> UsageError:
    return UsageError(f"controller address {mask_own_tokens(mask_url(text))!a} cannot be used: {why}")
