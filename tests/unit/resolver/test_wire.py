"""Messages as octets: what is read, what is refused, what is written. dnspython reads along."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from resolver import wire
from resolver.wire import Answer, MalformedAnswerError, MalformedQueryError

ANSWER = Answer(wire.NOERROR, ad=False, answers=0, authorities=0, body=b"", ttls=(), lifetime=0)
OPT = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
labels = st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(lambda found: sum(map(len, found)) < 200)


def octets(
    *name: bytes, qtype: int = 1, qclass: int = 1, flags: int = 0x0100, counts: tuple[int, ...] = (1, 0, 0, 0)
) -> bytes:
    """Return a query's octets, its labels as they are."""
    encoded = b"".join(bytes([len(label)]) + label for label in name) + b"\0"
    return struct.pack(">6H", 0x1234, flags, *counts) + encoded + struct.pack(">HH", qtype, qclass)


def read(name: str = "a.test", rdtype: str = "A", **options: object) -> wire.Query:
    return wire.read_query(dns.message.make_query(name, rdtype, **options).to_wire())  # type: ignore[arg-type] # passed on


def parsed(reply: bytes) -> dns.message.Message:
    """Return a reply (without its ID) as dnspython reads it."""
    return dns.message.from_wire(b"\x12\x34" + reply)


def scanned(*records: str, authority: tuple[str, ...] = (), rcode: int = 0, do: bool = False, **options: int) -> Answer:
    """Return what `scan_answer` makes of an upstream's answer to a.test A."""
    query = dns.message.make_query("a.test", "A")
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(dns.rcode.Rcode(rcode))
    response.flags |= options.get("flags", 0)
    for section, lines in ((response.answer, records), (response.authority, authority)):
        for line in lines:
            name, ttl, rdtype, rdata = line.split(maxsplit=3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, rdata))
    return wire.scan_answer(response.to_wire(), query.to_wire()[12:], options.get("max_ttl", 86400), do=do)


# Reading queries.


def test_a_query_is_read() -> None:
    query = wire.read_query(
        dns.message.make_query("WWW.A.test", "AAAA", use_edns=0, payload=4000, want_dnssec=True).to_wire()
    )
    assert (query.name, query.qtype, query.qclass, query.opcode, query.type_name) == ("www.a.test", 28, 1, 0, "AAAA")
    assert query.question == b"\3WWW\1A\4test\0\0\x1c\0\1"
    assert query.edns is not None
    assert query.edns == (4000, 0, True, False)


def test_without_an_opt_record_there_is_no_edns() -> None:
    assert read(use_edns=False).edns is None


@pytest.mark.parametrize(
    ("number", "name"), [(1, "A"), (65, "HTTPS"), (255, "ANY"), (65280, "TYPE65280"), (0, "TYPE0")]
)
def test_a_type_is_named(number: int, name: str) -> None:
    assert wire.read_query(octets(b"a", b"test", qtype=number)).type_name == name


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ((), "."),
        ((b"A", b"TEST"), "a.test"),
        ((b"a.test",), "a\\046test"),
        ((b"www.a", b"test"), "www\\046a.test"),
        ((b"a", b"test\0"), "a.test\\000"),
        ((b"a\0", b"test"), "a\\000.test"),
        ((b"a", b"te st"), "a.te\\032st"),
        ((b"a\\.test",), "a\\092\\046test"),
        ((b"a\xc3\xa9", b"test"), "a\\195\\169.test"),
        ((b"\xff",), "\\255"),
        ((b".",), "\\046"),
        ((b"_dmarc", b"a-b", b"test"), "_dmarc.a-b.test"),
        ((b"a/b", b"test"), "a/b.test"),
        ((b"x" * 63, b"test"), "x" * 63 + ".test"),
    ],
)
def test_a_name_is_written_so_that_no_other_is_written_the_same(labels: tuple[bytes, ...], name: str) -> None:
    assert wire.read_query(octets(*labels)).name == name


@given(labels, labels)
def test_names_are_equal_exactly_when_their_labels_are_but_for_case(first: list[bytes], second: list[bytes]) -> None:
    """RFC 4343: letters of either case are the same; nothing else is."""
    for one, other in ((first, second), (first, [label.swapcase() for label in first])):
        same = [label.lower() for label in one] == [label.lower() for label in other]
        assert (wire.read_query(octets(*one)).name == wire.read_query(octets(*other)).name) == same


@given(labels)
def test_a_name_reads_back_as_the_same_labels(found: list[bytes]) -> None:
    """RFC 1035 section 5.1: the text is presentation format, which dnspython reads too."""
    assume(found != [b"@"])  # alone it is the origin, in master files (section 5.1), which a log has none of
    name = wire.read_query(octets(*found)).name
    assert dns.name.from_text(name) == dns.name.Name([*found, b""])
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name


