"""What a registered host is: an address, and one by which a machine calls itself."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that the host is, with or without brackets; None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether this is a name or an address by which any machine calls itself."""
    address = address_of(host)
    names = {"localhost", "localhost.localdomain", "ip6-localhost"}
    return address.is_loopback if address else host.lower().rstrip(".") in names


def is_this_machine(host: str) -> bool:
    """Whether a call to it reaches the machine of the caller: loopback, or an unspecified address."""
    address = address_of(host)
    return is_loopback(host) or (address is not None and address.is_unspecified)


def means_caller(host: str, controller_host: str) -> bool:
    """Whether a call to a registered host would reach the machine of the caller, while the worker is on another one.

    A loopback address is that of the machine on which the controller is, or on which the worker is. Unless the
    controller is called by one too, that is not the machine of the caller.
    """
    return is_this_machine(host) and not is_loopback(controller_host)
