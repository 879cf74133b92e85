"""Aliases that lead on: what an upstream or a record of ours leaves open is asked for, by its own way."""

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import wire
from resolver.rewriting import LONGEST_CHAIN
from resolver.transports import UDP
from tests.unit.policy.build import Listed, block, exception
from tests.unit.resolver.bench import ONE_UPSTREAM, Bench, Clock, Make, turn
from tests.unit.resolver.messages import ede, rdata
from tests.unit.resolver.reading_answers import lines

ZONE = "ad.example"
AD, PUBLIC = "udp://192.0.2.60", "udp://192.0.2.53"
WIKI = "wiki.ad.example. 300 CNAME site.example."
OPEN = "a.example. 300 CNAME site.example."
SITE = "site.example. 60 A 192.0.2.7"
SOA = "example. 60 SOA ns.example. host.example. 1 2 3 4 60"


def zoned(make: Make, *records: str, **parts: object) -> Bench:
    """Return an engine that has a zone with a server of its own, and these records."""
    document = {"upstream": ONE_UPSTREAM | {"zones": {ZONE: [AD]}}, "local": {"records": list(records)}}
    document |= {key: parts.pop(key) for key in ("filter", "limits") if key in parts}
    return make(document=document, **parts)


def asked(bench: Bench) -> list[tuple[str, str]]:
    """Return who was asked for what."""
    return [(attempt.server.name, attempt.exchange.name) for attempt in bench.network.tries]


async def led(bench: Bench, name: str, *answers: tuple[str, ...], **options: Any) -> dns.message.Message:
    """Ask for a name, answer each question that follows with its records, and return the reply."""
    assert bench.ask(name, **options) is None
    for records in answers:
        assert not bench.sent
        bench.network.last.answer(*records, flags=dns.flags.AD)
        await turn()
    (sent,) = bench.sent
    return sent.message


async def test_an_alias_out_of_a_zone_is_followed_outside(make: Make) -> None:
    """RFC 1034 section 5.3.3 step 4c: the search goes on at the new name, which has other servers."""
    bench = zoned(make)
    reply = await led(bench, "Wiki.ad.example", (WIKI,), (SITE,), use_edns=0, flags=0x0120)
    assert asked(bench) == [(AD, "wiki.ad.example"), (PUBLIC, "site.example")]
    assert lines(reply.answer) == ["Wiki.ad.example. 300 CNAME site.example.", SITE]
    assert not reply.flags & dns.flags.AD  # nobody vouches for the whole
    (record,) = bench.records
    assert (record.decision.verdict, record.decision.rcode) == ("allowed", "NOERROR")
    assert (record.decision.upstream, record.decision.cached) == (AD, False)


async def test_an_alias_into_a_zone_is_followed_inside(make: Make) -> None:
    bench = zoned(make)
    reply = await led(bench, "a.example", ("a.example. 9 CNAME dc.ad.example.",), ("dc.ad.example. 9 A 192.0.2.8",))
    assert asked(bench) == [(PUBLIC, "a.example"), (AD, "dc.ad.example")]
    assert rdata(reply) == ["192.0.2.8", "dc.ad.example."]


async def test_an_alias_of_a_public_name_is_followed_to_another(make: Make) -> None:
    bench = zoned(make)
    reply = await led(
        bench,
        "a.example",
        ("a.example. 9 CNAME b.example.", "b.example. 9 CNAME c.example."),
        ("c.example. 9 CNAME d.example.",),
        ("d.example. 9 A 192.0.2.8",),
    )
    assert [name for _, name in asked(bench)] == ["a.example", "c.example", "d.example"]
    assert isinstance(reply, dns.message.QueryMessage)
    assert reply.resolve_chaining().canonical_name.to_text() == "d.example."
    assert len(bench.records) == 1


async def test_the_whole_is_cached_and_counts_down(make: Make, clock: Clock) -> None:
    bench = zoned(make)
    await led(bench, "wiki.ad.example", (WIKI,), (SITE,))
    for clock.ahead in (0.5, 1.5, 30.5):
        reply = bench.reply_to("wiki.ad.example")
        passed = int(clock.ahead)
        assert lines(reply.answer) == [
            f"site.example. {60 - passed} A 192.0.2.7",
            f"wiki.ad.example. {300 - passed} CNAME site.example.",
        ]
    assert len(bench.network.tries) == 2


