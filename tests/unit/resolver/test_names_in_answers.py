"""Names in upstreams' answers: their pointers lead to what stays, end where their record ends, and cost little."""

import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from types import FrameType
from typing import Any

import dns.message
import pytest

from resolver import answers, replies, wire
from resolver.compression import MalformedAnswerError
from tests.unit.resolver.messages import octets, parsed, uncompressed
from tests.unit.resolver.reading_answers import SOA, Asked, lines

START = 12 + 15
"""Where the records are, behind the header and a.example's question."""
IN_RECORD = 12
"""Where a record's data is, behind an owner that is a pointer."""
CNAME, MX, SOA_TYPE, TXT, DNAME, RRSIG = 5, 15, 6, 16, 39, 46
NUMBERS = struct.pack(">5I", 1, 2, 3, 4, 60)


def record(rtype: int, data: bytes, owner: bytes = b"\xc0\x0c", ttl: int = 60, rclass: int = 1) -> bytes:
    return owner + struct.pack(">HHIH", rtype, rclass, ttl, len(data)) + data


def message(*records: bytes, authority: tuple[bytes, ...] = (), qtype: int = 1, rcode: int = 0) -> bytes:
    head = struct.pack(">6H", 0x1234, 0x8180 | rcode, 1, len(records), len(authority), 0)
    return head + octets(b"a", b"example", qtype=qtype)[12:] + b"".join((*records, *authority))


def pointer(place: int) -> bytes:
    return struct.pack(">H", 0xC000 | place)


# What they cost.


