"""What the RFCs ask of a forwarding resolver: each section beside the query that shows it, to a real worker.

One table of questions and answers; below it, what takes more than one of each.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.integration.node import Node
from tests.support import behaviours
from tests.support.dns_client import exchange, receive_framed, send_framed, tcp, tcp_socket, udp, udp_socket
from tests.support.fake_upstream import FakeUpstream

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
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", 0x4D2, flags, *counts) + encoded + struct.pack(">HH", rdtype, rdclass) + rest


def question(name: str, rdtype: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, rdtype, id=0x4D2, **options).to_wire()  # type: ignore[arg-type] # passed on


def rcode(name: str) -> Check:
    return lambda reply: dns.rcode.to_text(reply.rcode()) == name


def flag(name: str, there: bool = True) -> Check:
    return lambda reply: bool(reply.flags & dns.flags.from_text(name)) == there


def asked(name: str) -> Check:
    return lambda reply: reply.question[0].name.to_text() == name


def data(*expected: str) -> Check:
    return lambda reply: sorted(item.to_text() for rrset in reply.answer for item in rrset) == sorted(expected)


def opt(version: int | None) -> Check:
    return lambda reply: reply.edns == (-1 if version is None else version)


def ede(code: int, text: str | None = None) -> Check:
    def check(reply: dns.message.Message) -> bool:
        return [(o.code, o.text) for o in reply.options if isinstance(o, dns.edns.EDEOption)] == [(code, text)]

    return check


def no_option(code: int) -> Check:
    return lambda reply: all(option.otype != code for option in reply.options)


def address(name: str) -> Check:
    return data(str(behaviours.computed_rdata(name, "A")))


OPT = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
SOA_RR = b"\xc0\x0c\0\6\0\1\0\0\0\0\0\0"
MALFORMED = (rcode("FORMERR"), flag("QR"), lambda reply: not reply.answer)

SCENARIOS = {
    "1: ID, question, QR, RA": Scenario(
        "RFC 1035 section 4.1.1",
        "RA: this be is set or cleared in a response, and denotes whether recursive query support is available",
        question("peer.test"),
        (flag("QR"), flag("RA"), flag("RD"), flag("AA", False), asked("peer.test."), address("peer.test")),
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
        octets("peer.test", 6, flags=4 << 11, counts=(1, 1, 0, 0), rest=SOA_RR),
        (rcode("NOTIMP"),),
    ),
    "3: UPDATE": Scenario(
        "RFC 2136 section 3.1 and 1035 section 4.1.1",
        "an UPDATE is for the zone's primary",
        octets("peer.test", 6, flags=5 << 11, counts=(1, 0, 1, 0), rest=SOA_RR),
        (rcode("NOTIMP"),),
    ),
    "4: two questions": Scenario(
        "RFC 9619 section 4",
        "A DNS message with OPCODE = 0 and QDCOUNT > 1 MUST be treated as an incorrectly formatted message.",
        octets("peer.test", counts=(2, 0, 0, 0), rest=octets("other.test")[12:]),
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
        octets("peer.test", 1, 32),
        (rcode("REFUSED"),),
    ),
    "7: case": Scenario(
        "RFC 4343 section 3 and 4.1",
        "compared without regard to case, and the question's case kept",
        question("PeEr.tESt"),
        (asked("PeEr.tESt."), address("peer.test")),
        forwarded=True,
    ),
    "7: case of a blocked name": Scenario(
        "RFC 4343 section 3",
        "compared without regard to case",
        question("WwW.bAd.TEST"),
        (asked("WwW.bAd.TEST."), data("0.0.0.0")),
    ),
    "8: no OPT without OPT": Scenario(
        "RFC 6891 section 7",
        "lack of presence of an OPT record in a request: none in the response",
        question("peer.test", use_edns=False),
        (opt(None), address("peer.test")),
        forwarded=True,
    ),
    "8: an OPT for an OPT": Scenario(
        "RFC 6891 section 6.1.1",
        "If an OPT record is present in a received request, compliant responders MUST include an OPT record in their "
        "respective responses.",
        question("peer.test", use_edns=0),
        (opt(0), address("peer.test")),
        forwarded=True,
    ),
    "8: an OPT with an error too": Scenario(
        "RFC 6891 section 6.1.1",
        "... in their respective responses.",
        octets("peer.test", 1, 3, counts=(1, 0, 0, 1), rest=OPT),
        (opt(0), rcode("REFUSED")),
    ),
    "9: version 1": Scenario(
        "RFC 6891 section 6.1.3",
        "If a responder does not implement the VERSION level of the request, then it MUST respond with RCODE=BADVERS.",
        question("peer.test", use_edns=1),
        (rcode("BADVERS"), opt(0), data()),
    ),
    "10: unknown option": Scenario(
        "RFC 6891 section 6.1.2",
        "Any OPTION-CODE values not understood by a responder or requestor MUST be ignored.",
        question("peer.test", options=[dns.edns.GenericOption(100, b"abc")]),  # type: ignore[arg-type] # no known code
        (rcode("NOERROR"), no_option(100), address("peer.test")),
        forwarded=True,
    ),
    "10: unknown flags": Scenario(
        "RFC 6891 section 6.1.4",
        "Z: Set to zero by senders and ignored by receivers",
        question("peer.test", use_edns=0, ednsflags=0x7FFF),
        (rcode("NOERROR"), lambda reply: reply.ednsflags == 0, address("peer.test")),
        forwarded=True,
    ),
    "11: two OPT records": Scenario(
        "RFC 6891 section 6.1.1",
        "If a query message with more than one OPT RR is received, a FORMERR (RCODE=1) MUST be returned.",
        octets("peer.test", counts=(1, 0, 0, 2), rest=OPT + OPT),
        MALFORMED,
    ),
    "27: blocked": Scenario(
        "RFC 8914 section 4.16",
        "The server is unable to respond to the request because the domain is on a blocklist due to an internal "
        "security policy imposed by the operator of the server resolving or forwarding the query.",
        question("bad.test", use_edns=0),
        (ede(15, "adult"), data("0.0.0.0"), rcode("NOERROR")),
    ),
    "27: blocked, to who speaks no EDNS": Scenario(
        "RFC 8914 section 2",
        "an option of the OPT record",
        question("bad.test", use_edns=False),
        (opt(None), data("0.0.0.0")),
    ),
    "28: the reason changes no code": Scenario(
        "RFC 8914 section 3",
        "the rcode is what it would be without",
        question("bad.test", "TXT", use_edns=0),
        (ede(15, "adult"), rcode("NOERROR"), data()),
    ),
    "47: a blocked name is never authentic": Scenario(
        "RFC 4035 section 3.2.3 and 3.2.2",
        "AD only for what was validated; CD is copied",
        question("bad.test", use_edns=0, want_dnssec=True, flags=dns.flags.RD | dns.flags.AD | dns.flags.CD),
        (flag("AD", False), flag("CD"), lambda reply: bool(reply.ednsflags & dns.flags.DO)),
    ),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("scenarios"), upstream)
    made.start()
    yield made
    for worker in made.workers:
        worker.close()
    assert "Traceback" not in made.errors


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_one_exchange(node: Node, upstream: FakeUpstream, scenario: Scenario, transport: str) -> None:
    """RFC 7766 section 5: TCP is served as UDP is (row 14)."""
    heard = len(upstream.log)
    if transport == "udp":
        wire = exchange(node.server, scenario.ask)
    else:
        with tcp_socket(node.server) as sock:
            send_framed(sock, scenario.ask)
            wire = receive_framed(sock)
    assert wire[:2] == scenario.ask[:2]
    reply = dns.message.from_wire(wire)
    for check in scenario.expect:
        assert check(reply), f"{scenario.section}: {scenario.says}\n{reply}"
    assert scenario.forwarded or len(upstream.log) == heard


def test_5_what_is_no_query_gets_no_reply(node: Node) -> None:
    """RFC 1035 section 4.1.1: QR tells a response; what is shorter than a header is neither."""
    last = question("bad.test")
    with udp_socket(node.server) as sock:
        for silent in (b"", bytes(11), octets("peer.test", flags=0x8180), octets("peer.test", flags=0xFFFF)):
            sock.send(silent)
        sock.send(last)
        assert sock.recv(4096)[:2] == last[:2]


def test_6_an_unknown_type_is_carried_unchanged(node: Node, upstream: FakeUpstream) -> None:
    """RFC 3597 section 3: "they must treat the RDATA section of such RRs as unstructured binary data"."""
    upstream.behave("unknown.test", behaviours.answering(r"@ 60 TYPE65280 \# 6 C00CFF00C000"))
    for _ in range(2):  # from the upstream, and from the cache
        reply = udp(node.server, "unknown.test", "TYPE65280")
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
    upstream.behave("large.test", behaviours.big_text(2000))
    upstream.behave("fits.test", behaviours.big_text(500))
    options: dict[str, object] = {"use_edns": False} if payload is None else {"use_edns": 0, "payload": payload}
    wire = exchange(node.server, question("large.test", "TXT", **options))
    assert len(wire) <= limit
    assert dns.message.from_wire(wire).flags & dns.flags.TC
    wire = exchange(node.server, question("fits.test", "TXT", **options))
    assert len(wire) <= limit
    assert not dns.message.from_wire(wire).flags & dns.flags.TC


def test_12_what_is_advertised_passes_any_path(node: Node) -> None:
    """DNS flag day 2020."""
    assert udp(node.server, "bad.test", use_edns=0, payload=4096).payload == 1232


def test_14_what_an_upstream_truncates_is_fetched_over_tcp(node: Node, upstream: FakeUpstream) -> None:
    """RFC 7766 section 5."""
    upstream.behave("cut.test", behaviours.truncated)
    reply = udp(node.server, "cut.test")
    assert not reply.flags & dns.flags.TC
    assert address("cut.test")(reply)
    assert [query.transport for query in upstream.asked("cut.test")] == ["udp", "tcp"]


def test_17_a_message_may_come_split(node: Node) -> None:
    """RFC 7766 section 8: the length and the message, in any pieces."""
    wire = question("bad.test")
    framed = len(wire).to_bytes(2, "big") + wire
    for cut in (1, 2, 3, len(framed) - 1):
        with tcp_socket(node.server) as sock:
            sock.sendall(framed[:cut])
            sock.sendall(framed[cut:])
            assert receive_framed(sock)[:2] == wire[:2]


@pytest.mark.parametrize(
    ("name", "behaviour", "code"),
    [("nx.test", behaviours.nxdomain, "NXDOMAIN"), ("empty.test", behaviours.nodata, "NOERROR")],
)
def test_21_a_negative_answer_carries_its_soa_and_is_cached(
    node: Node, upstream: FakeUpstream, name: str, behaviour: behaviours.Behaviour, code: str
) -> None:
    """RFC 2308 section 3: how long a negative answer may be cached.

    "The TTL of this record is set from the minimum of the MINIMUM field of the SOA record and the TTL of the SOA
    itself, and indicates how long a resolver may cache the negative answer."
    """
    upstream.behave(name, behaviour)
    for _ in range(3):
        reply = udp(node.server, name)
        assert rcode(code)(reply)
        assert reply.authority[0].rdtype == dns.rdatatype.SOA
        assert 0 < reply.authority[0].ttl <= behaviours.NEGATIVE_TTL
    assert len(upstream.asked(name)) == 1


def test_21_an_alias_to_nothing_is_negative_too(node: Node, upstream: FakeUpstream) -> None:
    """RFC 2308 section 2.2: the common case of a name that is served from elsewhere and has no AAAA record."""

    def dangling(query: behaviours.Query) -> list[behaviours.Reply]:
        (negative,) = behaviours.nodata(query)
        assert negative.wire is not None
        response = dns.message.from_wire(negative.wire)
        response.answer = [dns.rrset.from_text(response.question[0].name, 3600, "IN", "CNAME", "elsewhere.test.")]
        return [behaviours.Reply(response.to_wire())]

    upstream.behave("alias.test", dangling)
    for _ in range(2):
        reply = udp(node.server, "alias.test", "AAAA")
        assert reply.answer[0].rdtype == dns.rdatatype.CNAME
        assert reply.authority[0].rdtype == dns.rdatatype.SOA
    assert len(upstream.asked("alias.test")) == 1


def test_22_a_ttl_with_the_top_bit_set_is_zero(node: Node, upstream: FakeUpstream) -> None:
    """RFC 2181 section 8: such a TTL is read "as if the entire value received was zero"."""

    def huge(query: behaviours.Query) -> list[behaviours.Reply]:
        end = query.wire.index(b"\0\0\1\0\1") + 5
        record = b"\xc0\x0c\0\1\0\1\xff\xff\xff\xff\0\4\xc0\0\2\1"
        return [behaviours.Reply(query.wire[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + query.wire[12:end] + record)]

    upstream.behave("huge.test", huge)
    for count in (1, 2):
        assert udp(node.server, "huge.test").answer[0].ttl == 0
        assert len(upstream.asked("huge.test")) == count


def test_22_a_long_ttl_is_capped(node: Node, upstream: FakeUpstream) -> None:
    """RFC 2181 section 8: "Implementations are always free to place an upper bound on any TTL received"."""
    upstream.behave("long.test", behaviours.answering("@ 2147483647 A 192.0.2.9"))
    assert udp(node.server, "long.test").answer[0].ttl == 86400


@pytest.mark.parametrize(
    ("flags", "do", "ad"),
    [(dns.flags.RD, False, False), (dns.flags.RD | dns.flags.AD, False, True), (dns.flags.RD, True, True)],
)
def test_47_ad_is_for_who_asked_for_it(node: Node, upstream: FakeUpstream, flags: int, do: bool, ad: bool) -> None:
    """RFC 6840 section 5.8: AD only when the request had DO or AD set."""

    def vouched(query: behaviours.Query) -> list[behaviours.Reply]:
        (reply,) = behaviours.computed(query)
        assert reply.wire is not None
        return [reply._replace(wire=reply.wire[:3] + bytes([reply.wire[3] | 0x20]) + reply.wire[4:])]

    upstream.behave("secure.test", vouched)
    reply = udp(node.server, "secure.test", use_edns=0, want_dnssec=do, flags=flags)
    assert bool(reply.flags & dns.flags.AD) == ad


def test_47_cd_and_do_reach_the_upstream(node: Node, upstream: FakeUpstream) -> None:
    """RFC 6840 section 5.9 leaves CD to the resolver; ours passes what the client set."""
    udp(node.server, "check.test", use_edns=0, want_dnssec=True, flags=dns.flags.RD | dns.flags.CD)
    udp(node.server, "check.test")
    first, second = (query.message for query in upstream.asked("check.test"))
    assert first.flags & dns.flags.CD
    assert first.ednsflags & dns.flags.DO
    assert not second.flags & dns.flags.CD
    assert not second.ednsflags & dns.flags.DO


def test_49_a_clients_subnet_goes_nowhere(node: Node, upstream: FakeUpstream) -> None:
    """RFC 7871 section 11.1: what a client says of its network is not trusted, and nobody is told of it."""
    tcp(node.server, "subnet.test", source="127.0.0.5", options=[dns.edns.ECSOption("10.9.8.7", 32)])
    (query,) = upstream.asked("subnet.test")
    assert not query.message.options
    (record,) = [record for record in node.records if record.decision.qname == "subnet.test"]
    assert record.client.client == "127.0.0.5"
