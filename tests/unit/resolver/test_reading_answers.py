"""What is passed on of an upstream's answer, how long it is good for, and what is refused."""

import struct
from itertools import pairwise

import dns.flags
import dns.message
import dns.rrset
import pytest

from resolver import answers, rewriting, wire
from resolver.compression import MalformedAnswerError
from resolver.rewriting import LONGEST_CHAIN, Terms
from tests.unit.resolver.messages import octets, rdata, uncompressed
from tests.unit.resolver.reading_answers import SOA, Asked, lines

ASKED = Asked()
SIGNATURE = "8 2 300 20300101000000 20200101000000 1234 example. AAAA"
A = "a.example. 60 A 192.0.2.1"
HEAD = struct.pack(">6H", 0, 0x8180, 1, 1, 0, 0) + octets(b"a", b"example")[12:]


# What was asked for, and nothing else.


def test_an_answer_is_passed_on_without_what_was_not_asked_for() -> None:
    answer = ASKED.answered(
        A,
        "a.example. 60 A 192.0.2.2",
        authority=("example. 60 NS ns.example.",),
        additional=("ns.example. 60 A 192.0.2.3",),
    )
    assert (answer.rcode, answer.answers, answer.authorities, answer.lifetime) == (0, 2, 0, 60)
    reply = ASKED.passed_on(answer)
    assert rdata(reply) == ["192.0.2.1", "192.0.2.2"]
    assert not reply.authority
    assert not reply.additional


def test_records_of_other_names_and_types_are_dropped() -> None:
    """What a poisoned or careless upstream adds (RFC 2181 section 5.4.1)."""
    answer = ASKED.answered(
        "b.example. 60 A 192.0.2.9", A, "a.example. 60 AAAA 2001:db8::1", "www.bank.example. 60 A 192.0.2.66"
    )
    assert lines(ASKED.passed_on(answer).answer) == [A]


@pytest.mark.parametrize("records", [("b.example. 60 A 192.0.2.9",), ("a.example. 60 AAAA 2001:db8::1",)])
def test_nothing_that_was_asked_for_is_an_empty_answer(records: tuple[str, ...]) -> None:
    answer = ASKED.answered(*records, authority=(SOA,))
    reply = ASKED.passed_on(answer)
    assert not reply.answer
    assert lines(reply.authority) == [SOA.replace("300", "60")]


