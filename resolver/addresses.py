"""Addresses as octets: which of them must not come from outside.

A public name that leads to a private address lets a page in a browser reach the school's printers, cameras and
management pages (DNS rebinding).
"""

from ipaddress import ip_network

# RFC 6890 and its successors: this host, private, shared, loopback, link-local; of IPv6 also what embeds such.
_PRIVATE_V4 = [
    (int(network.netmask), int(network.network_address))
    for network in map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
        ),
    )
]
# By the first octet, which tells nearly every public address from them.
_BY_FIRST = {
    first: [(mask, network) for mask, network in _PRIVATE_V4 if network >> 24 == first]
    for first in {network >> 24 for _, network in _PRIVATE_V4}
}
_FIRST_V6 = frozenset({0x00, 0xFC, 0xFD, 0xFE})
_NAT64 = bytes.fromhex("0064ff9b0000000000000000")  # RFC 6052 section 2.1: an IPv4 address follows
_NAT64_LOCAL = bytes.fromhex("0064ff9b0001")  # RFC 8215: of one's own network, whatever follows
_6TO4 = bytes.fromhex("2002")  # RFC 3056 section 2: an IPv4 address follows
_TRANSLATED = bytes.fromhex("0000000000000000ffff0000")  # RFC 2765 section 2.1
_MAPPED = bytes.fromhex("00000000000000000000ffff")  # RFC 4291 section 2.5.5.2
_COMPATIBLE = bytes(12)  # RFC 4291 section 2.5.5.1


def is_private(octets: bytes) -> bool:
    """Tell whether an address of 4 or 16 octets is private, loopback, link-local, or none at all."""
    if len(octets) == 4:
        return octets[0] in _BY_FIRST and _is_private_v4(octets)
    if octets[0] == _6TO4[0]:  # much of what is public begins like this as well
        return octets[1] == _6TO4[1] and _is_private_v4(octets[2:6])
    return octets[0] in _FIRST_V6 and _is_private_v6(octets)


def _is_private_v4(octets: bytes) -> bool:
    number = int.from_bytes(octets, "big")
    for mask, network in _BY_FIRST.get(octets[0], ()):  # noqa: SIM110 - a generator for each address costs more than this
        if number & mask == network:
            return True
    return False


def _is_private_v6(octets: bytes) -> bool:
    if octets.startswith((_NAT64, _MAPPED, _TRANSLATED, _COMPATIBLE)):
        return _is_private_v4(octets[12:])
    if octets.startswith(_NAT64_LOCAL):
        return True
    # fc00::/7, fe80::/10 and fec0::/10; :: and ::1 are compatible with addresses of this host.
    return octets[0] in {0xFC, 0xFD} or (octets[0] == 0xFE and octets[1] >= 0x80)
