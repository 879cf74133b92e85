"""One query and what its answer must be: how the scenarios of `tests/scenarios` are written.

A query is octets, so that nothing but what it says is sent; an answer is read by dnspython.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from tests.support import behaviours
from tests.support.dns_client import Address, exchange, receive_framed, send_framed, tcp_socket

IDENT = 0x4D2
Check = Callable[[dns.message.Message], bool]


class Scenario(NamedTuple):
    """One exchange."""

    section: str
    says: str
    """What it asks: in its words, or in short."""
    ask: bytes
    expect: tuple[Check, ...]
    forwarded: bool = False
    """Whether the upstream may hear of it."""

    def holds(self, server: Address, transport: str) -> None:
        """Send the query; fail where the answer isn't what the section asks for."""
        wire = asked_over(server, transport, self.ask)
        assert wire[:2] == self.ask[:2]
        reply = dns.message.from_wire(wire)
        for check in self.expect:
            assert check(reply), f"{self.section}: {self.says}\n{reply}"


def asked_over(server: Address, transport: str, wire: bytes, *, source: str = "") -> bytes:
    """Send octets over ``udp`` or ``tcp`` and return what comes back."""
    if transport == "udp":
        return exchange(server, wire, source=source)
    with tcp_socket(server, source=source) as sock:
        send_framed(sock, wire)
        return receive_framed(sock)


# Queries.


def octets(
    name: str,
    rdtype: int = 1,
    rdclass: int = 1,
    *,
    flags: int = 0x0100,
    counts: tuple[int, ...] = (1, 0, 0, 0),
    rest: bytes = b"",
) -> bytes:
    """Return a query as octets, for what no library writes."""
    labels = [label.encode() for label in name.split(".") if label]
    return octets_of(labels, rdtype, rdclass, flags=flags, counts=counts, rest=rest)


def octets_of(
    labels: list[bytes],
    rdtype: int = 1,
    rdclass: int = 1,
    *,
    flags: int = 0x0100,
    counts: tuple[int, ...] = (1, 0, 0, 0),
    rest: bytes = b"",
) -> bytes:
    """Return a query for a name of any labels."""
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", IDENT, flags, *counts) + encoded + struct.pack(">HH", rdtype, rdclass) + rest


def question(name: str, rdtype: str = "A", **options: object) -> bytes:
    """Return a query as dnspython writes it."""
    return dns.message.make_query(name, rdtype, id=IDENT, **options).to_wire()  # type: ignore[arg-type] # passed on


# Checks.


def rcode(name: str) -> Check:
    return lambda reply: dns.rcode.to_text(reply.rcode()) == name


def flag(name: str, there: bool = True) -> Check:
    return lambda reply: bool(reply.flags & dns.flags.from_text(name)) == there


def asked(name: str) -> Check:
    return lambda reply: reply.question[0].name.to_text() == name


def data(*expected: str) -> Check:
    """Expect these data in the answer section, whoever owns them."""
    return lambda reply: texts(reply) == sorted(expected)


def texts(reply: dns.message.Message) -> list[str]:
    """Return the data of the answer section, sorted."""
    return sorted(item.to_text() for rrset in reply.answer for item in rrset)


def soa(apex: str | None = None) -> Check:
    """Expect nothing but an SOA in the authority section: this zone's, if one is named."""
    return lambda reply: (
        [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
        and apex in {None, reply.authority[0].name.to_text(omit_final_dot=True)}
    )


def opt(version: int | None) -> Check:
    return lambda reply: reply.edns == (-1 if version is None else version)


def ede(code: int, text: str | None = None) -> Check:
    return lambda reply: extended_errors(reply) == [(code, text)]


def extended_errors(reply: dns.message.Message) -> list[tuple[int, str | None]]:
    """Return the extended errors (RFC 8914) that came along: codes and texts."""
    return [(int(o.code), o.text) for o in reply.options if isinstance(o, dns.edns.EDEOption)]


def no_option(code: int) -> Check:
    return lambda reply: all(option.otype != code for option in reply.options)


def address(name: str) -> Check:
    """Expect the address that the fake upstream works out for a name."""
    return data(str(behaviours.computed_rdata(name, "A")))


OPT = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
"""An OPT record of no options."""
NODATA = (rcode("NOERROR"), data(), soa())
NXDOMAIN = (rcode("NXDOMAIN"), data(), soa())
MALFORMED = (rcode("FORMERR"), flag("QR"), data())