def test_the_usual_answer_is_passed_on_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without being taken apart, which costs many times as much."""
    monkeypatch.setattr(answers, "written_anew", None)
    chain = ("a.example. 60 CNAME b.example.", "b.example. 30 CNAME c.cdn.example.")
    for records, authority in [
        ((A, "a.example. 60 A 192.0.2.2"), ()),
        ((A,), ("example. 60 NS ns.example.", "example. 60 NS ns2.example.")),
        ((*chain, "c.cdn.example. 20 A 192.0.2.1", "c.cdn.example. 20 A 192.0.2.2"), ()),
        ((), (SOA,)),
        (chain, (SOA,)),
    ]:
        response = ASKED.response(*records, authority=authority)
        reply = ASKED.passed_on(ASKED.answered(*records, authority=authority))
        assert lines(reply.answer) == lines(response.answer)
        assert len(reply.authority) == (len(authority) if authority == (SOA,) else 0)


# Aliases.


@pytest.mark.parametrize("shuffled", [False, True])
def test_an_alias_is_followed(shuffled: bool) -> None:
    records = ["a.example. 60 CNAME b.example.", "b.example. 50 CNAME c.example.", "c.example. 40 A 192.0.2.1"]
    answer = ASKED.answered(*(reversed(records) if shuffled else records))
    assert (answer.targets, answer.lifetime) == (("b.example", "c.example"), 40)
    assert lines(ASKED.passed_on(answer).answer) == records
    assert list(ASKED.passed_on(answer).resolve_chaining().answer or ()) != []  # type: ignore[attr-defined] # a query's


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("length", [LONGEST_CHAIN, LONGEST_CHAIN + 1])
def test_a_chain_has_an_end(plain: bool, length: int) -> None:
    names = ["a.example.", *(f"n{number}.example." for number in range(length))]
    chain = [f"{name} 60 CNAME {target}" for name, target in pairwise(names)]
    response = ASKED.response(*chain, f"{names[-1]} 60 A 192.0.2.1")
    data = uncompressed(response) if plain else response.to_wire()
    if length > LONGEST_CHAIN:
        with pytest.raises(MalformedAnswerError):
            ASKED.read(data)
        return
    answer = ASKED.read(data)
    assert len(answer.targets) == length
    assert len(ASKED.passed_on(answer).answer) == length + 1


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("names", ["aa", "aba", "abcb", "abcdefga"])
def test_a_circle_of_aliases_is_malformed(names: str, plain: bool) -> None:
    chain = [f"{one}.example. 60 CNAME {other}.example." for one, other in pairwise(names)]
    response = ASKED.response(*chain)
    with pytest.raises(MalformedAnswerError):
        ASKED.read(uncompressed(response) if plain else response.to_wire())


def test_a_circle_in_other_letters_is_one_too() -> None:
    """RFC 4343."""
    with pytest.raises(MalformedAnswerError):
        ASKED.answered("a.example. 60 CNAME B.example.", "b.example. 60 CNAME A.EXAMPLE.")


def test_two_aliases_of_one_name_are_malformed() -> None:
    """RFC 2181 section 10.1: a client might follow the one that was not looked at."""
    with pytest.raises(MalformedAnswerError):
        ASKED.answered(
            "a.example. 60 CNAME b.example.", "a.example. 60 CNAME bad.example.", "b.example. 60 A 192.0.2.1"
        )


def test_the_same_alias_twice_is_one() -> None:
    response = ASKED.response("a.example. 60 CNAME b.example.", "b.example. 60 A 192.0.2.1")
    response.answer.insert(0, response.answer[0])
    answer = ASKED.read(uncompressed(response))
    assert (answer.answers, answer.targets) == (2, ("b.example",))


def test_what_is_the_same_but_for_its_ttl_is_passed_on_once() -> None:
    """RFC 2181 section 5: a set holds no record twice."""
    aliases = b"".join(b"\xc0\x0c\0\5\0\1" + struct.pack(">IH", ttl, 4) + b"\1b\xc0\x0e" for ttl in (60, 5))
    answer = ASKED.read(struct.pack(">6H", 0, 0x8180, 1, 2, 0, 0) + octets(b"a", b"example")[12:] + aliases)
    assert (answer.answers, answer.targets) == (1, ("b.example",))


def test_an_alias_that_was_asked_for_is_not_followed() -> None:
    asked = Asked(rdtype="CNAME")
    answer = asked.answered("a.example. 60 CNAME b.example.", "b.example. 60 CNAME c.example.")
    assert lines(asked.passed_on(answer).answer) == ["a.example. 60 CNAME b.example."]


def test_a_dname_is_passed_on_with_the_alias_that_it_means() -> None:
    """RFC 6672 section 3.1."""
    asked = Asked("x.a.example")
    records = ["a.example. 60 DNAME b.example.", "x.a.example. 60 CNAME x.b.example.", "x.b.example. 60 A 192.0.2.1"]
    answer = asked.answered(*records)
    assert answer.targets == ("x.b.example",)
    assert lines(asked.passed_on(answer).answer) == sorted(records)


@pytest.mark.parametrize(("target", "name"), [("b.example.", "x.b.example."), (".", "x.")])
def test_a_dname_comes_with_its_alias_even_where_that_lacks(target: str, name: str) -> None:
    """RFC 6672 section 3.1, in short: for clients that know no DNAME, and with its TTL."""
    asked = Asked("x.a.example")
    records = [f"a.example. 70 DNAME {target}", f"{name} 60 A 192.0.2.1"]
    answer = asked.answered(*records)
    assert answer.targets == (name[:-1],)
    assert lines(asked.passed_on(answer).answer) == sorted([*records, f"x.a.example. 70 CNAME {name}"])


@pytest.mark.parametrize("rcode", [wire.NOERROR, wire.YXDOMAIN])
def test_a_name_that_is_too_long_for_its_dname_is_told(rcode: int) -> None:
    """RFC 6672 section 2.2."""
    asked = Asked("x.a.example")
    dname = "a.example. 60 DNAME " + ".".join("y" * n for n in (63, 63, 63, 60)) + "."
    answer = asked.answered(dname, "b.example. 60 A 192.0.2.1", rcode=rcode)
    reply = asked.passed_on(answer)
    assert (reply.rcode(), lines(reply.answer), answer.lifetime) == (wire.YXDOMAIN, [dname], 0)
    fitting = asked.answered(dname.replace("y" * 60, "y" * 59))
    assert (fitting.rcode, fitting.answers) == (wire.NOERROR, 2)


def test_an_alias_that_isnt_the_one_that_its_dname_means_is_malformed() -> None:
    """A client might follow the one that was not looked at."""
    with pytest.raises(MalformedAnswerError):
        Asked("x.a.example").answered("a.example. 60 DNAME b.example.", "x.a.example. 60 CNAME x.c.example.")
    with pytest.raises(MalformedAnswerError):
        Asked("x.a.example").answered("a.example. 60 DNAME b.example.", "a.example. 60 DNAME c.example.")


def test_of_several_dnames_the_closest_is_followed() -> None:
    asked = Asked("x.y.a.example")
    answer = asked.answered("a.example. 60 DNAME b.example.", "y.a.example. 60 DNAME c.example.")
    assert answer.targets == ("x.c.example",)


def test_a_dname_on_the_way_of_several_aliases_is_passed_on_once() -> None:
    asked = Asked("x.a.example")
    records = [
        "a.example. 60 DNAME b.example.",
        "x.a.example. 60 CNAME x.b.example.",
        "x.b.example. 60 CNAME z.a.example.",
        "z.a.example. 60 CNAME z.b.example.",
        "z.b.example. 60 A 192.0.2.1",
    ]
    answer = asked.answered(*records)
    assert answer.answers == len(records)
    assert lines(asked.passed_on(answer).answer) == sorted(records)


def test_a_dname_says_nothing_of_its_own_name() -> None:
    """RFC 6672 section 2.3: it is about what is below it."""
    answer = ASKED.answered("a.example. 60 DNAME b.example.", "b.example. 60 A 192.0.2.1")
    assert (answer.targets, answer.answers) == ((), 0)


# How long it is good for.


@pytest.mark.parametrize(
    ("ttls", "lifetime"),
    [((300, 60, 90), 60), ((0, 60), 0), ((100000,), 86400), ((0x80000000, 60), 0), ((0xFFFFFFFF,), 0), ((60, 60), 60)],
)
def test_an_answer_lives_as_long_as_its_shortest_ttl(ttls: tuple[int, ...], lifetime: int) -> None:
    """RFC 2181 section 8: a TTL with the top bit set is 0; section 5.2: all records of a set have one."""
    records = [struct.pack(">IH", ttl, 4) + bytes([192, 0, 2, number]) for number, ttl in enumerate(ttls)]
    body = b"".join(b"\xc0\x0c\0\1\0\1" + record for record in records)
    answer = ASKED.read(struct.pack(">6H", 0, 0x8180, 1, len(ttls), 0, 0) + octets(b"a", b"example")[12:] + body)
    assert answer.lifetime == lifetime
    assert ASKED.passed_on(answer).answer[0].ttl == lifetime
    aged = answers.aged(answer.body, answer.ttls, 5)
    assert {struct.unpack_from(">I", aged, place)[0] for place in answer.ttls} == {max(0, lifetime - 5)}
    assert len(answer.ttls) == len(ttls)


@pytest.mark.parametrize(
    ("ttl", "kept"), [(0, 30), (29, 30), (30, 30), (99, 99), (600, 600), (601, 600), (1 << 31, 30)]
)
def test_ttls_stay_within_the_settings(ttl: int, kept: int) -> None:
    asked = Asked(terms=Terms(30, 600))
    for rdtype, data in [("A", "192.0.2.1"), ("TXT", '"x"')]:
        other = asked._replace(rdtype=rdtype)
        response = other.response(f"a.example. 60 {rdtype} {data}")
        octets_of_ttl = response.to_wire().replace(b"\0\0\0\x3c", struct.pack(">I", ttl))
        answer = other.read(octets_of_ttl)
        assert (answer.lifetime, other.passed_on(answer).answer[0].ttl) == (kept, kept)


def test_each_set_of_a_chain_keeps_its_own_ttl() -> None:
    answer = ASKED.answered("a.example. 600 CNAME b.example.", "b.example. 20 A 192.0.2.1", "b.example. 10 A 192.0.2.2")
    assert [rrset.ttl for rrset in ASKED.passed_on(answer).answer] == [600, 10]
    assert answer.lifetime == 10


@pytest.mark.parametrize("rcode", [wire.NOERROR, wire.NXDOMAIN])
@pytest.mark.parametrize(("ttl", "minimum", "lifetime"), [(3600, 60, 60), (60, 3600, 60), (0, 60, 0), (60, 0, 0)])
@pytest.mark.parametrize("junk", [(), ("example. 60 NS ns.example.",)])
def test_a_negative_answer_lives_by_its_soa(
    rcode: int, ttl: int, minimum: int, lifetime: int, junk: tuple[str, ...]
) -> None:
    """RFC 2308 section 5: the lesser of the SOA's TTL and its MINIMUM."""
    soa = f"example. {ttl} SOA ns.example. host.example. 1 2 3 4 {minimum}"
    answer = ASKED.answered(authority=(*junk, soa), rcode=rcode)
    assert (answer.answers, answer.authorities, answer.lifetime) == (0, 1, lifetime)
    # ... and times out as soon at whoever caches our copy: section 3 and 5.
    reply = ASKED.passed_on(answer)
    assert (reply.rcode(), reply.authority[0].ttl) == (rcode, lifetime)


