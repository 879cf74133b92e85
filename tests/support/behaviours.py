"""How a name server may treat a query: pure functions from a query to the replies that it gets.

A `Behaviour` is any such function. Those with arguments (`slow`, `answering`, `in_turn`, ...) return one. Knows no
socket: `tests.support.fake_upstream` sends the replies.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

from tests.support import plain_queries

TTL = 300
NEGATIVE_TTL = 60
STREAMS = frozenset({"tcp", "tls", "https"})


@dataclass(frozen=True)
class Query:
    """One query as it reached the server."""

    name: str
    """As it was asked (case kept), without the trailing dot."""
    rdtype: str
    transport: str
    """``udp``, ``tcp``, ``tls`` or ``https``."""
    client: tuple[str, int]
    """Address and port that it came from."""
    id: int
    wire: bytes
    at: float
    """`time.monotonic` when it was read."""

    @cached_property
    def message(self) -> dns.message.Message:
        """The query as dnspython reads it, which takes ten times as long as all else that is done with most."""
        return dns.message.from_wire(self.wire)


class Reply(NamedTuple):
    """One message that goes back."""

    wire: bytes | None
    """None: no message; the connection ends."""
    after: float = 0.0
    """Seconds to wait before it goes."""
    from_elsewhere: bool = False
    """Over UDP: sent from an address that was not asked."""


Behaviour = Callable[[Query], list[Reply]]


# What a sound server does.


def computed(query: Query) -> list[Reply]:
    """Answer any name: A, AAAA and TXT worked out from it, NODATA for every other type."""
    rdata = computed_rdata(query.name, query.rdtype)
    if rdata is None:
        return nodata(query)
    if query.rdtype in {"A", "AAAA"} and plain_queries.read(query.wire):
        return [Reply(plain_queries.reply(query.wire, rdata, TTL))]
    response = _response(query)
    response.answer.append(dns.rrset.from_text(query.message.question[0].name, TTL, "IN", query.rdtype, rdata))
    return _sent(query, response)


def computed_rdata(name: str, rdtype: str) -> str | None:
    """Return what `computed` answers, so that a test can expect it; None: no such record."""
    number = crc32(name.lower().encode())
    if rdtype == "A":
        return f"192.0.2.{1 + number % 254}"
    if rdtype == "AAAA":
        return f"2001:db8::{number >> 16:x}:{(number & 0xFFFF) or 1:x}"
    if rdtype == "TXT":
        return f'"computed for {name.lower()}"'
    return None


def nodata(query: Query) -> list[Reply]:
    """Say that the name has no such record (RFC 2308 section 2.2)."""
    return _negative(query, dns.rcode.NOERROR)


def nxdomain(query: Query) -> list[Reply]:
    """Say that the name doesn't exist (RFC 2308 section 2.1)."""
    return _negative(query, dns.rcode.NXDOMAIN)


def answering(*records: str, rcode: str = "NOERROR") -> Behaviour:
    """Answer with the records, each ``NAME TTL TYPE RDATA`` with absolute names; ``@`` is the name that was asked."""
    fields = [record.split(maxsplit=3) for record in records]
    read = [
        (None if name == "@" else dns.name.from_text(name), int(ttl), dns.rdata.from_text("IN", rdtype, text))
        for name, ttl, rdtype, text in fields
    ]

    def behave(query: Query) -> list[Reply]:
        response = _response(query)
        response.set_rcode(dns.rcode.from_text(rcode))
        for name, ttl, rdata in read:
            owner = name or query.message.question[0].name
            rrset = response.find_rrset(response.answer, owner, rdata.rdclass, rdata.rdtype, create=True)
            rrset.add(rdata, ttl)
        return _sent(query, response)

    return behave


def cname_chain(*names: str, ttl: int = TTL) -> Behaviour:
    """Lead from the name asked through others to the A record that `computed` gives the last."""
    owners = ["@", *(f"{name}." for name in names)]
    links = [f"{owner} {ttl} CNAME {target}" for owner, target in pairwise(owners)]
    return answering(*links, f"{owners[-1]} {ttl} A {computed_rdata(names[-1], 'A')}")