def test_the_longest_name_is_255_octets() -> None:
    """RFC 1035 section 3.1: length octets and the root's included."""
    longest = [b"x" * 63] * 3 + [b"y" * 61]
    assert len(wire.read_query(octets(*longest)).question) == 255 + 4
    with pytest.raises(MalformedQueryError):
        wire.read_query(octets(*longest[:3], b"y" * 62))
    assert wire.read_query(octets(*[b"a"] * 127)).name == ".".join("a" * 127)
    with pytest.raises(MalformedQueryError):
        wire.read_query(octets(*[b"a"] * 128))


@pytest.mark.parametrize(
    "data",
    [
        octets(b"a", counts=(0, 0, 0, 0)),
        octets(b"a", counts=(2, 0, 0, 0)) + octets(b"a")[12:],
        octets(b"a", counts=(1, 1, 0, 0)) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
        octets(b"a", counts=(1, 0, 1, 0)) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
        octets(b"a")[:-1],
        octets(b"a")[:-5],
        octets(b"a")[:12],
        octets()[:12] + b"\xc0\x0c\0\1\0\1",
        octets()[:12] + b"\x40a\0\0\1\0\1",
        octets()[:12] + b"\x80a\0\0\1\0\1",
        octets()[:12] + b"\3ab",
        octets(b"a", qtype=41),
        octets(b"a", counts=(1, 0, 0, 1)),
        octets(b"a", counts=(1, 0, 0, 1)) + OPT[:-1],
        octets(b"a", counts=(1, 0, 0, 2)) + OPT,
        octets(b"a", counts=(1, 0, 0, 2)) + OPT + OPT,
        octets(b"a", counts=(1, 0, 0, 1)) + b"\1x" + OPT,
        octets(b"a", counts=(1, 0, 0, 1)) + b"\xc0\x0c" + OPT[1:],
        octets(b"a", counts=(1, 0, 0, 1)) + OPT[:-2] + b"\0\1",
        octets(b"a", counts=(1, 0, 0, 65535)) + OPT,
    ],
    ids=[
        "no question",
        "two questions",
        "a record in the answer section",
        "a record in the authority section",
        "cut in the class",
        "cut in the name",
        "no question section",
        "a pointer as the question's name",
        "a label of type 01",
        "a label of type 10",
        "a label cut short",
        "OPT as the type",
        "an additional record that isn't there",
        "an OPT record cut short",
        "one additional record of two",
        "two OPT records",
        "an OPT record with a name",
        "an OPT record with a pointer for its name",
        "an OPT record's data cut short",
        "65,535 additional records",
    ],
)
def test_what_is_malformed_is_told(data: bytes) -> None:
    with pytest.raises(MalformedQueryError):
        wire.read_query(data)


def test_other_additional_records_are_passed_over() -> None:
    tsig_like = b"\xc0\x0c" + struct.pack(">HHIH", 250, 255, 0, 3) + b"abc"
    query = wire.read_query(octets(b"a", counts=(1, 0, 0, 2)) + tsig_like + OPT)
    assert query.edns is not None
    assert query.name == "a"


def test_options_are_noticed_and_not_read() -> None:
    with_option = OPT[:-2] + b"\0\6" + b"\0\x0a\xff\xff\0\0"  # a cookie whose length lies
    query = wire.read_query(octets(b"a", counts=(1, 0, 0, 1)) + with_option)
    assert query.edns is not None
    assert query.edns.has_options


@pytest.mark.parametrize("data", [b"", b"\0" * 11, octets(b"a", flags=0x8100), octets(b"a", flags=0x8000)[:12]])
def test_what_is_no_request_is_told(data: bytes) -> None:
    assert not wire.is_query(data)


# Writing replies.


def test_a_reply_echoes_the_question_and_what_the_client_may_see() -> None:
    """RFC 1035 section 4.1.1, RFC 4035 section 3.2.2 (CD); AA, TC, Z and AD of the query are not echoed."""
    query = wire.read_query(octets(b"Aa", b"Test", flags=0x0100 | 0x0400 | 0x0200 | 0x0040 | 0x0020 | 0x0010))
    reply = parsed(wire.write_reply(query, ANSWER, b""))
    assert reply.question[0].name.to_text() == "Aa.Test."
    assert dns.flags.to_text(reply.flags) == "QR RD RA CD"


@pytest.mark.parametrize("flags", [0, 0x0100])
def test_rd_is_copied_and_ra_always_set(flags: int) -> None:
    reply = parsed(wire.write_reply(wire.read_query(octets(b"a", flags=flags)), ANSWER, b""))
    assert bool(reply.flags & dns.flags.RD) == bool(flags)
    assert reply.flags & dns.flags.RA


