"""Messages as tests write and read them: octets that dnspython would not write, and what it finds in replies."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rrset

OPT = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)


def octets(
    *name: bytes, qtype: int = 1, qclass: int = 1, flags: int = 0x0100, counts: tuple[int, ...] = (1, 0, 0, 0)
) -> bytes:
    """Return a query's octets, its labels as they are."""
    encoded = b"".join(bytes([len(label)]) + label for label in name) + b"\0"
    return struct.pack(">6H", 0x1234, flags, *counts) + encoded + struct.pack(">HH", qtype, qclass)


def response_to(
    query: dns.message.Message,
    *records: str,
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
    rcode: int = 0,
    flags: int = 0,
) -> dns.message.Message:
    """Return a response whose sections hold records as text: ``NAME TTL TYPE RDATA``."""
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(dns.rcode.Rcode(rcode))
    response.flags |= flags
    sections = (response.answer, records), (response.authority, authority), (response.additional, additional)
    for section, lines in sections:
        for line in lines:
            name, ttl, rdtype, rdata = line.split(maxsplit=3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, rdata))
    return response


def parsed(reply: bytes) -> dns.message.Message:
    """Return a reply (without its ID) as dnspython reads it."""
    return dns.message.from_wire(b"\x12\x34" + reply)


def rdata(message: dns.message.Message) -> list[str]:
    """Return the data of the answer section's records, as text."""
    return sorted(item.to_text() for rrset in message.answer for item in rrset)


def ede(message: dns.message.Message) -> tuple[int, str] | None:
    """Return a reply's extended error."""
    found = [(int(o.code), o.text or "") for o in message.options if isinstance(o, dns.edns.EDEOption)]
    assert len(found) <= 1
    return found[0] if found else None


def uncompressed(message: dns.message.Message) -> bytes:
    """Return a message as octets without a pointer in it, each record on its own."""
    sections = [message.answer, message.authority, message.additional]
    rows = [[(rrset, item) for rrset in section for item in rrset] for section in sections]
    counts = (len(message.question), *map(len, rows))
    data = struct.pack(">6H", message.id, message.flags | message.rcode(), *counts)
    for asked in message.question:
        data += _octets_of(asked.name) + struct.pack(">HH", asked.rdtype, asked.rdclass)
    for rrset, item in (row for section in rows for row in section):
        written = _octets_of(item)
        data += _octets_of(rrset.name) + struct.pack(">HHIH", rrset.rdtype, rrset.rdclass, rrset.ttl, len(written))
        data += written
    return data


def _octets_of(written: dns.name.Name | dns.rdata.Rdata) -> bytes:
    octets = written.to_wire()
    assert octets is not None
    return octets
