"""Any octets give an answer, a refusal or silence, and never an exception; and dnspython reads every answer.

Hypothesis looks for the smallest culprit; a seeded loop of mutations goes further in the same time; and the bytes of
real captures are given as queries and as upstreams' answers.
"""

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dns.edns
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resolver import answers, replies, wire
from resolver.compression import MalformedAnswerError
from resolver.rewriting import Terms
from resolver.transports import TCP, UDP
from resolver.upstreams.matching import answers_question
from resolver.wire import MalformedQueryError
from tests.fuzz.targets import check_ageing
from tests.unit.policy.build import Listed, block
from tests.unit.resolver.bench import Bench, make_bench, network_at
from tests.unit.resolver.messages import octets, response_to

MUTATIONS = 20_000
UPDATE = 5  # RFC 2136 section 1.3
CAPTURES = Path(__file__).parents[3] / "shared/data/dns-traces/zeek-btest-pcaps"

QUERIES = [
    octets(b"www", b"bad", b"example"),
    octets(b"a", b"example", qtype=65),
    octets(),
    octets(b"x" * 63, b"y" * 63, b"z" * 63, b"w" * 61),
    dns.message.make_query("bad.example", "A", use_edns=0, want_dnssec=True).to_wire(),
    dns.message.make_query("a.bad.example", "AAAA", use_edns=0, pad=128).to_wire(),
    dns.message.make_query("a.example", "ANY", use_edns=0, options=[dns.edns.ECSOption("192.0.2.1")]).to_wire(),
    octets(b"a", qtype=6, flags=0x2800, counts=(1, 0, 1, 0)) + b"\xc0\x0c\0\6\0\1\0\0\0\0\0\0",
]


def answer(*records: str, authority: tuple[str, ...] = (), rcode: int = 0) -> bytes:
    """Return a sound answer to a.example A."""
    query = dns.message.make_query("a.example", "A", use_edns=0)
    return response_to(query, *records, authority=authority, rcode=rcode).to_wire()


QUESTION = octets(b"a", b"example")[12:]
SERVICE = octets(b"a", b"example", qtype=65)[12:]
SOA = "example. 60 SOA ns.example. host.example. 1 2 3 4 30"
ANSWERS = [
    answer("a.example. 60 A 192.0.2.1", "a.example. 60 A 192.0.2.2"),
    answer("a.example. 60 CNAME b.example.", "b.example. 30 CNAME c.b.example.", "c.b.example. 10 A 192.0.2.1"),
    answer("a.example. 60 CNAME b.example.", authority=(SOA,), rcode=3),
    answer(authority=(SOA,)),
    answer("a.example. 60 MX 10 mail.a.example.", authority=("example. 60 NS ns.example.",)),
    answer('a.example. 60 TXT "text"', "a.example. 60 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1"),
    answer("example. 60 DNAME b.example.", "a.example. 60 CNAME a.b.example.", "a.b.example. 60 A 10.0.0.1"),
    answer("b.example. 30 A 192.0.2.1", "a.example. 60 CNAME b.example.", "a.example. 9 A 192.0.2.2"),
]
TERMS = Terms(0, 3600)
SERVICES = [
    answer("a.example. 60 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1"),
    answer("a.example. 60 HTTPS 1 b.example. mandatory=alpn,ipv4hint alpn=h2 ipv4hint=10.0.0.1,192.0.2.1"),
    answer("a.example. 60 HTTPS 0 b.example.", "a.example. 60 HTTPS 1 . port=1 ipv6hint=::1"),
]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give one engine for all inputs of a test: what one leaves behind is part of the next one's test."""
    network = network_at(monkeypatch)
    lists = [Listed("one", "adult", [block("bad.example"), block("(a|b)+x", pattern=True)])]
    unlimited = {"cache": {"entries": 500}, "limits": {"queries_per_second": 0}}
    made = make_bench(tmp_path, network, lists=lists, document=unlimited)
    made.counts = False
    network.unreachable.add("192.0.2.53")  # every lookup ends at once
    # No loop runs: the engine's turn is taken by hand.
    monkeypatch.setattr("resolver.engine.asyncio.get_running_loop", _NoLoop)
    yield made
    made.journal.close()