def test_a_negative_answer_without_an_soa_is_not_kept() -> None:
    """RFC 2308 section 5: ... SHOULD NOT be cached."""
    assert ASKED.answered(rcode=wire.NXDOMAIN).lifetime == 0
    assert ASKED.answered(authority=("example. 60 NS ns.example.",)).lifetime == 0
    assert ASKED.answered("a.example. 60 CNAME b.example.").lifetime == 0


@pytest.mark.parametrize("owner", ["b.example", "x.a.example", "other.invalid", "ample"])
def test_an_soa_of_another_zone_says_nothing(owner: str) -> None:
    answer = ASKED.answered(authority=(SOA.replace("example. 300", f"{owner}. 300", 1),), rcode=wire.NXDOMAIN)
    assert (answer.authorities, answer.lifetime) == (0, 0)
    assert not ASKED.passed_on(answer).authority


@pytest.mark.parametrize("owner", [".", "example", "EXAMPLE", "a.example"])
def test_an_soa_is_its_zones(owner: str) -> None:
    name = "." if owner == "." else f"{owner}."
    assert ASKED.answered(authority=(SOA.replace("example.", name, 1),), rcode=wire.NXDOMAIN).lifetime == 60


@pytest.mark.parametrize("rcode", [wire.NOERROR, wire.NXDOMAIN])
def test_an_alias_that_leads_to_nothing_is_negative_too(rcode: int) -> None:
    """RFC 2308 section 2.1 and 2.2: the SOA, of the zone that the alias leads to, says for how long."""
    alias = "a.example. 3600 CNAME b.other.invalid."
    soa = "other.invalid. 300 SOA ns.example. host.example. 1 2 3 4 30"
    answer = ASKED.answered(alias, authority=(soa,), rcode=rcode)
    assert answer.lifetime == 30
    reply = ASKED.passed_on(answer)
    assert (lines(reply.answer), lines(reply.authority)) == ([alias], [soa.replace("300", "30")])