async def test_the_target_is_cached_by_itself(make: Make) -> None:
    bench = zoned(make)
    await led(bench, "a.example", (OPEN,), (SITE,))
    assert rdata(bench.reply_to("site.example")) == ["192.0.2.7"]
    assert len(bench.network.tries) == 2


async def test_what_is_cached_of_the_target_is_used(make: Make, clock: Clock) -> None:
    bench = zoned(make)
    await bench.resolved(SITE, name="site.example")
    clock.ahead = 20.5
    bench.sent.clear()
    reply = await led(bench, "a.example", (OPEN,))
    assert lines(reply.answer)[1] == "site.example. 40 A 192.0.2.7"
    assert len(bench.network.tries) == 2


async def test_who_asks_for_the_target_shares_the_exchange(make: Make) -> None:
    bench = zoned(make)
    bench.ask("a.example")
    bench.ask("a.example", client="10.0.0.2")
    bench.network.last.answer(OPEN)
    bench.ask("site.example", client="10.0.0.3")
    bench.network.last.answer(SITE)
    await turn()
    assert len(bench.network.tries) == 2
    assert [rdata(sent.message) for sent in bench.sent] == [["192.0.2.7"], *[["192.0.2.7", "site.example."]] * 2]
    assert len(bench.records) == 3


async def test_dnssec_is_asked_for_on_the_whole_way(make: Make) -> None:
    bench = zoned(make)
    signed = "5 2 300 20300101000000 20200101000000 1 ad.example. AAAA"
    reply = await led(
        bench,
        "wiki.ad.example",
        (WIKI, f"wiki.ad.example. 300 RRSIG CNAME {signed}"),
        (SITE, "site.example. 60 RRSIG A 5 2 60 20300101000000 20200101000000 1 example. AAAA"),
        want_dnssec=True,
    )
    assert all(attempt.query.ednsflags & dns.flags.DO for attempt in bench.network.tries)
    assert sorted(rrset.to_text().split()[3] for rrset in reply.answer) == ["A", "CNAME", "RRSIG", "RRSIG"]
    assert not reply.flags & dns.flags.AD


@pytest.mark.parametrize(("rcode", "data"), [("NXDOMAIN", ["site.example."]), ("NOERROR", ["site.example."])])
async def test_a_target_that_has_nothing_says_so(make: Make, rcode: str, data: list[str]) -> None:
    bench = zoned(make)
    bench.ask("wiki.ad.example")
    bench.network.last.answer(WIKI)
    bench.network.last.answer(authority=[SOA], rcode=rcode)
    await turn()
    reply = bench.sent[-1].message
    assert (dns.rcode.to_text(reply.rcode()), rdata(reply)) == (rcode, data)
    assert lines(reply.authority) == [SOA]
    assert bench.reply_to("wiki.ad.example").rcode() == reply.rcode()
    assert len(bench.network.tries) == 2


async def test_a_target_of_which_nobody_says_anything_is_the_end(make: Make) -> None:
    bench = zoned(make)
    reply = await led(bench, "wiki.ad.example", (WIKI,), ())
    assert (reply.rcode(), rdata(reply)) == (dns.rcode.NOERROR, ["site.example."])


@pytest.mark.parametrize("rdtype", ["A", "HTTPS", "CNAME"])
async def test_an_answer_that_is_whole_leads_nowhere(make: Make, rdtype: str) -> None:
    """Though it may not be kept."""
    answer = {"A": SITE, "HTTPS": "a.example. 0 HTTPS 1 svc.example. alpn=h2", "CNAME": "a.example. 0 CNAME b.example."}
    bench = zoned(make)
    records = ("a.example. 0 CNAME site.example.", SITE) if rdtype == "A" else (answer[rdtype],)
    await led(bench, "a.example", records, rdtype=rdtype)
    assert len(bench.network.tries) == 1


async def test_aliases_in_a_circle_are_a_failure(make: Make) -> None:
    bench = zoned(make)
    back = ("b.example. 9 CNAME a.example.",)
    reply = await led(bench, "a.example", ("a.example. 9 CNAME b.example.",), back, use_edns=0)
    assert (reply.rcode(), ede(reply)) == (dns.rcode.SERVFAIL, (23, "aliases in a circle"))
    assert [record.decision.verdict for record in bench.records] == ["failed"]
    assert bench.reply_to().rcode() == dns.rcode.SERVFAIL  # remembered: RFC 9520
    assert len(bench.network.tries) == 2


