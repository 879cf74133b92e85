"""Names that are answered from here: the district's own records, and names that must not leave the network.

A record of our own comes first, then a zone that has servers of its own, then the special names. Knows no client: what
a group may reach is the policy's business.
"""

from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from functools import partial
from ipaddress import ip_network
from typing import NamedTuple

from dnslib import QTYPE

from policy.names import lineage
from resolver import records
from resolver.compression import MalformedAnswerError
from resolver.replies import Answer, bare
from resolver.rewriting import LONGEST_CHAIN, behind
from resolver.wire import (
    NXDOMAIN,
    SERVFAIL,
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    TYPE_CNAME,
    TYPE_DS,
    TYPE_PTR,
    TYPE_SVCB,
    name_octets,
)
from setting_values import Endpoint, LocalRecord

TTL = 600  # seconds. RFC 6303 section 3 has 10800, which would outlive a change of configuration for hours
RESOLVER = "resolver.arpa"


class Found(NamedTuple):
    """An answer, and why it is that."""

    answer: Answer
    rule: str
    is_ours: bool = False
    """Whether a record of the district's own says so."""
    alias: str = ""
    """Where the answer's aliases lead: what that name has elsewhere is to be added. Empty: the answer is whole."""
    targets: tuple[str, ...] = ()
    """All names to which the aliases lead, but for special ones, of which nobody can say anything."""

    @property
    def verdict(self) -> str:
        """Return what is logged of it when nothing else decides."""
        return "failed" if self.answer.rcode == SERVFAIL else "local"