class _NoLoop:
    def call_soon(self, call: object) -> None:
        """Leave it: every input is followed by a flush."""


def mutated(seeds: list[bytes], chosen: random.Random) -> bytes:
    """Return a seed with a few octets changed, cut, repeated, or spliced with another."""
    data = bytearray(chosen.choice(seeds))
    for _ in range(chosen.randrange(1, 5)):
        place = chosen.randrange(len(data) + 1)
        how = chosen.randrange(7)
        if how == 0 and place < len(data):
            data[place] = chosen.choice([0, 1, 0x3F, 0x40, 0x80, 0xC0, 0xC1, 0xFF, chosen.randrange(256)])
        elif how == 1:
            del data[place:]
        elif how == 2:
            del data[place : place + chosen.randrange(1, 4)]
        elif how == 3:
            data[place:place] = chosen.randbytes(chosen.randrange(1, 5))
        elif how == 4:
            data[place:place] = data[place : place + chosen.randrange(1, 24)]
        elif how == 5 and len(data) >= 12:
            count = chosen.randrange(4, 12) & ~1
            data[count : count + 2] = chosen.choice([b"\0\0", b"\0\1", b"\0\2", b"\xff\xff"])
        else:
            data += chosen.choice(seeds)[-chosen.randrange(1, 40) :]
    return bytes(data)


# The properties.


def check_query(data: bytes) -> None:
    """Read a query or find it malformed; have dnspython read what is written for it."""
    if not wire.is_query(data):
        return
    try:
        query = wire.read_query(data)
    except MalformedQueryError:
        query = wire.read_malformed(data)
        assert query.question in data
        assert not query.plain
        opt = b"" if query.edns is None else replies.opt_record(query.edns, wire.FORMERR, None)
        reply = replies.write_error(data, wire.FORMERR, query.folded, opt)
        assert len(reply) + 2 <= len(data)
    else:
        assert query.name == query.name.lower()
        assert query.name.isascii()
        assert data[12 : 12 + len(query.question)] == query.question
        assert wire.read_query(data[:2] + query.plain).plain == query.plain
        opt = b"" if query.edns is None else replies.opt_record(query.edns, wire.NXDOMAIN, (15, "adult"))
        reply = replies.write_reply(query, replies.bare(wire.NXDOMAIN), opt)
        check_reply(data[:2] + replies.truncated(query, wire.NXDOMAIN, opt))
    check_reply(data[:2] + reply)
    check_reply(replies.as_servfail(data[:2] + reply))


def check_reply(reply: bytes) -> None:
    """Have dnspython read a reply; all but an UPDATE's, in whose zone section it takes no type but SOA."""
    assert reply[2] & 0x80
    if reply[2] >> 3 & 15 != UPDATE:
        dns.message.from_wire(reply)


def check_answer(data: bytes, question: bytes = QUESTION) -> None:
    """Read an answer to the question or find it malformed; what is passed on reads back as the same."""
    if not answers_question(data, question):
        return
    for do in (True, False):
        try:
            found = answers.read_answer(data, question, "a.example", TERMS, do=do)
        except MalformedAnswerError:
            continue
        assert 0 <= found.lifetime <= TERMS.max_ttl
        assert len(found.ttls) == found.answers + found.authorities
        for seconds in (0, 1, 10**6):
            aged = answers.aged(found.body, found.ttls, seconds)
            assert len(aged) == len(found.body)
            assert all(struct.unpack_from(">I", aged, place)[0] <= TERMS.max_ttl for place in found.ttls)
        asked = wire.read_query(data[:4] + b"\0\1\0\0\0\0\0\0" + question)
        check_ageing(asked, found)
        written = replies.write_reply(asked, found, b"")
        again = answers.read_answer(b"\0\0" + written, question, "a.example", TERMS, do=do)
        assert again._replace(ad=found.ad) == (
            # Where all addresses were taken out, nothing says how long that holds.
            found._replace(is_stripped=False, lifetime=again.lifetime) if found.is_stripped else found
        )


