"""However an upstream writes an answer, the same is passed on of it: as it came, or taken apart and written anew."""

from itertools import pairwise
from typing import NamedTuple

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver import rewriting
from resolver.compression import MalformedAnswerError
from resolver.rewriting import Terms
from tests.unit.resolver.messages import uncompressed
from tests.unit.resolver.reading_answers import SOA, Asked, lines

DATA = {
    "A": ["192.0.2.1", "192.0.2.2", "198.51.100.3", "203.0.113.4"],
    "AAAA": ["2001:db8::1", "2001:db8::2", "64:ff9b::c000:201"],
    "TXT": ['"a"', '"b c" "d"', '"\\192\\012"'],
    "MX": ["10 mail.example.", "20 a.example.", "30 n1.a.example."],
    "HTTPS": ["1 . alpn=h2 ipv4hint=192.0.2.1", "0 n1.a.example.", "2 svc.example. port=8443 ipv6hint=2001:db8::1"],
    "SRV": ["1 2 3 n1.a.example.", "1 2 4 ."],
}
TERMS = Terms(5, 3600)


class Zone(NamedTuple):
    """What an upstream knows about a.example: aliases, and the records where they end."""

    rdtype: str
    chain: list[str]
    end: list[str]
    soa: str
    rcode: int

    def with_ttls(self, ttls: list[int]) -> list[str]:
        """Return its records with these TTLs for those of the end, and 100 for aliases."""
        links = [f"{name} 100 CNAME {target}" for name, target in pairwise(self.chain)]
        return [
            *links,
            *(f"{self.chain[-1]} {ttl} {self.rdtype} {data}" for ttl, data in zip(ttls, self.end, strict=True)),
        ]


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    rdtype = draw(st.sampled_from(sorted(DATA)))
    names = ["n1.a.example.", "b.example.", "N2.EXAMPLE.", "x.cdn.invalid.", "y.x.cdn.invalid."]
    chain = draw(st.lists(st.sampled_from(names), unique=True))
    end = draw(st.lists(st.sampled_from(DATA[rdtype]), unique=True))
    last = (chain or ["a.example."])[-1]
    soa = draw(st.sampled_from(["", last.partition(".")[2], last]))
    rcode = draw(st.sampled_from([0, 3])) if not end else 0
    return Zone(rdtype, ["a.example.", *chain], end, SOA.replace("example.", soa, 1) if soa else "", rcode)


JUNK = [
    "unrelated.example. 60 A 192.0.2.99",
    "unrelated.example. 60 CNAME other.example.",
    "a.example. 7 NULL \\# 2 c00c",
    "other.invalid. 60 AAAA 2001:db8::99",
    "elsewhere.example. 1 DNAME b.example.",
]
AUTHORITY = ["example. 60 NS ns.example.", "invalid. 60 NS a.example.", "other.example. 60 SOA . . 1 2 3 4 5"]
ADDITIONAL = ["ns.example. 60 A 192.0.2.53", "unrelated.example. 60 AAAA fd00::1"]


def passed_on(asked: Asked, data: bytes) -> tuple[object, ...]:
    """Return all that a client and the cache get of an answer."""
    answer = asked.read(data)
    reply = asked.passed_on(answer)
    # Compression knows no case (RFC 4343), so neither does the comparison; the order of a set is nobody's business.
    answers, authorities = ([line.lower() for line in lines(section)] for section in (reply.answer, reply.authority))
    return answers, authorities, reply.rcode(), answer.lifetime, set(answer.targets), answer.is_stripped


@settings(max_examples=150)
@given(data=st.data(), zone=zones())
def test_both_ways_pass_on_the_same(data: st.DataObject, zone: Zone) -> None:
    asked = Asked(rdtype=zone.rdtype, terms=TERMS)
    lowest = data.draw(st.sampled_from([0, 1, 60, 3600, 7200]), label="lowest TTL")
    authority = (zone.soa,) if zone.soa and not zone.end else ()
    usual = asked.response(*zone.with_ttls([lowest] * len(zone.end)), authority=authority, rcode=zone.rcode)
    expected = passed_on(asked, usual.to_wire())
    assert passed_on(asked, uncompressed(usual)) == expected

    higher = st.integers(lowest, 10_000)
    ttls = [lowest, *data.draw(st.lists(higher, min_size=len(zone.end), max_size=len(zone.end)))][: len(zone.end)]
    records = data.draw(st.permutations([*zone.with_ttls(ttls), *data.draw(st.lists(st.sampled_from(JUNK)))]))
    others = data.draw(st.permutations([*authority, *data.draw(st.lists(st.sampled_from(AUTHORITY)))]))
    additional = data.draw(st.lists(st.sampled_from(ADDITIONAL)))
    messy = asked.response(
        *records, authority=tuple(others), additional=tuple(additional), rcode=zone.rcode, flags=0x0420
    )
    assert passed_on(asked, uncompressed(messy) if data.draw(st.booleans()) else messy.to_wire()) == expected