def big_text(octets: int) -> Behaviour:
    """Answer with TXT records of about so many octets: truncated over UDP where they don't fit."""
    strings = [f'@ {TTL} TXT "{number:04d}{"x" * 196}"' for number in range(max(1, octets // 212))]
    return answering(*strings)


def zone(origin: str, text: str) -> Behaviour:
    """Serve a zone in master-file format, CNAMEs followed within it; names outside it are refused."""
    apex = dns.name.from_text(origin)
    served = dns.zone.from_text(text, origin=apex, relativize=False)

    def behave(query: Query) -> list[Reply]:
        name, rdtype = query.message.question[0].name, query.message.question[0].rdtype
        if not name.is_subdomain(apex):
            return refused(query)
        if not any(other.is_subdomain(name) for other in served.nodes):  # an empty non-terminal exists: RFC 8020
            return nxdomain(query)
        response = _response(query)
        response.answer += _followed(served, apex, name, rdtype)
        return _sent(query, response) if response.answer else nodata(query)

    return behave


# What a server does in trouble.


def truncated(query: Query) -> list[Reply]:
    """Answer over UDP with TC and nothing else, and in full over a stream."""
    return computed(query) if query.transport in STREAMS else [Reply(_cut(query))]


def servfail(query: Query) -> list[Reply]:
    """Say that it failed."""
    return _bare(query, dns.rcode.SERVFAIL)


def refused(query: Query) -> list[Reply]:
    """Say that it won't."""
    return _bare(query, dns.rcode.REFUSED)


def without_edns(rcode: str, then: Behaviour = computed, *, header_only: bool = False) -> Behaviour:
    """Say this, and nothing else, to a query with EDNS, as servers do that don't know it (RFC 6891 section 7).

    Some can't read such a query so far as to repeat its question.
    """

    def behave(query: Query) -> list[Reply]:
        if query.message.edns < 0:
            return then(query)
        response = _response(query)
        response.use_edns(False)
        response.set_rcode(dns.rcode.from_text(rcode))
        if header_only:
            response.question = []
        return _sent(query, response)

    return behave


def silent(query: Query) -> list[Reply]:
    """Say nothing."""
    return []


def hang_up(query: Query) -> list[Reply]:
    """End the connection without an answer; over UDP, say nothing."""
    return [Reply(None)]


def slow(seconds: float, then: Behaviour = computed) -> Behaviour:
    """Do the same, later."""

    def behave(query: Query) -> list[Reply]:
        return [reply._replace(after=reply.after + seconds) for reply in then(query)]

    return behave


# What a broken server does, or somebody who forges its answers (RFC 5452 section 4).


def garbage(query: Query) -> list[Reply]:
    """Send octets that are no message, but for the ID."""
    return [Reply(query.wire[:2] + b"\xff" * 7 + query.wire[::-1])]


def wrong_id(query: Query) -> list[Reply]:
    """Answer under an ID that was not asked under."""
    return [
        reply._replace(wire=(query.id ^ 0x5A5A).to_bytes(2, "big") + (reply.wire or b"")[2:])
        for reply in computed(query)
    ]


def wrong_question(query: Query) -> list[Reply]:
    """Answer a question that was not asked."""
    other = dns.message.make_query("forged.invalid", query.rdtype, id=query.id)
    response = dns.message.make_response(other, recursion_available=True)
    response.answer.append(dns.rrset.from_text("forged.invalid.", TTL, "IN", "A", "198.51.100.66"))
    return [Reply(response.to_wire())]


def wrong_source(query: Query) -> list[Reply]:
    """Answer over UDP from an address that was not asked."""
    return [reply._replace(from_elsewhere=True) for reply in computed(query)]


# How behaviours are put together.


def each(*behaviours: Behaviour) -> Behaviour:
    """Send what all of them would, in order: a forgery and then the answer, say."""
    return lambda query: [reply for behaviour in behaviours for reply in behaviour(query)]


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Treat the first query in the first way, the second in the second; the last way stays."""
    lock = threading.Lock()
    left = list(behaviours)

    def behave(query: Query) -> list[Reply]:
        with lock:
            behaviour = left.pop(0) if len(left) > 1 else left[0]
        return behaviour(query)

    return behave


def by_transport(*, udp: Behaviour = computed, stream: Behaviour = computed) -> Behaviour:
    """Behave in one way over UDP and in another over TCP and TLS."""
    return lambda query: stream(query) if query.transport in STREAMS else udp(query)


def _followed(
    served: dns.zone.Zone, apex: dns.name.Name, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> list[dns.rrset.RRset]:
    """Return the records of a name, and of the names that CNAMEs lead to as far as the zone has them."""
    found: list[dns.rrset.RRset] = []
    while name.is_subdomain(apex) and all(rrset.name != name for rrset in found):
        whole = served.get_rdataset(name, rdtype)
        rdataset = whole or served.get_rdataset(name, dns.rdatatype.CNAME)
        if rdataset is None:
            break
        found.append(dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset)))
        if whole is not None:
            break
        name = rdataset[0].target
    return found


def _response(query: Query) -> dns.message.Message:
    return dns.message.make_response(query.message, recursion_available=True)


def _bare(query: Query, rcode: dns.rcode.Rcode) -> list[Reply]:
    response = _response(query)
    response.set_rcode(rcode)
    return _sent(query, response)


def _negative(query: Query, rcode: dns.rcode.Rcode) -> list[Reply]:
    response = _response(query)
    response.set_rcode(rcode)
    name = query.message.question[0].name
    apex = dns.name.Name(name.labels[-2:])
    soa = f"ns.{apex} host.{apex} 1 3600 600 86400 {NEGATIVE_TTL}"
    response.authority.append(dns.rrset.from_text(apex, NEGATIVE_TTL, "IN", "SOA", soa))
    return _sent(query, response)


def _sent(query: Query, response: dns.message.Message) -> list[Reply]:
    """Return the response as one reply, cut where it is too long for the datagram that was asked for."""
    wire = response.to_wire(max_size=65535)
    limit = max(512, query.message.payload) if query.message.edns >= 0 else 512  # RFC 6891 section 6.2.5
    if query.transport not in STREAMS and len(wire) > limit:
        return [Reply(_cut(query))]
    return [Reply(wire)]


def _cut(query: Query) -> bytes:
    response = _response(query)
    response.flags |= dns.flags.TC
    return response.to_wire()