def check_engine(bench: Bench, data: bytes, transport: str) -> None:
    """Have the engine answer or say nothing, with as many records as replies."""
    before = bench.engine.lookups
    reply = bench.ask_octets(data, transport=transport)
    assert (reply is not None) == wire.is_query(data)
    assert bench.engine.lookups - before == (reply is not None)
    if reply is None:
        return
    assert reply[:2] == data[:2]
    assert len(reply) <= (1232 if transport == UDP else 65535)
    check_reply(reply)


many = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
headers = st.builds(
    lambda ident, flags, counts: struct.pack(">6H", ident, flags, *counts),
    st.integers(0, 65535),
    st.sampled_from([0, 0x0100, 0x0110, 0x0120, 0x2800, 0x7800, 0x8180]),
    st.tuples(*[st.sampled_from([0, 1, 1, 2, 65535])] * 4),
)
pieces = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\0", b"\xc0\x0c", b"\1a", b"\3bad\4test\0", b"\0\1\0\1", b"\0\0\x29\x04\xd0\0\0\0\0\0\0", b"\x40"]
        ),
        st.binary(max_size=12),
    ),
    max_size=8,
).map(b"".join)
messages = st.one_of(st.binary(max_size=100), st.builds(lambda header, rest: header + rest, headers, pieces))


@many
@given(messages)
def test_any_octets_as_a_query(data: bytes) -> None:
    check_query(data)


@many
@given(st.one_of(messages, pieces.map(lambda rest: struct.pack(">6H", 0, 0x8180, 1, 2, 1, 0) + QUESTION + rest)))
def test_any_octets_as_an_answer(data: bytes) -> None:
    check_answer(data)


@many
@given(pieces)
def test_any_octets_behind_a_question_for_a_service(rest: bytes) -> None:
    record = b"\xc0\x0c\0\x41\0\1\0\0\0\x3c" + len(rest).to_bytes(2, "big") + rest
    check_answer(struct.pack(">6H", 0, 0x8180, 1, 1, 0, 0) + SERVICE + record, SERVICE)


@many
@given(data=messages, transport=st.sampled_from([UDP, TCP]))
def test_any_octets_to_the_engine(bench: Bench, data: bytes, transport: str) -> None:
    check_engine(bench, data, transport)


def test_mutations_of_queries() -> None:
    chosen = random.Random(1035)
    for _ in range(MUTATIONS):
        check_query(mutated(QUERIES, chosen))


def test_mutations_of_answers() -> None:
    chosen = random.Random(2181)
    for _ in range(MUTATIONS):
        check_answer(mutated(ANSWERS, chosen))


