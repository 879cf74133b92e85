"""Messages and EDNS (rows 1 to 13, 20 and 41): what the RFCs ask of any server, each section beside its query.

One table of questions and answers, each asked over UDP and over TCP; below it, what takes more than one of each.
"""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import pytest

from tests.integration.node import Node
from tests.support import behaviours
from tests.support.dns_client import dig, exchange, udp, udp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import (
    MALFORMED,
    OPT,
    Scenario,
    address,
    asked,
    data,
    ede,
    flag,
    no_option,
    octets,
    opt,
    question,
    rcode,
)

SOA_RR = b"\xc0\x0c\0\6\0\1\0\0\0\0\0\0"

SCENARIOS = {
    "1: ID, question, QR, RA": Scenario(
        "RFC 1035 section 4.1.1",
        "RA: this be is set or cleared in a response, and denotes whether recursive query support is available",
        question("peer.example"),
        (flag("QR"), flag("RA"), flag("RD"), flag("AA", False), asked("peer.example."), address("peer.example")),
        forwarded=True,
    ),
    "2: unknown opcode": Scenario(
        "RFC 1035 section 4.1.1",
        "Not Implemented - The name server does not support the requested kind of query.",
        struct.pack(">6H", 0x4D2, 15 << 11, 0, 0, 0, 0),
        (rcode("NOTIMP"), lambda reply: reply.opcode() == dns.opcode.Opcode(15)),
    ),
    "3: NOTIFY": Scenario(
        "RFC 1996 section 3.7 and 1035 section 4.1.1",
        "a NOTIFY is between authorities",
        octets("peer.example", 6, flags=4 << 11, counts=(1, 1, 0, 0), rest=SOA_RR),
        (rcode("NOTIMP"),),
    ),
    "3: UPDATE": Scenario(
        "RFC 2136 section 3.1 and 1035 section 4.1.1",
        "an UPDATE is for the zone's primary",
        octets("peer.example", 6, flags=5 << 11, counts=(1, 0, 1, 0), rest=SOA_RR),
        (rcode("NOTIMP"),),
    ),
    "4: two questions": Scenario(
        "RFC 9619 section 4",
        "A DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly formatted message.",
        octets("peer.example", counts=(2, 0, 0, 0), rest=octets("other.example")[12:]),
        MALFORMED,
    ),
    "4: no question": Scenario(
        "RFC 7873 section 5.4",
        "no question is for who sends a cookie, and cookies are not implemented",
        struct.pack(">6H", 0x4D2, 0x0100, 0, 0, 0, 0),
        MALFORMED,
    ),
    "6: unknown class": Scenario(
        "RFC 3597 section 5 and 1035 section 4.1.1",
        "Refused - The name server refuses to perform the specified operation for policy reasons.",
        octets("peer.example", 1, 32),
        (rcode("REFUSED"),),
    ),
    "7: case": Scenario(
        "RFC 4343 section 3 and 4.1",
        "compared without regard to case, and the question's case kept",
        question("PeEr.eXamPLE"),
        (asked("PeEr.eXamPLE."), address("peer.example")),
        forwarded=True,
    ),
    "7: case of a blocked name": Scenario(
        "RFC 4343 section 3",
        "compared without regard to case",
        question("WwW.bAd.EXAMPLE"),
        (asked("WwW.bAd.EXAMPLE."), data("0.0.0.0")),
    ),
    "8: no OPT without OPT": Scenario(
        "RFC 6891 section 7",
        "lack of presence of an OPT record in a request: none in the response",
        question("peer.example", use_edns=False),
        (opt(None), address("peer.example")),
        forwarded=True,
    ),
    "8: an OPT for an OPT": Scenario(
        "RFC 6891 section 6.1.1",
        "If an OPT record is present in a received request, compliant responders MUST include an OPT record in their "
        "respective responses.",
        question("peer.example", use_edns=0),
        (opt(0), address("peer.example")),
        forwarded=True,
    ),
    "8: an OPT with an error too": Scenario(
        "RFC 6891 section 6.1.1",
        "... in their respective responses.",
        octets("peer.example", 1, 3, counts=(1, 0, 0, 1), rest=OPT),
        (opt(0), rcode("REFUSED")),
    ),
    "9: version 1": Scenario(
        "RFC 6891 section 6.1.3",
        "If a responder does not implement the VERSION level of the request, then it MUST respond with RCODE=BADVERS.",
        question("peer.example", use_edns=1),
        (rcode("BADVERS"), opt(0), data()),
    ),
    "10: unknown option": Scenario(
        "RFC 6891 section 6.1.2",
        "Any OPTION-CODE values not understood by a responder or requestor MUST be ignored.",
        question("peer.example", options=[dns.edns.GenericOption(100, b"abc")]),  # type: ignore[arg-type] # no known code
        (rcode("NOERROR"), no_option(100), address("peer.example")),
        forwarded=True,
    ),
    "10: unknown flags": Scenario(
        "RFC 6891 section 6.1.4",
        "Z: Set to zero by senders and ignored by receivers",
        question("peer.example", use_edns=0, ednsflags=0x7FFF),
        (rcode("NOERROR"), lambda reply: reply.ednsflags == 0, address("peer.example")),
        forwarded=True,
    ),
    "11: two OPT records": Scenario(
        "RFC 6891 section 6.1.1",
        "If a query message with more than one OPT RR is received, a FORMERR (RCODE=1) MUST be returned.",
        octets("PeEr.example", counts=(1, 0, 0, 2), rest=OPT + OPT),
        (*MALFORMED, opt(0), asked("PeEr.example.")),
    ),
    "11: an OPT record that can't be read": Scenario(
        "RFC 6891 section 7",
        "If there is a problem with processing the OPT record itself, such as an option value that is badly formatted "
        "or that includes out-of-range values, a FORMERR MUST be returned.  If this occurs, the response MUST include "
        "an OPT record.",
        octets("peer.example", counts=(1, 0, 0, 1), rest=OPT[:-1] + b"\3\0\x0a\0"),
        (*MALFORMED, opt(0), asked("peer.example.")),
    ),
    "9: version 1 with options of its own": Scenario(
        "RFC 6891 section 6.1.3",
        "... then it MUST respond with RCODE=BADVERS: whatever that version's options look like",
        octets("peer.example", counts=(1, 0, 0, 1), rest=OPT[:6] + b"\1\0\0\0\3\0\x0a\0"),
        (rcode("BADVERS"), opt(0), data()),
    ),
    "NXNAME": Scenario(
        "RFC 9824 section 3.5",
        "If an explicit query for the NXNAME RR type is received, the DNS server MUST return a Format Error.",
        octets("peer.example", 128, counts=(1, 0, 0, 1), rest=OPT),
        (*MALFORMED, ede(30, None)),
    ),
    "20: ANY": Scenario(
        "RFC 8482 section 4.2",
        "in short: ANY may be answered with one HINFO record that says RFC8482, instead of all there is",
        question("peer.example", "ANY"),
        (rcode("NOERROR"), data('"RFC8482" ""')),
    ),
    "41: a cookie": Scenario(
        "RFC 7873 section 5.2.1 and docs/decisions/0014-no-cookies.md",
        "cookies are not implemented: a client that sends one gets what one without gets",
        question("peer.example", options=[dns.edns.CookieOption(bytes(range(8)), b"")]),
        (rcode("NOERROR"), no_option(10), address("peer.example")),
        forwarded=True,
    ),
    "41: a cookie with a server's part": Scenario(
        "RFC 7873 section 5.2.3 and docs/decisions/0014-no-cookies.md",
        "likewise, whoever made that part",
        question("peer.example", options=[dns.edns.CookieOption(bytes(range(8)), bytes(16))]),
        (rcode("NOERROR"), no_option(10), address("peer.example")),
        forwarded=True,
    ),
    "41: a cookie of no length that there is": Scenario(
        "RFC 7873 section 5.2.2 and RFC 6891 section 6.1.2",
        "FORMERR is for servers that implement cookies; others ignore the option, whatever is in it",
        question("peer.example", options=[dns.edns.GenericOption(10, b"\x01")]),  # type: ignore[arg-type] # its number
        (rcode("NOERROR"), no_option(10), address("peer.example")),
        forwarded=True,
    ),
    "RD=0": Scenario(
        "RFC 8914 section 4.21",
        "who doesn't desire recursion wants what only an authority has: refused, with Not Authoritative",
        question("peer.example", use_edns=0, flags=0),
        (rcode("REFUSED"), flag("RD", False), ede(20, None), data()),
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_one_exchange(node: Node, upstream: FakeUpstream, scenario: Scenario, transport: str) -> None:
    """RFC 7766 section 5: TCP is served as UDP is (row 14)."""
    heard = len(upstream.log)
    scenario.holds(node.server, transport)
    assert scenario.forwarded or len(upstream.log) == heard


def test_1_ids_are_the_clients_own(node: Node) -> None:
    """RFC 1035 section 4.1.1: "This identifier is copied the corresponding reply"; from caches too."""
    for ident in (0, 1, 0xFFFF, 0x8000):
        wire = ident.to_bytes(2, "big") + question("peer.example")[2:]
        assert exchange(node.server, wire)[:2] == wire[:2]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["+header-only", "+opcode=15"], "NOTIMP"),
        (["+opcode=notify"], "NOTIMP"),
        (["+opcode=update"], "NOTIMP"),
        (["+edns=1", "+noednsneg"], "BADVERS"),
        (["+ednsflags=0x80"], "NOERROR"),
        (["+ednsopt=100:616263"], "NOERROR"),
        (["+cookie=0102030405060708"], "NOERROR"),
        (["-c", "CLASS32"], "REFUSED"),
        (["-c", "CH"], "REFUSED"),
    ],
)
def test_2_to_41_dig_agrees(node: Node, options: list[str], status: str) -> None:
    """The rows 2, 3, 6, 9, 10 and 41 once more, as `dig` sees them."""
    said = dig(node.server, "peer.example", "A", *options)
    assert said.status == status
    assert "MBZ" not in said.text
    assert "COOKIE: " not in said.text.partition("Got answer")[2]
    assert "malformed" not in said.text