async def test_so_are_aliases_without_an_end(make: Make) -> None:
    bench = zoned(make)
    bench.ask("n0.example")
    for number in range(LONGEST_CHAIN + 1):
        assert not bench.sent
        bench.network.last.answer(f"n{number}.example. 9 CNAME n{number + 1}.example.")
        await turn()
    assert bench.sent[-1].message.rcode() == dns.rcode.SERVFAIL
    assert len(bench.records) == 1


async def test_a_target_that_nobody_knows_is_a_failure(make: Make) -> None:
    bench = zoned(make)
    bench.ask("wiki.ad.example", use_edns=0)
    bench.network.last.answer(WIKI)
    for _ in range(2):
        bench.network.last.answer(rcode="REFUSED")
    await turn()
    reply = bench.sent[-1].message
    assert (reply.rcode(), ede(reply)) == (dns.rcode.SERVFAIL, (22, "the upstream said REFUSED"))
    (record,) = bench.records
    assert (record.decision.verdict, record.decision.upstream) == ("failed", AD)
    clients = bench.engine.clients.by_transport[UDP].young.values()
    assert [client.allowance.in_flight for client in clients] == [0]


async def test_what_was_known_is_given_while_the_target_takes_long(make: Make, clock: Clock) -> None:
    """RFC 8767 section 5, to each who waits for it."""
    bench = zoned(make)
    await led(bench, "wiki.ad.example", (WIKI,), (SITE,))
    bench.sent.clear()
    await clock.turn_to(100)
    bench.ask("wiki.ad.example")
    bench.network.last.answer(WIKI)
    await clock.turn_to(102)
    assert lines(bench.sent[-1].message.answer) == [
        "site.example. 30 A 192.0.2.7",
        "wiki.ad.example. 30 CNAME site.example.",
    ]
    assert len(bench.sent) == 1
    bench.ask("wiki.ad.example", client="10.0.0.2")
    bench.network.tries[-1].answer(WIKI)  # the zone's server again; the target is under way, and known to take long
    await turn()
    assert len(bench.sent) == 2
    assert len(bench.records) == 3


async def test_a_bug_costs_those_who_wait_for_the_chain_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("a bug")

    bench = zoned(make)
    bench.ask()
    bench.network.last.answer(OPEN)
    bench.ask("site.example")
    monkeypatch.setattr("resolver.rewriting.behind", failing)
    bench.network.last.answer(SITE)
    await turn()
    assert [sent.message.rcode() for sent in bench.sent] == [dns.rcode.NOERROR, dns.rcode.SERVFAIL]
    assert caplog.text.count("RuntimeError: a bug") == 1


# What is ours.


async def test_a_target_of_ours_is_answered_from_here(make: Make) -> None:
    bench = zoned(make, "site.example A 198.51.100.1")
    reply = await led(bench, "wiki.ad.example", (WIKI,))
    assert rdata(reply) == ["198.51.100.1", "site.example."]
    assert bench.decision.upstream == AD


async def test_a_public_name_that_leads_to_ours_gets_no_private_address(make: Make) -> None:
    bench = zoned(make, "printer.example A 10.1.2.3")
    for target in ("printer.example.", "localhost."):
        bench.sent.clear()
        name = f"{target[0]}.public.example"
        reply = await led(bench, name, (f"{name}. 9 CNAME {target}",), use_edns=0)
        assert (rdata(reply), ede(reply)) == ([target], (15, "private address"))
        assert bench.decision.rule == "private address"


async def test_nor_one_that_leads_into_a_zone(make: Make) -> None:
    bench = zoned(make)
    inside = ("dc.ad.example. 9 A 10.1.2.3",)
    reply = await led(bench, "a.example", ("a.example. 9 CNAME dc.ad.example.",), inside)
    assert rdata(reply) == ["dc.ad.example."]
    assert rdata(bench.reply_to("dc.ad.example")) == ["10.1.2.3"]


