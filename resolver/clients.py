"""Clients as the hot way knows them: who shares rules with whom, and what each has left of its allowance."""

import time
from ipaddress import IPv4Address, IPv6Address
from math import inf
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, NamedTuple

from policy.networks import Address, NetworkTable
from policy.snapshot import ClientScope, Snapshot
from querylog.journal import JournalWriter
from querylog.records import Client as ClientRecord
from resolver.cache import Memory
from resolver.transports import TRANSPORTS
from settings import Limits, Settings

REMEMBERED = 65_536
"""Clients of each transport."""
STRANGERS_REMEMBERED = 8_192
"""Those that aren't served are remembered apart: whoever forges their addresses pushes nobody else out."""
TAG_OCTETS = 4
NETWORK_BITS = 64  # RFC 4291 section 2.5.1: a host of IPv6 has a whole network of addresses to choose from


def address_of(text: str) -> Address:
    """Return an address as the system writes it; `ip_address` takes three times as long, for each new client."""
    if "." in text and ":" not in text:
        return IPv4Address(inet_pton(AF_INET, text))
    return IPv6Address(inet_pton(AF_INET6, text))


class Scope(NamedTuple):
    """What clients with the same rules share."""

    snapshot: Snapshot
    """The policy under which they do."""
    policy: ClientScope
    is_served: bool
    tag: bytes
    """What its finished replies are filed under, before a query's octets: no other scope has it."""


class Allowance:
    """What one client has left: a bucket of tokens that fills steadily, and what waits for upstreams."""

    __slots__ = ("in_flight", "is_exempt", "refilled", "tokens")

    def __init__(self, tokens: float, now: float, *, is_exempt: bool = False) -> None:
        self.tokens = tokens
        """How many queries it may send at once: each takes one."""
        self.is_exempt = is_exempt
        self.refilled = now
        self.in_flight = 0
        """How many of its lookups wait for an upstream."""


class Limiter:
    """How much clients may ask: one allowance for an IPv4 address or an IPv6 network, whatever the transport."""

    def __init__(self, limits: Limits) -> None:
        self.in_flight = limits.in_flight
        self._rate = limits.queries_per_second
        self._burst = float(limits.burst)
        self._exempt = NetworkTable((network, True) for network in limits.exempt)
        self._allowances: Memory[tuple[int, int], Allowance] = Memory(REMEMBERED)

    def of(self, address: Address) -> Allowance:
        """Return a client's allowance."""
        if address in self._exempt:
            return Allowance(inf, 0.0, is_exempt=True)
        number = int(address)
        key = address.version, number if address.version == 4 else number >> NETWORK_BITS
        allowance = self._allowances.get(key)
        if allowance is None:
            allowance = Allowance(self._burst if self._rate else inf, time.monotonic())
            self._allowances.keep(key, allowance)
        return allowance

    def refill(self, allowance: Allowance, now: float) -> bool:
        """Fill a bucket up to now; tell whether a query may be answered."""
        # The clock is monotonic, so what is added is never negative.
        allowance.tokens = min(self._burst, allowance.tokens + (now - allowance.refilled) * self._rate)
        allowance.refilled = now
        return allowance.tokens >= 1


class Client:
    """One client on one transport."""

    __slots__ = ("allowance", "era", "number", "record", "scope", "tag")

    def __init__(self, number: int, record: ClientRecord, scope: Scope, allowance: Allowance, era: int) -> None:
        self.number = number
        """In the journal's segment."""
        self.era = era
        """While it is `Clients.era`, the number and the scope are good."""
        self.record = record
        self.scope = scope
        self.tag = scope.tag
        self.allowance = allowance


class Clients:
    """Who asks, under the policy in force."""

    def __init__(self, settings: Settings, journal: JournalWriter, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        """The policy in force; whoever changes it forgets the clients of the last."""
        self.era = 0
        """How many times all were forgotten: a new segment voids their numbers, a new policy their scopes as well."""
        self.limiter = Limiter(settings.limits)
        self.by_transport: dict[str, Memory[str, Client]] = {name: Memory(REMEMBERED) for name in TRANSPORTS}
        self._strangers: dict[str, Memory[str, Client]] = {name: Memory(STRANGERS_REMEMBERED) for name in TRANSPORTS}
        self._journal = journal
        self._served = NetworkTable((network, True) for network in settings.server.allow_from)
        self._scopes: dict[tuple[Any, ...], Scope] = {}
        self._last_tag = 0

    def at(self, peer: str, transport: str) -> Client:
        """Return the client at an address."""
        return (
            self.by_transport[transport].get(peer) or self._strangers[transport].get(peer) or self._new(peer, transport)
        )

    def _new(self, peer: str, transport: str) -> Client:
        bare = peer.partition("%")[0]
        address = address_of(bare)
        scope = self._scope(address, transport)
        record = ClientRecord(bare, scope.policy.group.name, transport)
        allowance = self.limiter.of(address) if scope.is_served else Allowance(inf, 0.0)
        client = Client(self._journal.client(record), record, scope, allowance, self.era)
        known = self.by_transport if scope.is_served else self._strangers
        known[transport].keep(peer, client)
        return client

    def _scope(self, address: Address, transport: str) -> Scope:
        is_served = address in self._served
        # A reply over TCP is whole where one over UDP is truncated, so transports share none.
        key = (transport, is_served, *self.snapshot.scope_key(address))
        scope = self._scopes.get(key)
        if scope is None:
            self._last_tag += 1
            tag = self._last_tag.to_bytes(TAG_OCTETS, "big")
            scope = self._scopes[key] = Scope(self.snapshot, self.snapshot.scope_of(address), is_served, tag)
        return scope

    def forget(self) -> None:
        """Forget all of them: their scopes or their numbers in the journal are void. What they have left stays."""
        self.era += 1
        for memory in self._memories:
            memory.forget()
        self._scopes = {}

    def free(self, count: int) -> int:
        """Free so many of those that are forgotten, or all; return how many that was."""
        freed = 0
        for memory in self._memories:
            freed += memory.free(count - freed)
        return freed

    @property
    def _memories(self) -> list[Memory[str, Client]]:
        return [*self.by_transport.values(), *self._strangers.values()]