class LocalNames:
    """What is answered from here."""

    def __init__(
        self, configured: Iterable[LocalRecord], zones: Container[str], designations: Iterable[bytes] = ()
    ) -> None:
        """Take the records, the zones that have servers of their own, and our own SVCB data."""
        self._zones = zones
        self._records: dict[str, dict[int, list[bytes]]] = {}
        self._aliases: dict[str, str] = {}
        self._designations = [records.record(TYPE_SVCB, data, TTL) for data in designations]
        items = list(configured)
        ttls: dict[tuple[str, str], int] = {}
        for item in items:  # RFC 2181 section 5.2: the records of a set have one TTL
            key = item.name, item.rdtype
            ttls[key] = min(ttls.get(key, item.ttl), item.ttl)
        for item in items:
            self._add(item._replace(ttl=ttls[item.name, item.rdtype]))
        self._has_wildcards = any(name.startswith("*.") for name in self._records)
        self._there = {above for name in self._records for above in lineage(name)}
        """Names that have a record of ours, and those between them and the root."""
        # RFC 4592 section 2.2.2: a wildcard doesn't stand for a name above one of ours, which is there without records.
        between = [name for name in self._there - self._records.keys() if self._is_below_wildcard(name)]
        self._records.update({name: {} for name in between})

    def _add(self, item: LocalRecord) -> None:
        rtype = QTYPE.reverse[item.rdtype]
        data = records.data_of(item.rdtype, item.rdata)
        by_type = self._records.setdefault(item.name, {})
        by_type.setdefault(rtype, []).append(records.record(rtype, data, item.ttl))
        if rtype == TYPE_CNAME:
            self._aliases[item.name] = item.rdata.lower().removesuffix(".")

    def _is_below_wildcard(self, name: str) -> bool:
        return any(f"*.{above}" in self._records for above in lineage(name) if above != name)

    def is_ours(self, name: str) -> bool:
        """Tell whether a name has a record of ours, or is in a zone with servers of its own."""
        if name in self._records or zone_of(name, self._zones):
            return True
        return self._has_wildcards and bool(self._wildcard(name))

    def find(self, name: str, qtype: int) -> Found | None:
        """Return the answer to a question; None: it isn't ours."""
        owner = name if name in self._records else self._has_wildcards and self._wildcard(name)
        if owner:
            found = self._own(owner, name, qtype)
            return self._followed(found, name, qtype) if found.alias else found
        if name[name.rfind(".") + 1 :] in _TOP_LEVEL or name in _SPECIAL:
            return self._special(name, qtype)
        return None

    def _own(self, owner: str, name: str, qtype: int) -> Found:
        by_type = self._records[owner]
        if qtype in by_type:
            return Found(records.answer(by_type[qtype], ttl=TTL), owner, is_ours=True)
        if TYPE_CNAME in by_type:
            return Found(records.answer(by_type[TYPE_CNAME], ttl=TTL), owner, is_ours=True, alias=self._aliases[owner])
        if qtype == TYPE_ANY and by_type:  # RFC 8482 section 4.1: one set of records is enough
            return Found(records.answer(next(iter(by_type.values())), ttl=TTL), owner, is_ours=True)
        return Found(_nothing(name), owner, is_ours=True)

    def _followed(self, found: Found, name: str, qtype: int) -> Found:
        """Return an alias of ours with all that it leads to here, to its end or to a name that somebody else knows."""
        answer, targets = found.answer, [found.alias]
        with suppress(MalformedAnswerError):
            for _ in range(LONGEST_CHAIN):
                alias = targets[-1]
                owner = alias if alias in self._records else self._wildcard(alias)
                further = self._own(owner, alias, qtype) if owner else self._special(alias, qtype)
                if further is None:
                    return Found(answer, found.rule, is_ours=True, alias=alias, targets=tuple(targets))
                answer = behind(answer, further.answer, name_octets(name), name_octets(alias))
                if not further.alias:
                    ours = targets if further.is_ours else targets[:-1]
                    return Found(answer, found.rule, is_ours=True, targets=tuple(ours))
                targets.append(further.alias)
        # They lead in a circle, or all of it is too long for a message.
        return Found(bare(SERVFAIL), found.rule, is_ours=True)

    def _wildcard(self, name: str) -> str:
        """Return the ``*.zone`` that stands for a name (RFC 4592); empty: none does."""
        if name in self._there:  # section 2.2.2: a name without a record is there, where one below it has some
            return ""
        # Section 3.3.1: the closest name that is there decides.
        wildcard = "*." + next((above for above in lineage(name) if above in self._there), "")
        return wildcard if wildcard in self._records else ""

    def _special(self, name: str, qtype: int) -> Found | None:
        apex = special_name(name)
        # RFC 4035 section 3.1.4.1: of a zone that somebody serves, DS is the parent's business.
        served = name.partition(".")[2] if qtype == TYPE_DS else name
        if not apex or len(zone_of(served, self._zones)) >= len(apex):  # RFC 6303 section 3: unless somebody serves it
            return None
        if name == f"_dns.{RESOLVER}" and qtype == TYPE_SVCB and self._designations:  # RFC 9462 section 4
            return Found(records.answer(self._designations, ttl=TTL), apex)
        answer = _SPECIAL[apex](name, qtype)
        if answer is not None and qtype == TYPE_DS and name in self._zones:
            answer = _nothing(apex)  # the zone is there, and not signed
        return Found(answer, apex) if answer is not None else None


def designations(name: str, tls: Iterable[Endpoint], https: Iterable[Endpoint]) -> list[bytes]:
    """Return the SVCB data by which clients find our encrypted ports (RFC 9461, RFC 9462), given our own name."""
    ports = [(("dot",), endpoint.port, b"") for endpoint in tls]
    ports += [(("h2",), endpoint.port, b"/dns-query{?dns}") for endpoint in https]
    return [
        priority.to_bytes(2, "big")
        + name_octets(name)
        + _parameter(1, b"".join(bytes([len(protocol)]) + protocol.encode() for protocol in protocols))
        + _parameter(3, port.to_bytes(2, "big"))
        + (_parameter(7, path) if path else b"")
        for priority, (protocols, port, path) in enumerate(dict.fromkeys(ports), start=1)
    ]


def _parameter(key: int, value: bytes) -> bytes:
    return key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def zone_of(name: str, zones: Container[str]) -> str:
    """Return the longest of the zones that a name is in; empty: it is in none."""
    while name and name not in zones:
        name = name.partition(".")[2]
    return name


# Special names.


def special_name(name: str) -> str:
    """Return the special name that a name is or is below; empty: it is a public one."""
    while name:
        if name in _SPECIAL:
            return name
        name = name.partition(".")[2]
    return ""