def lines_run(call: Callable[[], object]) -> int:
    """Return how many lines of Python a call runs."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def chain_of_pointers(length: int) -> tuple[bytes, int]:
    """Return a record whose data is a name and pointers, each to the one before, and where the last of them is."""
    begin = START + 1 + 10
    places = [begin, *(begin + 1 + 2 * number for number in range(length))]
    return record(TXT, b"\0" + b"".join(map(pointer, places[:-1])), owner=b"\0"), places[-1]


LONG = b"\1a" * 126 + b"\0"
TANGLED = b"\1\1" * 126 + b"\0"
"""Wherever one begins to read, it is a name, and all of them have most of their labels in common."""
HOPS, LAST_HOP = chain_of_pointers(1000)
JUNK = record(1, b"1234", owner=b"\0")
COSTLY = {
    "owners at the end of a chain of pointers": [HOPS, *[record(2, pointer(LAST_HOP), pointer(LAST_HOP))] * 300],
    "names at the end of one": [HOPS, *[record(MX, b"\0\1" + pointer(LAST_HOP))] * 300],
    "owners of 126 labels": [
        record(TXT, LONG, owner=b"\0"),
        *[record(2, pointer(START + 11), pointer(START + 11))] * 300,
    ],
    "names in a tangle": [
        record(TXT, TANGLED, owner=b"\0"),
        *(record(14, pointer(START + 11 + n) + pointer(START + 12 + n), owner=b"\0") for n in range(250)),
    ],
    "names of 126 labels": [record(2, LONG), *[record(2, pointer(START + IN_RECORD))] * 300],
    "many aliases": [*[record(CNAME, b"\1b" + LONG[3:], ttl=n) for n in range(100)], JUNK],
    "many DNAMEs' signatures on a long way": [
        *(
            record(CNAME, bytes([1, ord("a") + n + 1]) + b"\xc0\x0e", bytes([1, ord("a") + n]) + b"\xc0\x0e")
            for n in range(16)
        ),
        *[record(RRSIG, struct.pack(">H", DNAME) + bytes(16) + b"\0", owner=b"\xc0\x0e", ttl=n) for n in range(300)],
    ],
}


@pytest.mark.parametrize("records", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("qtype", ["A", "NS", "MX"])
def test_what_an_answer_costs_is_bounded_by_its_length(records: list[bytes], qtype: str) -> None:
    asked = Asked(rdtype=qtype, do=True)
    data = message(*records, qtype=int(asked.query.qtype))

    def read() -> None:
        with suppress(MalformedAnswerError):
            asked.read(data)

    assert lines_run(read) < 15 * len(data)


def test_a_name_may_be_at_the_end_of_pointers() -> None:
    """Written out it is a name like any other."""
    asked = Asked(rdtype="NS")
    reply = asked.passed_on(asked.read(message(HOPS, record(2, b"\2ns" + pointer(LAST_HOP)), qtype=2)))
    assert lines(reply.answer) == ["a.example. 60 NS ns."]


# Where they lead.

INTO_TTL = pointer(START + 7)
LEADING = [
    pytest.param(MX, b"\0\1" + INTO_TTL, id="an MX into its own TTL"),
    pytest.param(2, INTO_TTL, id="an NS into its own TTL"),
    pytest.param(2, b"\2ns" + INTO_TTL, id="the end of an NS into its own TTL"),
    pytest.param(12, INTO_TTL, id="a PTR into its own TTL"),
    pytest.param(33, bytes(6) + INTO_TTL, id="an SRV into its own TTL"),
    pytest.param(35, b"\0\1\0\1\1S\0\0" + INTO_TTL, id="a NAPTR into its own TTL"),
    pytest.param(2, pointer(START - 4), id="an NS to the question's type"),
]


def texts(reply: dns.message.Message) -> list[tuple[str, ...]]:
    """Return what a reply says, TTLs left out."""
    return [(str(s.name), s.rdtype.name, *sorted(map(str, s))) for s in (*reply.answer, *reply.authority)]


@pytest.mark.parametrize(("rtype", "data"), LEADING)
@pytest.mark.parametrize(("ttl", "place"), [(0x00015100, 7), (0x01610000, 6), (100, 6)])
def test_a_name_is_the_same_however_old_the_answer_is(rtype: int, data: bytes, ttl: int, place: int) -> None:
    """A pointer may lead to a TTL, which is counted down, or brought within bounds: 0 1 Q 0 is a name, so is 1 a 0."""
    data = data.replace(INTO_TTL, pointer(START + place))
    asked = Asked(rdtype=f"TYPE{rtype}")
    answer = asked.read(message(record(rtype, data, ttl=ttl), record(rtype, data, ttl=ttl), qtype=rtype))
    written = replies.write_reply(asked.query, answer, b"")
    theirs = dns.message.from_wire(message(record(rtype, data, ttl=ttl), qtype=rtype))
    assert texts(parsed(written)) == texts(theirs)
    for seconds in (1, 0x5100, 10**6):
        aged = answer._replace(body=answers.aged(answer.body, answer.ttls, seconds))
        assert texts(asked.passed_on(aged)) == texts(theirs)


def test_an_alias_is_the_same_however_old_the_answer_is() -> None:
    alias = record(CNAME, b"\4bbbb\7example\0", ttl=0x00015100)
    further = record(CNAME, pointer(START + 7), owner=pointer(START + IN_RECORD))
    last = record(1, bytes([192, 0, 2, 1]), owner=pointer(START + len(alias) + IN_RECORD))
    asked = Asked()
    answer = asked.read(message(alias, further, last))
    assert answer.targets[1] == "q"
    aged = answer._replace(body=answers.aged(answer.body, answer.ttls, 1))
    assert texts(asked.passed_on(aged)) == texts(asked.passed_on(answer))


def test_an_soa_is_the_same_when_its_ttl_is_made_shorter() -> None:
    soa = record(SOA_TYPE, pointer(START + 6) + b"\4host\xc0\x0e" + NUMBERS, owner=b"\xc0\x0e", ttl=0x01510000)
    asked = Asked()
    answer = asked.read(message(authority=(soa,)))
    assert answer.lifetime == 60
    assert texts(asked.passed_on(answer))[0][2].startswith("Q. host.example.")


@pytest.mark.parametrize(
    ("rdtype", "records"),
    [
        ("MX", ["10 mx.a.example.", "20 alt1.mx.a.example.", "30 mx.mail.invalid.", "40 b.mail.invalid."]),
        ("NS", ["ns1.example.", "ns2.example.", "a.example."]),
        ("SRV", ["1 2 3 a.example.", "1 2 4 x.a.example."]),
        ("PTR", ["host.invalid.", "b.host.invalid.", "."]),
        ("SOA", ["ns.a.example. host.example. 1 2 3 4 5"]),
    ],
)
def test_usual_pointers_are_passed_on_as_they_came(
    rdtype: str, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the question's name, and to names in the data before."""
    monkeypatch.setattr(answers, "written_anew", None)
    asked = Asked(rdtype=rdtype)
    response = asked.response(*(f"a.example. 60 {rdtype} {data}" for data in records))
    answer = asked.read(response.to_wire())
    assert lines(asked.passed_on(answer).answer) == lines(response.answer)
    assert answer.body == response.to_wire()[START:]


# Where they end.

TAILED = [
    *((rtype, b"\1x\0") for rtype in (2, 3, 4, 7, 8, 9, 12, DNAME)),
    *((rtype, b"\0\1\1x\0") for rtype in (MX, 18, 21, 36)),
    *((rtype, b"\1x\0\1y\0") for rtype in (14, 17)),
    (26, b"\0\1\1x\0\1y\0"),
    (33, bytes(6) + b"\1x\0"),
    (35, b"\0\1\0\1\1S\0\0\1x\0"),
    (SOA_TYPE, b"\1x\0\1y\0" + NUMBERS),
]


@pytest.mark.parametrize(("rtype", "data"), TAILED)
@pytest.mark.parametrize("owner", [b"\xc0\x0c", b"\1a\7example\0"])
@pytest.mark.parametrize("change", [b"zz", b"\0", None])
def test_data_that_doesnt_end_with_its_names_is_malformed(
    rtype: int, data: bytes, owner: bytes, change: bytes | None
) -> None:
    asked = Asked(rdtype=f"TYPE{rtype}")
    assert asked.read(message(record(rtype, data, owner), qtype=rtype)).answers == 1
    wrong = data[:-1] if change is None else data + change
    with pytest.raises(MalformedAnswerError):
        asked.read(message(record(rtype, wrong, owner), record(rtype, data, owner), qtype=rtype))


