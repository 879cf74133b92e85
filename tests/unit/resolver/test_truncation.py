"""What doesn't fit is truncated over UDP, and asked for again over TCP."""

import struct
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from resolver.transports import TCP
from tests.unit.resolver.bench import Make, turn


async def big(bench: Any, octets_of_text: int, **options: Any) -> dns.message.Message:
    records = [f'a.example. 300 TXT "{number:03d}{"x" * 97}"' for number in range(octets_of_text // 100)]
    reply: dns.message.Message = await bench.resolved(*records, rdtype="TXT", **options)
    return reply


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"use_edns": False}, 512),
        ({"use_edns": 0, "payload": 100}, 512),
        ({"use_edns": 0, "payload": 800}, 800),
        ({"use_edns": 0, "payload": 1232}, 1232),
        ({"use_edns": 0, "payload": 65535}, 1232),
    ],
)
async def test_over_udp_what_is_too_long_is_truncated(make: Make, options: dict[str, Any], limit: int) -> None:
    bench = make()
    reply = await big(bench, 2000, **options)
    assert reply.flags & dns.flags.TC
    assert not reply.answer
    assert len(bench.sent[-1].reply) <= limit
    again = bench.reply_to(rdtype="TXT", **options)  # from the cache
    assert again.flags & dns.flags.TC
    whole = bench.reply_to(rdtype="TXT", transport=TCP, **options)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 20


async def test_a_negative_answer_that_is_truncated_is_still_negative(make: Make) -> None:
    """RFC 1035 section 4.1.1: TC says that something is missing, not that it is another answer."""
    bench = make()
    proofs = [f"p{number}.example. 60 NSEC {'x' * 60}.{'y' * 60}.example. A" for number in range(8)]
    soa = "example. 60 SOA ns.example. host.example. 1 2 3 4 60"
    options: dict[str, Any] = {"use_edns": 0, "payload": 512, "want_dnssec": True}
    reply = await bench.resolved(authority=(soa, *proofs), rcode="NXDOMAIN", **options)
    again = bench.reply_to(**options)
    for cut in (reply, again):
        assert cut.flags & dns.flags.TC
        assert cut.rcode() == dns.rcode.NXDOMAIN
    assert [record.decision.rcode for record in bench.records] == ["NXDOMAIN"] * 2
    assert bench.reply_to(transport=TCP, **options).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(("rest", "cut"), [(216, False), (217, True)])
async def test_what_just_fits_is_whole(make: Make, rest: int, cut: bool) -> None:
    """12 octets of header, 15 of question, 12 of record, 256 and 217 of strings: 512."""
    reply = await make().resolved(f'a.example. 300 TXT "{"x" * 255}" "{"y" * rest}"', rdtype="TXT", use_edns=False)
    assert bool(reply.flags & dns.flags.TC) == cut


async def test_over_tcp_an_answer_too_long_for_any_message_is_truncated(make: Make) -> None:
    """65,535 octets from an upstream without EDNS leave no room for our OPT record (RFC 1035 section 4.2.2)."""
    bench = make()
    assert bench.ask(rdtype="TXT", transport=TCP, use_edns=0) is None
    question = bench.network.last.exchange.question
    length = 65535 - 12 - len(question) - 12
    strings = b"\xff" + b"x" * 255
    text = (strings * 260)[: length - 1 - (length - 1) % 256] if length % 256 else strings * (length // 256)
    text += bytes([length - len(text) - 1]) + b"y" * (length - len(text) - 1)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, length) + text
    whole = struct.pack(">6H", 0, 0x8180, 1, 1, 0, 0) + question + record
    assert len(whole) == 65535
    bench.network.last.reply(whole)
    await turn()
    assert len(bench.sent) == 1
    assert len(bench.sent[-1].reply) <= 65535
    assert bench.sent[-1].message.flags & dns.flags.TC
