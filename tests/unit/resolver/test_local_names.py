"""The district's own records: each type, wildcards, aliases, and what stands before what."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from settings import SettingsError
from tests.unit.policy.build import Listed, block, exception
from tests.unit.resolver.bench import Bench, Clock, Make, turn
from tests.unit.resolver.messages import ede, rdata
from tests.unit.resolver.reading_answers import lines

SOA = "SOA hallmonitor.invalid. nobody.invalid. 1 3600 600 86400 600"
RECORDS = [
    "printer.district.example 120 A 10.1.2.3",
    "printer.district.example A 10.1.2.4",
    "printer.district.example AAAA fd00::3",
    'text.district.example TXT "two" "strings; and \'quotes\'"',
    "district.example MX 10 mail.district.example",
    "_ldap._tcp.district.example SRV 0 5 389 dc.district.example",
    "3.2.1.10.in-addr.arpa PTR printer.district.example",
    "www.district.example 60 CNAME printer.district.example",
    "portal.district.example CNAME Cdn.Example",
    "*.loop.district.example CNAME again.loop.district.example",
    "first.district.example CNAME www.district.example",
    "second.district.example CNAME portal.district.example",
    "help.district.example CNAME x.localhost",
]


def local(make: Make, *records: str, **parts: object) -> Bench:
    return make(document={"local": {"records": list(records or RECORDS)}}, **parts)


@pytest.mark.parametrize(
    ("name", "rdtype", "expected"),
    [
        ("printer.district.example", "A", ["120 A 10.1.2.3", "300 A 10.1.2.4"]),
        ("printer.district.example", "AAAA", ["300 AAAA fd00::3"]),
        ("text.district.example", "TXT", ['300 TXT "two" "strings; and \'quotes\'"']),
        ("district.example", "MX", ["300 MX 10 mail.district.example."]),
        ("_ldap._tcp.district.example", "SRV", ["300 SRV 0 5 389 dc.district.example."]),
        ("3.2.1.10.in-addr.arpa", "PTR", ["300 PTR printer.district.example."]),
        ("www.district.example", "CNAME", ["60 CNAME printer.district.example."]),
    ],
)
def test_a_record_is_answered(make: Make, name: str, rdtype: str, expected: list[str]) -> None:
    bench = local(make)
    for _ in range(2):
        reply = bench.reply_to(name, rdtype)
        found = [line for rrset in reply.answer for line in lines([rrset])]
        assert {line.split()[-1] for line in found} == {line.split()[-1] for line in expected}
        assert {line.partition(" ")[0] for line in found} == {f"{name}."}
        assert {line.split()[2] for line in found} == {rdtype}
        assert dns.flags.to_text(reply.flags) == "QR RD RA"
        assert (bench.decision.verdict, bench.decision.rule, bench.decision.rcode) == ("local", name, "NOERROR")
    assert not bench.network.tries


def test_letters_make_no_difference_and_are_kept(make: Make) -> None:
    reply = local(make).reply_to("PRINTER.District.example")
    assert rdata(reply) == ["10.1.2.3", "10.1.2.4"]
    assert reply.answer[0].name.to_text() == "PRINTER.District.example."


@pytest.mark.parametrize("rdtype", ["TXT", "HTTPS", "DS"])
def test_a_name_of_ours_has_no_other_types(make: Make, rdtype: str) -> None:
    """NODATA, with an SOA that says for how long (RFC 2308 section 2.2)."""
    bench = local(make)
    reply = bench.reply_to("printer.district.example", rdtype)
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert lines(reply.authority) == [f"printer.district.example. 600 {SOA}"]
    assert not bench.network.tries


async def test_names_beside_ours_are_forwarded(make: Make) -> None:
    bench = local(make)
    for name in ("example", "other.district.example", "x.printer.district.example", "notprinter.district.example"):
        assert bench.ask(name) is None
    assert len(bench.network.tries) == 4


def test_any_gets_one_set_of_records(make: Make) -> None:
    """RFC 8482 section 4.1."""
    reply = local(make).reply_to("printer.district.example", "ANY")
    assert len(reply.answer) == 1


def test_our_own_names_come_before_lists_and_rd_is_not_asked_for(make: Make) -> None:
    bench = local(make, lists=[Listed("one", "adult", [block("example")])])
    assert rdata(bench.reply_to("printer.district.example", flags=0)) == ["10.1.2.3", "10.1.2.4"]
    assert bench.decision.verdict == "local"


def test_a_stranger_learns_nothing(make: Make) -> None:
    assert local(make).reply_to("printer.district.example", client="192.0.2.1").rcode() == dns.rcode.REFUSED


# Wildcards (RFC 4592).

WILD = [
    "*.district.example A 192.0.2.1",
    "*.district.example TXT any",
    "printer.district.example A 192.0.2.2",
    "a.b.district.example A 192.0.2.3",
    "*.deep.district.example AAAA 2001:db8::1",
]


@pytest.mark.parametrize(
    ("name", "rdtype", "expected"),
    [
        ("x.district.example", "A", ["192.0.2.1"]),
        ("x.y.z.district.example", "A", ["192.0.2.1"]),
        ("X.District.Example", "TXT", ['"any"']),
        ("x.district.example", "AAAA", []),
        ("printer.district.example", "A", ["192.0.2.2"]),
        ("printer.district.example", "TXT", []),  # section 2.2.1: it is there
        ("x.deep.district.example", "AAAA", ["2001:db8::1"]),
        ("x.deep.district.example", "A", []),
        ("*.district.example", "A", ["192.0.2.1"]),
    ],
)
def test_a_wildcard_stands_for_what_is_not_there(make: Make, name: str, rdtype: str, expected: list[str]) -> None:
    bench = local(make, *WILD)
    reply = bench.reply_to(name, rdtype)
    assert rdata(reply) == expected
    assert all(rrset.name.to_text() == f"{name}." for rrset in (*reply.answer, *reply.authority))
    assert bool(reply.authority) == (not expected)


@pytest.mark.parametrize(
    "name",
    [
        "district.example",
        "x.printer.district.example",
        "x.b.district.example",
    ],
)
async def test_a_wildcard_stands_for_nothing_that_is_there_nor_below_it(make: Make, name: str) -> None:
    """RFC 4592 section 2.2.1. These are not ours: somebody else may know."""
    assert local(make, *WILD).ask(name) is None


@pytest.mark.parametrize("name", ["b.district.example", "deep.district.example"])
@pytest.mark.parametrize("rdtype", ["A", "ANY"])
def test_below_a_wildcard_a_name_above_one_of_ours_is_there_without_records(make: Make, name: str, rdtype: str) -> None:
    """RFC 4592 section 2.2.2: an empty non-terminal. Who has the wildcard has it as well, so nobody else is asked."""
    bench = local(make, *WILD)
    reply = bench.reply_to(name, rdtype)
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert lines(reply.authority) == [f"{name}. 600 {SOA}"]
    assert (bench.decision.verdict, bench.decision.rule) == ("local", name)
    assert not bench.network.tries


def test_a_wildcard_may_be_an_alias(make: Make) -> None:
    bench = local(make, "*.district.example CNAME printer.district.example", "printer.district.example A 192.0.2.2")
    reply = bench.reply_to("x.district.example")
    assert lines(reply.answer) == [
        "printer.district.example. 300 A 192.0.2.2",
        "x.district.example. 300 CNAME printer.district.example.",
    ]
    assert bench.decision.rule == "*.district.example"


# Aliases.


def test_an_alias_of_a_name_of_ours_comes_with_its_records(make: Make) -> None:
    bench = local(make)
    reply = bench.reply_to("www.district.example")
    assert rdata(reply) == ["10.1.2.3", "10.1.2.4", "printer.district.example."]
    assert reply.answer[0].to_text() == "www.district.example. 60 IN CNAME printer.district.example."
    assert isinstance(reply, dns.message.QueryMessage)
    assert reply.resolve_chaining().canonical_name.to_text() == "printer.district.example."
    assert bench.decision.verdict == "local"


def test_an_alias_of_a_name_that_has_no_such_record_is_all(make: Make) -> None:
    reply = local(make).reply_to("www.district.example", "TXT")
    assert (reply.rcode(), rdata(reply)) == (dns.rcode.NOERROR, ["printer.district.example."])


def test_an_alias_of_a_special_name_never_leaves(make: Make) -> None:
    bench = local(make)
    assert rdata(bench.reply_to("help.district.example")) == ["127.0.0.1", "x.localhost."]
    assert not bench.network.tries


async def test_an_alias_of_a_public_name_comes_with_what_upstream_says(make: Make, clock: Clock) -> None:
    bench = local(make)
    assert bench.ask("Portal.District.example", use_edns=0) is None
    assert bench.network.last.query.question[0].to_text() == "cdn.example. IN A"
    bench.network.last.answer(
        "cdn.example. 100 CNAME edge.example.", "edge.example. 50 A 192.0.2.7", flags=dns.flags.AD
    )
    await turn()
    reply = bench.sent[-1].message
    assert lines(reply.answer) == [
        "Cdn.Example. 100 CNAME edge.example.",
        "Portal.District.example. 300 CNAME Cdn.Example.",
        "edge.example. 50 A 192.0.2.7",
    ]
    assert not reply.flags & dns.flags.AD
    # It is kept under the target's own name, for whoever asks for that.
    assert rdata(bench.reply_to("cdn.example")) == ["192.0.2.7", "edge.example."]
    clock.ahead = 20.5
    again = bench.reply_to("portal.district.example")
    assert lines(again.answer)[1:] == [
        "edge.example. 30 A 192.0.2.7",
        "portal.district.example. 280 CNAME Cdn.Example.",
    ]
    assert bench.decision.cached
    assert len(bench.network.tries) == 1


def test_aliases_of_ours_are_followed_to_their_end(make: Make) -> None:
    bench = local(make)
    reply = bench.reply_to("first.district.example")
    assert isinstance(reply, dns.message.QueryMessage)
    found = reply.resolve_chaining()
    assert [cname.name.to_text() for cname in found.cnames] == ["first.district.example.", "www.district.example."]
    assert found.answer is not None
    assert sorted(item.to_text() for item in found.answer) == ["10.1.2.3", "10.1.2.4"]
    assert not bench.network.tries


async def test_aliases_of_ours_are_followed_to_a_public_name(make: Make) -> None:
    bench = local(make)
    assert bench.ask("second.district.example") is None
    assert bench.network.last.query.question[0].to_text() == "cdn.example. IN A"
    bench.network.last.answer("cdn.example. 50 A 192.0.2.7")
    await turn()
    assert lines(bench.sent[-1].message.answer) == [
        "Cdn.Example. 50 A 192.0.2.7",
        "portal.district.example. 300 CNAME Cdn.Example.",
        "second.district.example. 300 CNAME portal.district.example.",
    ]


def test_aliases_of_ours_in_a_circle_are_a_failure(make: Make) -> None:
    bench = local(make)
    assert bench.reply_to("any.loop.district.example").rcode() == dns.rcode.SERVFAIL
    assert bench.decision.verdict == "failed"
    assert not bench.network.tries


async def test_behind_an_alias_of_ours_ttls_fall_as_they_should(make: Make, clock: Clock) -> None:
    bench = local(make)
    assert bench.ask("portal.district.example") is None
    bench.network.last.answer("cdn.example. 100 CNAME edge.example.", "edge.example. 50 A 192.0.2.7")
    await turn()
    for clock.ahead in (0.3, 0.5, 1.2, 1.6, 2.5, 3.5, 10.0, 11.5):
        passed = int(clock.ahead)
        assert lines(bench.reply_to("portal.district.example").answer) == [
            f"Cdn.Example. {100 - passed} CNAME edge.example.",
            f"edge.example. {50 - passed} A 192.0.2.7",
            f"portal.district.example. {300 - passed} CNAME Cdn.Example.",
        ]
    assert len(bench.network.tries) == 1


async def test_where_a_public_name_leads_is_looked_at_behind_an_alias_too(make: Make) -> None:
    bench = local(make, lists=[Listed("one", "adult", [block("bad.example")])])
    assert bench.ask("portal.district.example", use_edns=0) is None
    bench.network.last.answer("cdn.example. 100 CNAME www.bad.example.", "www.bad.example. 50 A 192.0.2.7")
    await turn()
    assert rdata(bench.sent[-1].message) == ["0.0.0.0"]
    assert ede(bench.sent[-1].message) == (15, "adult")
    assert bench.decision.rule == "||bad.example^ by way of www.bad.example"


async def test_an_alias_of_a_name_that_is_not_there_says_so(make: Make) -> None:
    bench = local(make)
    assert bench.ask("portal.district.example") is None
    bench.network.last.answer(authority=["example. 60 SOA ns.example. host.example. 1 2 3 4 60"], rcode="NXDOMAIN")
    await turn()
    reply = bench.sent[-1].message
    assert (reply.rcode(), rdata(reply)) == (dns.rcode.NXDOMAIN, ["Cdn.Example."])


async def test_what_is_too_long_behind_an_alias_of_ours_is_a_failure(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Names that were pointers are written out there."""
    bench = local(make)
    records = [f"cdn.example. 50 MX 1 m{number}.{'x' * 60}.{'y' * 60}.example." for number in range(2000)]
    for said in ("an answer that is too long without its pointers", ""):  # that it failed is remembered, not why
        if bench.ask("portal.district.example", "MX", use_edns=0) is None:
            bench.network.last.answer(*records)
            await turn()
        reply = bench.sent[-1].message
        assert (reply.rcode(), ede(reply)) == (dns.rcode.SERVFAIL, (23, said))
        assert bench.decision.verdict == "failed"
    assert not caplog.records
    assert len(bench.network.tries) == 1