@pytest.mark.parametrize("rcode", [wire.SERVFAIL, wire.REFUSED, wire.FORMERR, wire.NOTIMP])
def test_a_failure_is_not_kept(rcode: int) -> None:
    assert ASKED.answered(A, rcode=rcode).lifetime == 0


# DNSSEC.


def test_signatures_and_proofs_go_to_who_asks_for_them() -> None:
    """RFC 3225 section 3, RFC 4035 section 3.2.1."""
    records = (A, f"a.example. 60 RRSIG A {SIGNATURE}", f"a.example. 60 RRSIG TXT {SIGNATURE}")
    authority = ("a.example. 60 NSEC b.example. A RRSIG NSEC", f"a.example. 60 RRSIG NSEC {SIGNATURE}")
    with_do, without = Asked(do=True), Asked()
    reply = with_do.passed_on(with_do.answered(*records, authority=authority, flags=dns.flags.AD))
    assert lines(reply.answer) == sorted(records[:2])
    assert lines(reply.authority) == sorted(authority)
    assert reply.flags & dns.flags.AD
    reply = without.passed_on(without.answered(*records, authority=authority, flags=dns.flags.AD))
    assert lines(reply.answer) == [A]
    assert not reply.authority


def test_a_negative_answer_keeps_its_proofs_for_who_asks() -> None:
    proof = "x.example. 3600 NSEC z.example. A RRSIG NSEC"
    nsec3 = "0123456789abcdefghijklmnopqrstuv.example. 3600 NSEC3 1 0 0 - 0123456789abcdefghijklmnopqrstuv A RRSIG"
    signed = (SOA, f"example. 300 RRSIG SOA {SIGNATURE}", proof, f"x.example. 3600 RRSIG NSEC {SIGNATURE}", nsec3)
    asked = Asked(do=True)
    answer = asked.answered(authority=signed, rcode=wire.NXDOMAIN)
    assert answer.lifetime == 60
    reply = asked.passed_on(answer)
    assert {(rrset.rdtype.name, rrset.ttl) for rrset in reply.authority} == {
        ("SOA", 60),
        ("RRSIG", 60),
        ("NSEC", 3600),
        ("RRSIG", 3600),
        ("NSEC3", 3600),
    }
    plain = Asked().passed_on(Asked().answered(authority=signed, rcode=wire.NXDOMAIN))
    assert lines(plain.authority) == [SOA.replace("300", "60")]