@pytest.mark.parametrize(
    ("vouched", "ad_bit", "do", "shown"),
    [
        (True, True, False, True),
        (True, False, True, True),
        (True, False, False, False),  # RFC 6840 section 5.8
        (False, True, True, False),
    ],
)
def test_ad_is_for_who_knows_it(vouched: bool, ad_bit: bool, do: bool, shown: bool) -> None:
    query = read(flags=dns.flags.RD | (dns.flags.AD if ad_bit else 0), use_edns=0, want_dnssec=do)
    reply = parsed(wire.write_reply(query, ANSWER._replace(ad=vouched), b""))
    assert bool(reply.flags & dns.flags.AD) == shown


@pytest.mark.parametrize("do", [True, False])
def test_the_opt_record_offers_1232_octets_and_copies_do_alone(do: bool) -> None:
    query = read(use_edns=0, ednsflags=0x7FFF | (0x8000 if do else 0), payload=4096)
    reply = parsed(wire.write_reply(query, ANSWER, b""))
    assert (reply.edns, reply.payload, reply.ednsflags) == (0, 1232, 0x8000 if do else 0)
    assert reply.options == ()


def test_an_extended_code_is_split_between_header_and_opt() -> None:
    reply = parsed(wire.write_reply(read(use_edns=1), wire.bare(wire.BADVERS), b""))
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0


@pytest.mark.parametrize("text", ["adult", "", "x" * 300, "ä" * 300, "a" + "€" * 300])
def test_an_extended_errors_text_is_short_and_utf8(text: str) -> None:
    """RFC 8914 section 2: EXTRA-TEXT is UTF-8, also where it is cut."""
    reply = parsed(wire.write_reply(read(use_edns=0), ANSWER, b"", (15, text)))
    (option,) = reply.options
    assert isinstance(option, dns.edns.EDEOption)
    assert option.code == 15
    assert text.startswith(option.text or "")
    assert len((option.text or "").encode()) <= wire.MAX_EDE_TEXT
    assert bool(option.text) == bool(text)


def test_an_extended_error_is_for_who_speaks_edns() -> None:
    assert parsed(wire.write_reply(read(use_edns=False), ANSWER, b"", (15, "adult"))).edns == -1


@pytest.mark.parametrize(
    ("payload", "limit"), [(None, 512), (0, 512), (100, 512), (512, 512), (900, 900), (1232, 1232), (65535, 1232)]
)
def test_the_udp_limit(payload: int | None, limit: int) -> None:
    """RFC 6891 section 6.2.3 and .5: below 512 is 512; never over what passes any path."""
    query = read(use_edns=False) if payload is None else read(use_edns=0, payload=payload)
    assert wire.udp_limit(query) == limit


def test_a_truncated_reply_holds_nothing_but_the_question() -> None:
    answer = scanned("a.test. 60 A 192.0.2.1")
    reply = parsed(wire.truncated(read(use_edns=0), answer))
    assert reply.flags & dns.flags.TC
    assert reply.question
    assert not reply.answer
    assert not reply.authority
    assert reply.edns == 0


@pytest.mark.parametrize("edns", [True, False])
def test_servfail_in_place_of_a_reply_keeps_who_asked_what(edns: bool) -> None:
    query = dns.message.make_query("Aa.test", "A", use_edns=0 if edns else False, want_dnssec=edns)
    whole = wire.write_reply(
        wire.read_query(query.to_wire()), scanned("a.test. 60 A 192.0.2.1", flags=0x20), b"", (15, "x")
    )
    reply = dns.message.from_wire(wire.as_servfail(query.to_wire()[:2] + whole))
    assert query.is_response(reply)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert not reply.answer
    assert not reply.flags & (dns.flags.AD | dns.flags.TC)
    # RFC 6891 section 6.1.1: a query with an OPT record gets one back.
    assert (reply.edns == 0) == edns


def test_servfail_in_place_of_an_error_without_a_question() -> None:
    reply = dns.message.from_wire(wire.as_servfail(b"\x12\x34" + wire.write_error(octets(b"a"), None, wire.FORMERR)))
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert not reply.question


# Scanning answers.


def test_an_answer_is_passed_on_without_what_was_not_asked_for() -> None:
    answer = scanned("a.test. 60 A 192.0.2.1", "a.test. 60 A 192.0.2.2", authority=("test. 60 NS ns.test.",))
    assert (answer.rcode, answer.answers, answer.authorities, answer.lifetime) == (0, 2, 0, 60)
    reply = parsed(wire.write_reply(read(use_edns=False), answer, wire.aged(answer, 0)))
    assert sorted(rdata.to_text() for rdata in reply.answer[0]) == ["192.0.2.1", "192.0.2.2"]


def test_proofs_go_to_who_asks_for_them() -> None:
    nsec = "test. 60 NSEC z.test. A NSEC"
    assert scanned("a.test. 60 A 192.0.2.1", authority=(nsec,), do=True).authorities == 1