def test_records_of_ours_that_are_too_long_behind_an_alias_are_a_failure(make: Make) -> None:
    texts = [f'big.example TXT "{number}" "{"x" * 250}"' for number in range(260)]
    bench = local(make, "www.example CNAME big.example", *texts)
    assert bench.reply_to("www.example", "TXT").rcode() == dns.rcode.SERVFAIL
    assert bench.decision.verdict == "failed"


# Wrong records.


@pytest.mark.parametrize(
    "records",
    [
        ["a.example A 10.0.0.1", "a.example CNAME b.example"],
        ["a.example CNAME b.example", "A.EXAMPLE. A 10.0.0.1"],
        ["a.example CNAME b.example", "a.example CNAME c.example"],
        ["a.example A fd00::1"],
        ["a.example A 10.0.0.256"],
        ["a.example MX mail.example"],
        ["a.example SRV 1 2 x.example"],
        ["a.example NS ns.example"],
        ["a.example"],
        ["*.*.example A 10.0.0.1"],
        ["x.*.example A 10.0.0.1"],
        [f"{'x' * 64}.example A 10.0.0.1"],
    ],
)
def test_records_that_cant_be_are_told_at_the_start(make: Make, records: list[str]) -> None:
    with pytest.raises((SettingsError, ValueError)):
        local(make, *records)


def test_an_exception_that_blocks_stands_above_our_records(make: Make) -> None:
    """Lists are about other people's names; an administrator's word is about any, but for those that never leave."""
    blocked = [exception(3, "district.example", "block"), exception(4, "localhost", "block")]
    bench = local(make, exceptions=[*blocked, exception(5, "text.district.example")])
    assert rdata(bench.reply_to("printer.district.example")) == ["0.0.0.0"]
    assert bench.decision.exception_id == 3
    assert bench.reply_to("text.district.example", "TXT").answer
    assert rdata(bench.reply_to("localhost")) == ["127.0.0.1"]