async def test_a_name_that_may_have_private_addresses_has_them_elsewhere_too(make: Make) -> None:
    """The zone that counts is that of the name that was asked; others that lead there get none."""
    bench = zoned(make, "priv.d.example CNAME host.example", filter={"private_zones": ["d.example"]})
    hidden = ("host.example. 9 A 10.1.2.3",)
    assert rdata(await led(bench, "priv.d.example", hidden)) == ["10.1.2.3", "host.example."]
    bench.sent.clear()
    assert rdata(await led(bench, "host.example", hidden)) == []
    bench.sent.clear()
    open_ended = ("x.d.example. 9 CNAME host.example.",)
    assert rdata(await led(bench, "x.d.example", open_ended)) == ["10.1.2.3", "host.example."]
    assert bench.decision.verdict == "allowed"


async def test_an_alias_of_ours_into_a_zone_has_what_the_zone_has(make: Make) -> None:
    bench = zoned(make, "portal.example CNAME dc.ad.example")
    reply = await led(bench, "portal.example", ("dc.ad.example. 9 A 10.1.2.3",))
    assert rdata(reply) == ["10.1.2.3", "dc.ad.example."]
    assert rdata(bench.reply_to("dc.ad.example")) == ["10.1.2.3"]
    assert asked(bench) == [(AD, "dc.ad.example")]


async def test_what_was_taken_out_of_the_target_is_told(make: Make) -> None:
    bench = zoned(make, "portal.example CNAME host.example")
    reply = await led(bench, "portal.example", ("host.example. 9 A 10.1.2.3",), use_edns=0)
    assert (rdata(reply), ede(reply)) == (["host.example."], (15, "private address"))
    assert bench.reply_to("portal.example").rcode() == dns.rcode.NOERROR
    assert bench.decision.verdict == "blocked"
    assert len(bench.network.tries) == 1


# The policy.


async def test_each_target_is_decided_for_each_client(make: Make) -> None:
    bench = zoned(
        make,
        lists=[Listed("s", "gambling", [block("site.example")])],
        networks={"10.1.0.0/16": "staff"},
    )
    bench.ask("wiki.ad.example")
    bench.ask("wiki.ad.example", client="10.1.0.1")
    bench.network.last.answer(WIKI)
    bench.network.last.answer(SITE)
    await turn()
    assert [rdata(sent.message) for sent in bench.sent] == [["0.0.0.0"], ["192.0.2.7", "site.example."]]
    rules = [(record.decision.verdict, record.decision.rule) for record in bench.records]
    assert rules == [("blocked", "||site.example^ by way of site.example"), ("allowed", "")]
    assert {record.decision.upstream for record in bench.records} == {AD}


async def test_lists_are_about_other_peoples_names(make: Make) -> None:
    """Not of zones with servers of their own, nor of owners of our aliases; wherever they stand in a chain."""
    lists = [Listed("s", "gambling", [block("ad.example"), block("portal.example")])]
    bench = zoned(make, "portal.example CNAME wiki.ad.example", lists=lists)
    reply = await led(bench, "portal.example", (WIKI,), (SITE,))
    assert rdata(reply) == ["192.0.2.7", "site.example.", "wiki.ad.example."]
    assert (bench.decision.verdict, bench.decision.rule) == ("allowed", "")
    bench.sent.clear()
    assert rdata(await led(bench, "dc.ad.example", ("dc.ad.example. 9 A 10.1.2.3",))) == ["10.1.2.3"]


@pytest.mark.parametrize("name", ["portal.example", "printer.example", "dc.ad.example", "x.wild.example"])
async def test_an_administrators_own_word_is(make: Make, name: str) -> None:
    records = ["portal.example CNAME site.example", "printer.example A 10.1.2.3", "*.wild.example A 10.1.2.3"]
    bench = zoned(make, *records, exceptions=[exception(5, name, "block")])
    reply = bench.reply_to(name, use_edns=0)
    assert (rdata(reply), ede(reply)) == (["0.0.0.0"], (15, "exception"))
    assert (bench.decision.verdict, bench.decision.exception_id) == ("blocked", 5)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6))
def test_a_name_as_text_is_the_same_octets_again(labels: list[bytes]) -> None:
    octets = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    name, _ = wire.read_name(octets, 0)
    assert wire.name_octets(name) == octets.lower()
