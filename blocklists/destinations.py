"""Where a fetch may go: addresses of the public internet alone, unless the operator allows private ones.

Whoever publishes a list, or answers for its name, must not be able to reach the district's own services through us.
Every address is checked as it is about to be connected to, so no later answer of the DNS can change it.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from blocklists.errors import BlocklistError

# IANA's registry of special-purpose addresses (RFC 6890), multicast and reserved space, and the one public address
# that a cloud provider answers for within its machines.
_SPECIAL_IPV4 = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
# Of IPv6 what is global unicast so far (RFC 4291 section 2.4), less what of it is special.
_GLOBAL_IPV6 = ip_network("2000::/3")
_SPECIAL_IPV6 = tuple(ip_network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class ForbiddenAddressError(BlocklistError):
    """A host is at an address that must not be connected to; the message continues a sentence about the fetch."""

    def __init__(self, host: str, address: str) -> None:
        where = address if host == address else f"{host} ({address})"
        super().__init__(f"{where} is not on the public internet; allow private addresses for it if that is meant")


def check(host: str, address: str) -> None:
    """Raise `ForbiddenAddressError` unless an address is public."""
    if not is_public(ip_address(address)):
        raise ForbiddenAddressError(host, address)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is one of the public internet, also where it carries another inside."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    inner = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address in _GLOBAL_IPV6 and not any(address in network for network in _SPECIAL_IPV6)


def literal(host: str) -> str | None:
    """Return the address when a URL's host is one, None when it is a name."""
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        return None


class PublicResolver(AbstractResolver):
    """Resolves by the system's resolver, and refuses a host as soon as one of its addresses is not public."""

    def __init__(self) -> None:
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return a host's addresses. Raises `ForbiddenAddressError`, or `OSError` when it has none."""
        found = await self._system.resolve(host, port, family)
        for result in found:
            check(host, result["host"])
        return found

    async def close(self) -> None:
        """Let go of nothing: it holds nothing."""