def test_mutations_of_services() -> None:
    chosen = random.Random(9460)
    for _ in range(MUTATIONS // 2):
        data = mutated(SERVICES, chosen)
        check_answer(data[:12] + SERVICE + data[12 + len(SERVICE) :], SERVICE)


def test_mutations_to_the_engine(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    chosen = random.Random(6891)
    for _ in range(MUTATIONS // 4):
        check_engine(bench, mutated(QUERIES, chosen), chosen.choice([UDP, TCP]))
    assert not [record for record in caplog.records if record.exc_info]


def test_nothing_is_taken_for_another_name(bench: Bench) -> None:
    """Whatever is asked, a block is logged for a name under bad.example or one that the pattern matches."""
    chosen = random.Random(4343)
    for _ in range(500):
        check_engine(bench, mutated(QUERIES, chosen), UDP)
    for record in bench.records:
        if record.decision.rule == "||bad.example^":
            assert f".{record.decision.qname}".endswith(".bad.example")


async def test_what_an_upstream_sends_never_harms_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutated answer reaches the client as an answer or as SERVFAIL, one record each."""
    network = network_at(monkeypatch)
    monkeypatch.setattr("resolver.outcomes.FAILURES_REMEMBERED", 0)
    unlimited = {"cache": {"entries": 0}, "limits": {"queries_per_second": 0}}
    fuzzed = make_bench(tmp_path, network, document=unlimited)
    fuzzed.counts = False
    chosen = random.Random(5452)
    query = dns.message.make_query("a.example", "A", use_edns=0).to_wire()
    asked = 0
    for _ in range(2000):
        data = mutated(ANSWERS, chosen)
        if not answers_question(data, QUESTION):
            continue
        assert fuzzed.ask_octets(query) is None
        for _ in range(2):  # a failure is followed by another try, a truncated answer by TCP
            if fuzzed.engine.forwarder.in_flight:
                network.last.reply(data)
        if fuzzed.engine.forwarder.in_flight:
            network.last.lose()
        while fuzzed.engine.forwarder.in_flight:
            network.last.lose()
        fuzzed.engine.flush()
        asked += 1
        assert len(fuzzed.sent) == asked
        reply = fuzzed.sent[-1].reply
        assert reply[:2] == query[:2]
        assert reply[2] & 0x80
        assert wire.read_query(query).question == reply[12 : 12 + len(QUESTION)]
    assert asked > 500
    assert len(fuzzed.records) == asked
    fuzzed.journal.close()


# Real captures.


class Packet(NamedTuple):
    capture: str
    payload: bytes


def packets(path: Path) -> Iterator[Packet]:
    """Yield the UDP and TCP payloads of a capture file (pcap, either byte order; Ethernet, Linux cooked or raw IP)."""
    data = path.read_bytes()
    order = "<" if data[:4] in {b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"} else ">"
    link = struct.unpack_from(order + "I", data, 20)[0]
    position = 24
    while position + 16 <= len(data):
        length = struct.unpack_from(order + "I", data, position + 8)[0]
        frame = data[position + 16 : position + 16 + length]
        position += 16 + length
        ip = frame[{1: 14, 113: 16, 101: 0, 12: 0, 0: 4, 276: 20}.get(link, 14) :]
        if link == 1 and frame[12:14] == b"\x81\x00":
            ip = frame[18:]
        if not ip:
            continue
        version = ip[0] >> 4
        protocol, start = (
            (ip[9], (ip[0] & 15) * 4) if version == 4 and len(ip) > 20 else (ip[6] if len(ip) > 40 else 0, 40)
        )
        if protocol == 17:
            yield Packet(path.name, ip[start + 8 :])
        elif protocol == 6 and len(ip) > start + 12:
            yield Packet(path.name, ip[start + (ip[start + 12] >> 4) * 4 + 2 :])


@pytest.mark.realdata
@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the captures are not beside the checkout")
def test_real_traffic(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Each payload as a query, with QR cleared as another, and as an answer to its own question."""
    seen = queries = 0
    for path in sorted(CAPTURES.rglob("*.pcap")):
        for packet in packets(path):
            data = packet.payload
            if len(data) < 12:
                continue
            seen += 1
            asking = data[:2] + bytes([data[2] & 0x7F]) + data[3:]
            for query in (data, asking):
                check_query(query)
                check_engine(bench, query, UDP)
            check_answer(data)
            check_own_answer(data)
            queries += not data[2] & 0x80
    assert seen > 100
    assert queries > 30
    assert not [record for record in caplog.records if record.exc_info]


def chain_of(data: bytes) -> dns.message.ChainingResult:
    """Follow a response's aliases as dnspython does."""
    message = dns.message.from_wire(data)
    assert isinstance(message, dns.message.QueryMessage)
    return message.resolve_chaining()


def check_own_answer(data: bytes) -> None:
    """Scan a captured response as the answer to the question that it carries; compare with dnspython."""
    try:
        query = wire.read_query(data[:4] + b"\0\1\0\0\0\0\0\0" + data[12:])
    except MalformedQueryError:
        return
    if query.opcode or not answers_question(data, query.folded):
        return
    try:
        found = answers.read_answer(data, query.folded, query.name, Terms(0, 1 << 31, ["."]), do=True)
    except MalformedAnswerError:
        with pytest.raises((dns.exception.DNSException, ValueError)):
            chain_of(data)
        return
    try:
        theirs = chain_of(data)
    except (dns.exception.DNSException, ValueError):
        return  # dnspython reads RDATA too
    ours = chain_of(data[:2] + replies.write_reply(query, found, b""))
    assert ours.canonical_name == theirs.canonical_name
    assert ours.answer == theirs.answer
    assert list(ours.cnames) == list(theirs.cnames)