def _nothing(zone: str) -> Answer:
    """Return the answer for a name that has no record of the type: the SOA is the zone's."""
    return records.answer([], [records.soa(TTL, name_octets(zone))], ttl=TTL)


def _not_there(apex: str, name: str, qtype: int) -> Answer:  # noqa: ARG001 - whatever is asked
    """Answer for a zone that is empty: nothing at its apex, no name below."""
    return _nothing(apex) if name == apex else _nothing(apex)._replace(rcode=NXDOMAIN)


def _no_name(apex: str, name: str, qtype: int) -> Answer:  # noqa: ARG001 - whatever is asked
    """Answer for a top-level domain that isn't there, nor anything below it."""
    return _nothing(apex)._replace(rcode=NXDOMAIN)


def _loopback(apex: str, name: str, qtype: int) -> Answer:  # noqa: ARG001 - whatever is below it
    """Answer for localhost and all below it (RFC 6761 section 6.3)."""
    data = {TYPE_A: bytes([127, 0, 0, 1]), TYPE_AAAA: bytes(15) + b"\1"}.get(qtype)
    return _nothing(apex) if data is None else records.answer([records.record(qtype, data, TTL)], ttl=TTL)


def _home(apex: str, name: str, qtype: int) -> Answer | None:
    """Answer for home.arpa, but for its DS, which the outside has (RFC 8375 section 4)."""
    return None if name == apex and qtype == TYPE_DS else _not_there(apex, name, qtype)


def _loopback_pointer(apex: str, name: str, qtype: int) -> Answer:
    """Answer for the reverse of a loopback address."""
    if name != apex:
        return _not_there(apex, name, qtype)
    data = name_octets("localhost")
    return records.answer([records.record(TYPE_PTR, data, TTL)], ttl=TTL) if qtype == TYPE_PTR else _nothing(apex)


def _only_nothing(apex: str, name: str, qtype: int) -> Answer:  # noqa: ARG001 - whatever is asked
    """Answer for a name that has no record, nor any below it (RFC 9462 section 6.4)."""
    return _nothing(apex)


def _reverse(network: str) -> list[str]:
    """Return the reverse zones of a network, as few as cover it."""
    found = ip_network(network)
    step = 8 if found.version == 4 else 4
    aligned = found.subnets(new_prefix=-(-found.prefixlen // step) * step)
    suffix = "in-addr.arpa" if found.version == 4 else "ip6.arpa"
    zones = []
    for subnet in aligned:
        address = subnet.network_address
        digits = str(address).split(".") if found.version == 4 else list(address.exploded.replace(":", ""))
        zones.append(".".join((*reversed(digits[: subnet.prefixlen // step]), suffix)))
    return zones


# RFC 6303 section 4, RFC 6598 by way of RFC 7793, RFC 9637; multicast DNS's own (RFC 6762 section 12) are among them.
_UNROUTED = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24"),
    *("192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24", "255.255.255.255/32"),
    *("::/128", "fd00::/8", "fe80::/10", "2001:db8::/32", "3fff::/20"),
)
_ANSWERS: dict[str, Callable[[str, str, int], Answer | None]] = {
    "localhost": _loopback,
    # RFC 6761 sections 6.2 and 6.4, RFC 7686 section 2, RFC 6762 section 22.1, RFC 9476 section 2.
    **dict.fromkeys(("test", "invalid", "onion", "local", "alt"), _no_name),
    # Browsers and phones ask for these to learn whether they may send their lookups elsewhere: they may not.
    **dict.fromkeys(("use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com"), _no_name),
    "home.arpa": _home,
    RESOLVER: _only_nothing,
    **{zone: _not_there for network in _UNROUTED for zone in _reverse(network)},
    **{zone: _loopback_pointer for network in ("127.0.0.1/32", "::1/128") for zone in _reverse(network)},
}
_SPECIAL: dict[str, Callable[[str, int], Answer | None]] = {
    apex: partial(answer, apex) for apex, answer in _ANSWERS.items()
}
_TOP_LEVEL = {"localhost", "test", "invalid", "onion", "local", "alt", "arpa"}
"""Below these there may be a special name; elsewhere, where nearly every name is, a name must be special itself."""
