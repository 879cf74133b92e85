"""The sinkhole's answers: every mode by every type, read by dnspython."""

import dns.message
import dns.rcode
import pytest

from policy.snapshot import Group
from resolver import replies, wire
from resolver.sinkhole import sink

TTL = 10
MODES = {
    "null": Group("students", "null", (), ()),
    "nxdomain": Group("students", "nxdomain", (), ()),
    "nodata": Group("students", "nodata", (), ()),
    "refused": Group("students", "refused", (), ()),
    "address": Group("students", "address", ("192.0.2.80", "192.0.2.81", "2001:db8::80"), ()),
    "only IPv4": Group("students", "address", ("192.0.2.80",), ()),
}


def sunk(mode: str, rdtype: str, name: str = "bad.example") -> dns.message.Message:
    query = wire.read_query(dns.message.make_query(name, rdtype).to_wire())
    answer = sink(MODES[mode], query.qtype, TTL)
    return dns.message.from_wire(b"\0\0" + replies.write_reply(query, answer, b""))


@pytest.mark.parametrize(
    ("mode", "rdtype", "rcode", "rdata"),
    [
        ("null", "A", "NOERROR", ["0.0.0.0"]),
        ("null", "AAAA", "NOERROR", ["::"]),
        ("address", "A", "NOERROR", ["192.0.2.80", "192.0.2.81"]),
        ("address", "AAAA", "NOERROR", ["2001:db8::80"]),
        ("only IPv4", "A", "NOERROR", ["192.0.2.80"]),
        ("only IPv4", "AAAA", "NOERROR", []),
        *(
            (mode, rdtype, "NOERROR", [])
            for mode in ("null", "address")
            for rdtype in ("HTTPS", "TXT", "ANY", "TYPE65280", "SOA")
        ),
        *(("nxdomain", rdtype, "NXDOMAIN", []) for rdtype in ("A", "AAAA", "HTTPS", "TYPE65280")),
        *(("nodata", rdtype, "NOERROR", []) for rdtype in ("A", "AAAA", "HTTPS", "TYPE65280")),
        *(("refused", rdtype, "REFUSED", []) for rdtype in ("A", "AAAA", "HTTPS", "TYPE65280")),
    ],
)
def test_a_blocked_name_is_answered_by_mode_and_type(mode: str, rdtype: str, rcode: str, rdata: list[str]) -> None:
    reply = sunk(mode, rdtype)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert sorted(item.to_text() for rrset in reply.answer for item in rrset) == rdata
    assert all(rrset.ttl == TTL and rrset.name.to_text() == "bad.example." for rrset in reply.answer)
    if rdata or rcode == "REFUSED":
        assert not reply.authority
        return
    # RFC 2308 section 3: an empty answer is cacheable by its SOA, here for as long as a block is.
    ((soa,),) = reply.authority
    assert reply.authority[0].ttl == soa.minimum == TTL
    assert reply.authority[0].name.to_text() == "bad.example."


def test_the_root_can_be_sunk() -> None:
    assert sunk("null", "A", ".").answer[0].name.to_text() == "."


def test_nobody_vouches_for_what_was_made_up() -> None:
    assert not any(sink(group, 1, TTL).ad for group in MODES.values())
