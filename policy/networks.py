"""Values by network, found by an address: in as many steps as there are lengths of networks, however many those are."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Generic, TypeVar

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Value = TypeVar("Value")


class NetworkTable(Generic[Value]):
    """An immutable table of networks."""

    def __init__(self, pairs: Iterable[tuple[Network, Value]]) -> None:
        """Take networks with their values; a network may have several."""
        self._by_version: dict[int, list[tuple[int, dict[int, list[Value]]]]] = {4: [], 6: []}
        by_length: dict[tuple[int, int], dict[int, list[Value]]] = {}
        for network, value in pairs:
            shift = network.max_prefixlen - network.prefixlen
            networks = by_length.setdefault((network.version, shift), {})
            networks.setdefault(int(network.network_address) >> shift, []).append(value)
        for (version, shift), networks in sorted(by_length.items(), key=lambda item: item[0]):
            self._by_version[version].append((shift, networks))

    def of(self, address: Address) -> list[Value]:
        """Return the values of the longest network that an address is in, those given first first; empty: of none."""
        number = int(address)
        for shift, networks in self._by_version[address.version]:
            values = networks.get(number >> shift)
            if values is not None:
                return values
        return []

    def all_of(self, address: Address) -> list[tuple[int, Value]]:
        """Return the values of all networks that an address is in, the longest first, with the lengths of those."""
        number, bits = int(address), address.max_prefixlen
        return [
            (bits - shift, value)
            for shift, networks in self._by_version[address.version]
            for value in networks.get(number >> shift, ())
        ]

    def __contains__(self, address: Address) -> bool:
        return bool(self.of(address))