def test_5_what_is_no_query_gets_no_reply(node: Node) -> None:
    """RFC 1035 section 4.1.1: QR tells a response; what is shorter than a header is neither."""
    last = b"\xff\xfe" + question("bad.example")[2:]
    with udp_socket(node.server) as sock:
        for silent in (b"", bytes(11), octets("peer.example", flags=0x8180), octets("peer.example", flags=0xFFFF)):
            sock.send(silent)
        sock.send(last)
        assert sock.recv(4096)[:2] == last[:2]


def test_6_an_unknown_type_is_carried_unchanged(node: Node, upstream: FakeUpstream) -> None:
    """RFC 3597 section 3: "they must treat the RDATA section of such RRs as unstructured binary data"."""
    upstream.behave("unknown.example", behaviours.answering(r"@ 60 TYPE65280 \# 6 C00CFF00C000"))
    for _ in range(2):  # from the upstream, and from the cache
        reply = udp(node.server, "unknown.example", "TYPE65280")
        assert reply.answer[0][0].to_text() == r"\# 6 c00cff00c000"


@pytest.mark.parametrize(
    ("payload", "limit"), [(None, 512), (100, 512), (512, 512), (1000, 1000), (1232, 1232), (4096, 1232), (65535, 1232)]
)
def test_12_and_13_a_reply_fits_its_datagram(
    node: Node, upstream: FakeUpstream, payload: int | None, limit: int
) -> None:
    """RFC 1035 section 4.2.1: "Messages carried by UDP are restricted to 512 bytes".

    RFC 6891 section 6.2.3: "Values lower than 512 MUST be treated as equal to 512."; and never over 1232, which passes
    any path (DNS flag day 2020).
    """
    upstream.behave("large.example", behaviours.big_text(2000))
    upstream.behave("fits.example", behaviours.big_text(500))
    options: dict[str, object] = {"use_edns": False} if payload is None else {"use_edns": 0, "payload": payload}
    wire = exchange(node.server, question("large.example", "TXT", **options))
    assert len(wire) <= limit
    assert dns.message.from_wire(wire).flags & dns.flags.TC
    wire = exchange(node.server, question("fits.example", "TXT", **options))
    assert len(wire) <= limit
    assert not dns.message.from_wire(wire).flags & dns.flags.TC


def test_12_what_is_advertised_passes_any_path(node: Node) -> None:
    """DNS flag day 2020."""
    assert udp(node.server, "bad.example", use_edns=0, payload=4096).payload == 1232


@pytest.mark.parametrize("payload", [512, 1232, 4096])
def test_20_any_never_grows(node: Node, upstream: FakeUpstream, payload: int) -> None:
    """RFC 8482 section 4: what has much to say says little to ANY, and nobody is asked."""
    upstream.behave("much.example", behaviours.big_text(3000))
    heard = len(upstream.log)
    query = question("much.example", "ANY", use_edns=0, payload=payload)
    reply = exchange(node.server, query)
    assert len(reply) - len(query) < 50
    assert len(upstream.log) == heard