def test_signatures_that_were_asked_for_are_an_answer() -> None:
    asked = Asked(rdtype="RRSIG", do=True)
    signature = f"a.example. 60 RRSIG A {SIGNATURE}"
    assert asked.passed_on(asked.answered(signature)).answer


# What can't be read.


@pytest.mark.parametrize("form", ["as it came", "anew"])
@pytest.mark.parametrize("authority", [(), (SOA,)])
def test_an_answer_cut_anywhere_is_malformed(form: str, authority: tuple[str, ...]) -> None:
    records = () if authority else (A, "a.example. 60 A 192.0.2.2")
    response = ASKED.response(*records, authority=authority)
    whole = response.to_wire() if form == "as it came" else uncompressed(response)
    for length in range(12 + 15, len(whole)):
        with pytest.raises(MalformedAnswerError):
            ASKED.read(whole[:length])
    assert ASKED.read(whole).lifetime == 60


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"\xc0\x1b\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", id="an owner that points to itself"),
        pytest.param(b"\1x\xc0\x1b\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", id="an owner that points to its own beginning"),
        pytest.param(b"\xc0\x30\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4" + bytes(40), id="an owner that points ahead"),
        pytest.param(b"\xff\xff\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", id="an owner that points out of the message"),
        pytest.param(b"\x40x\0\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", id="an owner with a label of type 01"),
        pytest.param(b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x27", id="an alias that points to itself"),
        pytest.param(b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\4\1x\xc0\x27", id="an alias that points to its own beginning"),
        pytest.param(b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\3\xc0\x0c\0", id="an alias shorter than its record"),
        pytest.param(b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\1\1x\0", id="an alias longer than its record"),
        pytest.param(b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\0", id="an alias to nowhere"),
        pytest.param(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\5\1\2\3\4\5", id="an address of five octets"),
        pytest.param(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\0", id="an address of none"),
        pytest.param(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\xff\xff\1\2\3\4", id="data that isn't there"),
        pytest.param(b"\1a\7example\0\0\1\0\1\0\0\0\x3c\0\5\1\2\3\4\5", id="an address of five octets, uncompressed"),
        pytest.param(b"\1a\7example\0\0\5\0\1\0\0\0\x3c\0\3\xc0\x0c\0", id="a short alias, uncompressed"),
        pytest.param((b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4", id="a name over 255 octets"),
    ],
)
def test_a_record_that_lies_is_malformed(record: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        ASKED.read(HEAD + record)


def test_names_in_data_are_written_out_where_an_answer_is_taken_apart() -> None:
    """Their pointers would lead elsewhere (RFC 3597 section 4)."""
    for rdtype, data in [
        ("MX", "10 mail.a.example."),
        ("SRV", "1 2 3 srv.a.example."),
        ("NS", "ns.a.example."),
        ("PTR", "ptr.a.example."),
        ("SOA", "ns.a.example. host.a.example. 1 2 3 4 5"),
        ("RP", "box.a.example. text.a.example."),
        ("AFSDB", "1 db.a.example."),
        ("KX", "1 kx.a.example."),
        ("TXT", '"text"'),
        ("NAPTR", '100 10 "S" "SIP+D2U" "" _sip._udp.a.example.'),
    ]:
        asked = Asked(rdtype=rdtype)
        junk = "b.example. 60 A 192.0.2.9"
        reply = asked.passed_on(asked.answered(junk, f"a.example. 60 {rdtype} {data}"))
        assert lines(reply.answer) == [f"a.example. 60 {rdtype} {data}"]


def test_a_name_is_in_its_zone_and_in_those_above() -> None:
    assert rewriting.is_within("a.example", "example")
    assert rewriting.is_within("a.example", ".")
    assert rewriting.is_within("example", "example")
    assert not rewriting.is_within("notexample", "example")
