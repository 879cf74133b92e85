"""The policy at one version: everything that a decision needs, immutable.

The supervisor writes it as a JSON document beside the index; workers and commands read it back. A client's scope is
what of the policy applies to its address; clients with the same rules share one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from policy.index import Index
from policy.networks import Address, Network, NetworkTable


class Category(NamedTuple):
    """What sources are filed under."""

    key: str
    kind: str
    """``block``; or ``allow``: its sources' names are let through whatever other lists say."""
    clause: str
    """The clause of the protocol that it enforces."""


class Source(NamedTuple):
    """A list's part in a decision."""

    key: str
    category: str


class Group(NamedTuple):
    """What a group's members may not reach, and what they get instead."""

    name: str
    mode: str
    """``null``, ``nxdomain``, ``nodata``, ``refused`` or ``address``."""
    addresses: tuple[str, ...]
    """What ``address`` answers."""
    blocked: tuple[str, ...]
    """Categories, the most severe first."""


class PolicyException(NamedTuple):
    """An administrator's rule over the lists, while it is live."""

    id: int
    domain: str
    allows: bool
    exact: bool
    groups: tuple[str, ...]
    clients: tuple[Network, ...]
    expires_at: int
    """Microseconds since the epoch; 0: never."""


# How near an exception is to the client, the nearest first: by address, by group, or for everyone.
_BY_CLIENT, _BY_GROUP, _EVERYONE = range(3)


class ClientScope:
    """What of the policy applies to a client: its group, and the exceptions that reach it."""

    def __init__(self, group: Group, exceptions: Iterable[tuple[tuple[int, ...], PolicyException]]) -> None:
        """Take the exceptions each with its nearness, the smallest being the nearest."""
        self.group = group
        self._by_domain: dict[str, list[PolicyException]] = {}
        for _, exception in sorted(exceptions, key=lambda item: item[0]):
            self._by_domain.setdefault(exception.domain, []).append(exception)
        self.has_exceptions = bool(self._by_domain)

    def exception_for(self, name: str, now: int) -> PolicyException | None:
        """Return the exception that decides a name: the longest domain, then the nearest, then allow before block."""
        parent = name
        while True:
            for exception in self._by_domain.get(parent, ()):
                live = not exception.expires_at or exception.expires_at > now
                if live and (parent == name or not exception.exact):
                    return exception
            _, dot, parent = parent.partition(".")
            if not dot:
                return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The policy at one version."""

    version: int
    default_group: str
    groups: Mapping[str, Group]
    categories: Mapping[str, Category]
    sources: Mapping[int, Source]
    """Those that count; the index may know others."""
    networks: NetworkTable[str]
    """The names of groups."""
    exceptions: tuple[PolicyException, ...]
    client_exceptions: NetworkTable[PolicyException]
    """Those of them that are for clients."""
    index: Index

    def scope_key(self, address: Address) -> tuple[Any, ...]:
        """Return what tells a client's scope from others': clients with equal keys share a scope."""
        reaching = self.client_exceptions.all_of(address)
        return (self.group_of(address).name, *((length, exception.id) for length, exception in reaching))

    def scope_of(self, address: Address) -> ClientScope:
        """Return what of the policy applies to an address."""
        group = self.group_of(address)
        return ClientScope(group, self._reaching(address, group))

    def group_of(self, address: Address) -> Group:
        """Return the group of the longest network that holds an address, or the default group."""
        names = self.networks.of(address)
        return self.groups[names[-1] if names else self.default_group]

    def next_expiry(self, now: int) -> int:
        """Return when the next exception ends, in microseconds since the epoch; 0: none does."""
        return min((e.expires_at for e in self.exceptions if e.expires_at > now), default=0)

    def _reaching(self, address: Address, group: Group) -> list[tuple[tuple[int, ...], PolicyException]]:
        lengths: dict[int, int] = {}
        for length, exception in self.client_exceptions.all_of(address):
            lengths.setdefault(exception.id, length)
        found: list[tuple[tuple[int, ...], PolicyException]] = []
        for exception in self.exceptions:
            nearness = _nearness(exception, lengths.get(exception.id), group)
            if nearness is not None:
                # Between equals: allow before block, then the newer.
                found.append(((*nearness, not exception.allows, -exception.id), exception))
        return found


def _nearness(exception: PolicyException, length: int | None, group: Group) -> tuple[int, int] | None:
    """Return how near an exception is to a client, the length being that of its longest network around the client."""
    if length is not None:
        return _BY_CLIENT, -length
    if group.name in exception.groups:
        return _BY_GROUP, 0
    if not exception.groups and not exception.clients:
        return _EVERYONE, 0
    return None


def from_document(document: Mapping[str, Any], index: Index) -> Snapshot:
    """Return the snapshot of a published document. Raises `KeyError`, `TypeError` or `ValueError` when it is none."""
    exceptions = tuple(
        PolicyException(
            e["id"],
            e["domain"],
            e["action"] == "allow",
            e["match"] == "exact",
            tuple(e["groups"]),
            tuple(ip_network(client) for client in e["clients"]),
            e["expires_at"] or 0,
        )
        for e in document["exceptions"]
    )
    return Snapshot(
        version=int(document["version"]),
        default_group=document["default_group"],
        groups={
            g["name"]: Group(g["name"], g["mode"], tuple(g["addresses"]), tuple(g["blocked"]))
            for g in document["groups"]
        },
        categories={c["key"]: Category(c["key"], c["kind"], c["clause"]) for c in document["categories"]},
        sources={s["id"]: Source(s["key"], s["category"]) for s in document["sources"]},
        networks=NetworkTable((ip_network(n["cidr"]), n["group"]) for n in document["networks"]),
        exceptions=exceptions,
        client_exceptions=NetworkTable((network, e) for e in exceptions for network in e.clients),
        index=index,
    )


def read(path: Path, last: Snapshot | None = None) -> Snapshot:
    """Return the snapshot of a document's file, its index mapped; that of the last snapshot, where it is the same.

    Raises `OSError`, `policy.index.CorruptIndexError`, or `ValueError`, `KeyError`, `TypeError` for a damaged document.
    """
    document = json.loads(path.read_text())
    place = path.parent / document["index"]
    index = last.index if last and last.index.is_of(place) else Index.open(place)
    return from_document(document, index)