@given(zone=zones(), ttl=st.integers(0, 100_000))
def test_what_is_passed_on_is_what_dnspython_finds(zone: Zone, ttl: int) -> None:
    """An independent reader follows the aliases to the same records."""
    asked = Asked(rdtype=zone.rdtype, terms=TERMS)
    response = asked.response(*zone.with_ttls([ttl] * len(zone.end)), rcode=zone.rcode)
    reply = asked.passed_on(asked.read(uncompressed(response)))
    merged = dns.message.from_wire(response.to_wire())
    assert isinstance(reply, dns.message.QueryMessage)
    assert isinstance(merged, dns.message.QueryMessage)
    ours, theirs = reply.resolve_chaining(), merged.resolve_chaining()
    assert ours.canonical_name == theirs.canonical_name
    assert ours.answer == theirs.answer
    assert ours.cnames == theirs.cnames
    if ours.answer is not None:
        assert ours.answer.ttl == min(max(ttl, 5), 3600)


@given(zone=zones(), position=st.integers(0, 400), octet=st.integers(0, 255), plain=st.booleans())
def test_a_changed_octet_makes_an_answer_or_is_malformed(zone: Zone, position: int, octet: int, plain: bool) -> None:
    asked = Asked(rdtype=zone.rdtype, terms=TERMS)
    response = asked.response(*zone.with_ttls([60] * len(zone.end)), authority=(zone.soa,) if zone.soa else ())
    data = bytearray(uncompressed(response) if plain else response.to_wire())
    behind_question = 12 + len(asked.query.question)
    if behind_question == len(data):
        return
    data[behind_question + position % (len(data) - behind_question)] = octet
    try:
        answer = asked.read(bytes(data))
    except MalformedAnswerError:
        return
    assert len(answer.ttls) == answer.answers + answer.authorities


@pytest.mark.parametrize("do", [False, True])
def test_a_long_answer_is_read_either_way(do: bool) -> None:
    """With names beyond what a pointer reaches (RFC 1035 section 4.1.4: 14 bits)."""
    asked = Asked(rdtype="TXT", do=do)
    text = " ".join(f'"{"x" * 250}"' for _ in range(70))
    records = [f"a.example. 60 TXT {text}", 'a.example. 60 TXT "y"']
    response = asked.response("unrelated.example. 60 A 192.0.2.1", *records)
    for data in (asked.response(*records).to_wire(max_size=65535), uncompressed(response)):
        assert lines(asked.passed_on(asked.read(data)).answer) == sorted(records)
    asked = Asked(do=do)
    padding = "a.example. 60 TXT " + text
    chain = ["a.example. 60 CNAME b.example.", "b.example. 60 A 192.0.2.1"]
    far = asked.response(padding, *chain)
    assert lines(asked.passed_on(asked.read(uncompressed(far))).answer) == chain


def test_an_alias_of_our_own_stands_before_its_targets_answer() -> None:
    """A local CNAME that leads to a public name, whose answer comes from upstream."""
    asked, target = Asked("www.district.example"), Asked("a.example")
    alias = asked.read(asked.response("www.district.example. 600 CNAME a.example.").to_wire())
    records = ["a.example. 60 CNAME b.example.", "b.example. 30 A 192.0.2.1"]
    found = target.answered(*records, authority=("example. 60 NS ns.example.",), flags=0x20)
    whole = rewriting.behind(alias, found, asked.query.folded[:-4], target.query.folded[:-4])
    reply = asked.passed_on(whole)
    assert lines(reply.answer) == sorted(["www.district.example. 600 CNAME a.example.", *records])
    assert not whole.ad
    assert reply.resolve_chaining().answer is not None  # type: ignore[attr-defined] # a query's