def test_what_is_behind_the_name_of_a_proof_stays() -> None:
    """RFC 4034 section 4.1; its name must not be compressed (section 4.1.1), and where it is, it is written out."""
    asked = Asked(rdtype="NSEC")
    reply = asked.passed_on(asked.read(message(record(47, b"\1b\xc0\x0e\0\1\x40", b"\1a\7example\0"), qtype=47)))
    assert lines(reply.answer) == ["a.example. 60 NSEC b.example. A"]


def test_an_answer_that_is_too_long_without_pointers_is_malformed() -> None:
    """What is written out may be many times as long, and longer than any message (RFC 1035 section 4.2.2)."""
    long = (b"\x3c" + b"x" * 60) * 4 + b"\0"
    records = [record(MX, b"\0\1" + long), *[record(MX, b"\0\2" + pointer(START + IN_RECORD + 2))] * 300]
    asked = Asked(rdtype="MX")
    assert asked.read(message(*records, qtype=MX)).answers == 301
    distinct = [r[:-4] + struct.pack(">H", n) + r[-2:] for n, r in enumerate(records[1:])]
    with pytest.raises(MalformedAnswerError):
        asked.read(message(records[0], *distinct, JUNK, qtype=MX))


# An SOA.


@pytest.mark.parametrize(
    "soa",
    [
        pytest.param(record(SOA_TYPE, b"\xc0\xf0\xc0\xf1" + NUMBERS, b"\xc0\x0e"), id="names that lead nowhere"),
        pytest.param(record(SOA_TYPE, b"\xff\xff\xff\xff" + NUMBERS, b"\xc0\x0e"), id="names out of the message"),
        pytest.param(record(SOA_TYPE, b"\x7fzz\x80" + NUMBERS, b"\xc0\x0e"), id="unknown kinds of labels"),
        pytest.param(record(SOA_TYPE, b"\0\0" + NUMBERS + b"x", b"\xc0\x0e"), id="an octet too many"),
        pytest.param(record(SOA_TYPE, b"\0" + NUMBERS, b"\xc0\x0e"), id="one name"),
        pytest.param(record(SOA_TYPE, b"\0\0" + NUMBERS, b"\xc0\x0e", rclass=3), id="another class"),
        pytest.param(record(SOA_TYPE, b"\0\0" + NUMBERS, b"\xc0\x0e", rclass=255), id="any class"),
    ],
)
@pytest.mark.parametrize("rcode", [wire.NOERROR, wire.NXDOMAIN])
def test_an_soa_that_lies_is_malformed(soa: bytes, rcode: int) -> None:
    """RFC 1035 section 3.3.13."""
    with pytest.raises(MalformedAnswerError):
        Asked().read(message(authority=(soa,), rcode=rcode))


# How much room they take.


def test_owners_take_two_octets_where_they_stand_already() -> None:
    """So that what is written anew isn't truncated for it."""
    names = ["a.example.", *(f"{'x' * 50}{number}.{'y' * 60}.invalid." for number in range(8))]
    chain = [f"{one} 60 CNAME {other}" for one, other in pairwise(names)]
    end = [f"{names[-1]} 60 A 192.0.2.{number}" for number in range(1, 4)]
    asked = Asked()
    response = asked.response(*end, *reversed(chain))
    answer = asked.read(uncompressed(response))
    assert lines(asked.passed_on(answer).answer) == lines(response.answer)
    assert len(answer.body) == sum(12 + len(name) + 1 for name in names[1:]) + 3 * 16
    assert len(answer.body) < len(uncompressed(response)) / 1.5
    again = asked.read(b"\0\0" + replies.write_reply(asked.query, answer, b""))
    assert again == answer  # as it came


def test_so_do_proofs() -> None:
    signature = "8 2 300 20300101000000 20200101000000 1234 example. AAAA"
    owner = "0123456789abcdefghijklmnopqrstuv.example."
    proofs = [
        SOA.replace("300", "60"),
        f"example. 60 RRSIG SOA {signature}",
        f"{owner} 60 NSEC3 1 0 0 - 0123456789abcdefghijklmnopqrstuv A RRSIG",
        f"{owner} 60 RRSIG NSEC3 {signature}",
    ]
    asked = Asked(do=True)
    answer = asked.answered(authority=tuple(proofs), rcode=wire.NXDOMAIN)
    assert lines(asked.passed_on(answer).authority) == sorted(proofs)
    assert answer.body.count(b"\7example\0\0\x32") == 1  # as an owner
    assert answer.body.count(b"\7example\0\0\x2e") == 0