@pytest.mark.parametrize(
    ("ttls", "lifetime"),
    [((300, 60, 90), 60), ((0, 60), 0), ((100000,), 86400), ((0x80000000, 60), 0), ((0xFFFFFFFF,), 0)],
)
def test_an_answer_lives_as_long_as_its_shortest_ttl(ttls: tuple[int, ...], lifetime: int) -> None:
    """RFC 2181 section 8: a TTL with the top bit set is 0."""
    body = b"".join(b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", ttl, 4) + b"\xc0\0\2\1" for ttl in ttls)
    question = octets(b"a", b"test")[12:]
    data = struct.pack(">6H", 0, 0x8180, 1, len(ttls), 0, 0) + question + body
    answer = wire.scan_answer(data, question, 86400, do=False)
    assert answer.lifetime == lifetime
    aged = parsed(wire.write_reply(read(use_edns=False), answer, wire.aged(answer, 5)))
    places = [struct.unpack_from(">I", wire.aged(answer, 5), place)[0] for place in answer.ttls]
    assert places == [0 if ttl >= 0x80000000 else max(0, min(ttl, 86400) - 5) for ttl in ttls]
    assert aged.answer


@pytest.mark.parametrize("rcode", [wire.NOERROR, wire.NXDOMAIN])
@pytest.mark.parametrize(("ttl", "minimum", "lifetime"), [(3600, 60, 60), (60, 3600, 60), (0, 60, 0), (60, 0, 0)])
def test_a_negative_answer_lives_by_its_soa(rcode: int, ttl: int, minimum: int, lifetime: int) -> None:
    """RFC 2308 section 5: the lesser of the SOA's TTL and its MINIMUM."""
    soa = f"test. {ttl} SOA ns.test. host.test. 1 2 3 4 {minimum}"
    answer = scanned(authority=(soa,), rcode=rcode)
    assert (answer.answers, answer.authorities, answer.lifetime) == (0, 1, lifetime)
    # ... and times out as soon at whoever caches our copy: section 3 and 5.
    reply = parsed(wire.write_reply(read(use_edns=False), answer, wire.aged(answer, 0)))
    assert reply.authority[0].ttl == lifetime


def test_a_negative_answer_without_an_soa_is_not_kept() -> None:
    """RFC 2308 section 5: ... SHOULD NOT be cached."""
    assert scanned(rcode=wire.NXDOMAIN).lifetime == 0
    assert scanned(authority=("test. 60 NS ns.test.",)).lifetime == 0


@pytest.mark.parametrize("rcode", [wire.NOERROR, wire.NXDOMAIN])
def test_an_alias_that_leads_to_nothing_is_negative_too(rcode: int) -> None:
    """RFC 2308 section 2.1 and 2.2: the SOA says so, and says for how long; without it the client can't cache it."""
    answer = scanned(
        "a.test. 3600 CNAME b.test.", authority=("test. 300 SOA ns.test. host.test. 1 2 3 4 30",), rcode=rcode
    )
    assert answer.lifetime == 30
    reply = parsed(wire.write_reply(read(use_edns=False), answer, wire.aged(answer, 0)))
    assert [rrset.rdtype for rrset in (*reply.answer, *reply.authority)] == [dns.rdatatype.CNAME, dns.rdatatype.SOA]


@pytest.mark.parametrize("rcode", [wire.SERVFAIL, wire.REFUSED, wire.FORMERR, wire.NOTIMP])
def test_a_failure_is_not_kept(rcode: int) -> None:
    assert scanned("a.test. 60 A 192.0.2.1", rcode=rcode).lifetime == 0


def test_an_answer_cut_anywhere_is_malformed() -> None:
    query = dns.message.make_query("a.test", "A")
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text("a.test.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"))
    whole, question = response.to_wire(), query.to_wire()[12:]
    for length in range(12 + len(question), len(whole)):
        with pytest.raises(MalformedAnswerError):
            wire.scan_answer(whole[:length], question, 60, do=False)
    assert wire.scan_answer(whole, question, 60, do=False).answers == 2


# Asking upstreams.


@pytest.mark.parametrize("do", [True, False])
@pytest.mark.parametrize("cd", [True, False])
def test_an_upstream_is_asked_plainly(do: bool, cd: bool) -> None:
    """RFC 6891 section 6.1.1, RFC 6840 section 5.7 (AD asks for the bit); no option, so nobody is told who asks."""
    question = octets(b"a", b"test")[12:]
    query = parsed(wire.write_upstream_query(question, do=do, cd=cd))
    assert query.flags == dns.flags.RD | dns.flags.AD | (dns.flags.CD if cd else 0)
    assert query.question[0].name.to_text() == "a.test."
    assert (query.edns, query.payload, query.ednsflags, query.options) == (0, 1232, 0x8000 if do else 0, ())
